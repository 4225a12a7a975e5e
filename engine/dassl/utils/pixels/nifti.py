"""NIfTI volumes, by nibabel where it is installed: one slice of the first volume."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from dassl.utils.pixels.scaling import scaled
from dassl.utils.pixels.settings import MIDDLE, PixelSettings, Refusal, say_once

SUFFIXES = (".nii", ".nii.gz")
HEADER = 352  # bytes of a file's head that tell its kind
MAGICS = ((344, b"n+1\0"), (4, b"n+2\0"))


def is_nifti(path: str, head: bytes) -> bool:
    """By content, or by name."""
    return any(head[at : at + 4] == magic for at, magic in MAGICS) or str(path).lower().endswith(SUFFIXES)


def reading(path: str, settings: PixelSettings) -> str:
    """What beside its contents decides the pixels."""
    return f"NIfTI, slice {settings.slice}, window {settings.window}"


def kind(path: str, settings: PixelSettings) -> str:
    """The format."""
    return "NIfTI"


def read(path: str, settings: PixelSettings) -> Image.Image:
    """The slice of INPUT.SLICE along the third axis as 8-bit RGB: rows are the first axis of the array, nothing is turned."""
    volume = _opened(path)
    shape = volume.shape
    if len(shape) < 2:
        raise Refusal(f"it is a NIfTI file of shape {shape}, not an image or a volume")
    settings.check_size(shape[1], shape[0])
    if np.prod(shape[3:]) > 1:
        say_once("NIfTI with more than three axes", "the first volume is read, the others are not")
    place = _place(shape, settings.slice)
    try:
        values = np.asarray(volume.dataobj[place])
    except MemoryError:
        raise
    except Exception:  # zlib's, gzip's, nibabel's own and OSError
        raise Refusal("its data are cut short or broken") from None
    if values.dtype.names:  # RGB, RGBA
        values = np.stack([values[name] for name in values.dtype.names[:3]], axis=-1)
    if values.dtype.kind not in "biuf":
        raise Refusal(f"its values are of a type ({values.dtype}) that is no image's")
    eight = values if values.dtype == np.uint8 else scaled(values, settings.window)
    return Image.fromarray(np.ascontiguousarray(eight)).convert("RGB")


def _opened(path: str) -> Any:
    try:
        from nibabel import Nifti1Image, Nifti2Image
    except ImportError:
        raise Refusal("NIfTI files are read by nibabel, which is not installed: pip install nibabel") from None
    for kind in (Nifti1Image, Nifti2Image):
        try:
            return kind.from_filename(path)
        except Exception:  # whatever a broken header makes nibabel stumble over; its words may quote the header
            continue
    raise Refusal("it is no NIfTI file, or its header is broken")


def _place(shape: tuple[int, ...], wanted: int) -> tuple[Any, ...]:
    """The index of the slice."""
    if len(shape) == 2:
        if wanted > 0:
            raise Refusal(f"INPUT.SLICE is {wanted}, but it is a single image")
        return (slice(None), slice(None))
    if wanted >= shape[2]:
        raise Refusal(f"INPUT.SLICE is {wanted}, but it has {shape[2]} slices (0 to {shape[2] - 1})")
    number = shape[2] // 2 if wanted == MIDDLE else wanted
    return (slice(None), slice(None), number, *(0 for _ in shape[3:]))
