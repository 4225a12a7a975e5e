"""The way in: which reader a file needs, and one kind of error for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from PIL import Image

from dassl.utils.pixels import dicom, nifti, pillow
from dassl.utils.pixels.settings import PixelSettings, Refusal, UnreadableImage
from dassl.utils.places import regular

# What is an image where a folder is searched; in lower case. A file that is named is read whatever its name ends with.
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".dcm", ".dicom", ".nii", ".nii.gz",
)  # fmt: skip


def read_image(path: str, settings: PixelSettings | None = None) -> Image.Image:
    """Decode an image file as 8-bit RGB, (W, H) with values 0..255; docs/DATASETS.md has the rules for each kind.

    Args:
        settings: how; by default those of the config's defaults.

    Raises:
        UnreadableImage: an OSError of one line that names the file: it is missing, broken, no image, too large, or needs a
            package that is not installed.
    """
    settings = settings or PixelSettings()
    with _named(path):
        return _reader(path).read(str(path), settings)


def reading(path: str, settings: PixelSettings) -> str:
    """What decides the pixels of this file beside its contents.

    Empty for a file that is read as Pillow's ``convert("RGB")`` reads it: what was derived from its pixels before there were
    any settings still holds. A file that cannot be read has nothing to be decided.
    """
    try:
        with _named(path):
            return _reader(path).reading(str(path), settings)
    except UnreadableImage:
        return ""


def kind_of(path: str, settings: PixelSettings) -> str:
    """What a file is, by its header: "JPEG, 8-bit grey".

    Raises:
        UnreadableImage: as :func:`read_image`, where the header is enough to tell.
    """
    with _named(path):
        return _reader(path).kind(str(path), settings)


def _reader(path: str) -> ModuleType:
    regular(path)
    with open(path, "rb") as file:
        head = file.read(nifti.HEADER)
    if dicom.is_dicom(path, head):
        return dicom
    return nifti if nifti.is_nifti(path, head) else pillow


@contextmanager
def _named(path: str) -> Iterator[None]:
    """What a damaged file makes decoders stumble over (SyntaxError, EOFError, struct.error, …) as one line with its name."""
    try:
        yield
    except Refusal as refusal:
        raise UnreadableImage(path, str(refusal)) from None
    except MemoryError:
        raise
    except OSError as error:
        raise UnreadableImage(path, _line(error.strerror or error)) from error
    except Exception as error:
        raise UnreadableImage(path, _line(error)) from error


def _line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
