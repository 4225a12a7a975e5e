"""DICOM, by pydicom where it is installed.

Only what describes the pixels is asked of a file. No word of pydicom's goes into an error, a warning or the log: it may
quote a tag, and tags say who the patient is.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from dassl.utils.pixels.scaling import scaled, to_uint8
from dassl.utils.pixels.settings import PixelSettings, Refusal, say_once

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES = (".dcm", ".dicom")
MAGIC, AT = b"DICM", 128
LUT = "PaletteColorLookupTable"
TAGS = [
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence",
    *(f"{colour}{LUT}{what}" for colour in ("Red", "Green", "Blue") for what in ("Descriptor", "Data")),
    *(f"Segmented{colour}{LUT}Data" for colour in ("Red", "Green", "Blue")), f"{LUT}UID",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
# where a multi-frame file keeps what a single image has at its top
GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
GREYS = ("MONOCHROME1", "MONOCHROME2")


def is_dicom(path: str, head: bytes) -> bool:
    """By content, or by name."""
    return head[AT : AT + len(MAGIC)] == MAGIC or str(path).lower().endswith(SUFFIXES)


def reading(path: str, settings: PixelSettings) -> str:
    """What beside its contents decides the pixels."""
    return f"DICOM, window {settings.window}"


def kind(path: str, settings: PixelSettings) -> str:
    """The format and the depth of the stored values."""
    with _silent():
        bits = _header(path).get("BitsStored")
    return f"DICOM, {bits}-bit" if isinstance(bits, int) else "DICOM"


def read(path: str, settings: PixelSettings) -> Image.Image:
    """The first frame as 8-bit RGB."""
    with _silent():
        header = _header(path)
        rows, columns = header.get("Rows"), header.get("Columns")
        if not rows or not columns or "PhotometricInterpretation" not in header:
            raise Refusal("it is a DICOM file without an image")
        settings.check_size(columns, rows)
        frame = _frame(path, header.file_meta.get("TransferSyntaxUID"))
        try:
            eight = _eight_bits(frame, header, settings)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError):
            raise Refusal("what its header says of its pixels is broken or contradictory") from None
        frames = header.get("NumberOfFrames") or 1
    if int(frames) > 1:
        say_once("DICOM with several frames", "the first one is read, the others are not")
    return Image.fromarray(np.ascontiguousarray(eight)).convert("RGB")


@contextmanager
def _silent() -> Iterator[None]:
    """pydicom's warnings and log lines quote values."""
    logger = logging.getLogger("pydicom")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def _header(path: str) -> Dataset:
    try:
        from pydicom import dcmread
        from pydicom.pixels import pixel_array  # noqa: F401  (pydicom 3)
    except ImportError:
        raise Refusal('DICOM files are read by pydicom 3 or newer, which is not installed: pip install "pydicom>=3"') from None
    try:
        return dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
    except Exception:
        raise Refusal("it is no DICOM file, or its header is broken") from None


def _frame(path: str, syntax: Any) -> np.ndarray:
    """The first frame: (H, W), or (H, W, 3) RGB."""
    from pydicom.pixels import get_decoder, pixel_array

    if syntax is None:
        raise Refusal("its header does not say how its pixels are stored (no transfer syntax)")
    name = syntax.name if syntax.name != str(syntax) else "a way unknown to DICOM's dictionary"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise Refusal(f"its pixels are stored in {name}, which pydicom has no plugin for") from None
    missing = "; ".join(decoder.missing_dependencies)
    if not decoder.is_available:
        wanted = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        raise Refusal(f"its pixels are stored in {name}, and no plugin of pydicom's for it is installed ({missing}): {wanted}")
    try:
        return pixel_array(path, index=0)
    except MemoryError:
        raise
    except Exception:
        other = f"; not installed: {missing}" if missing else ""
        tried = ", ".join(decoder.available_plugins) or "pydicom"
        raise Refusal(f"its pixels ({name}) are broken or of a kind that cannot be decoded by {tried}{other}") from None


# -- from stored values to 8 bits -------------------------------------------------------------------------


def _eight_bits(frame: np.ndarray, header: Dataset, settings: PixelSettings) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 of the stored values."""
    photometric = header.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        colours = apply_color_lut(frame, header)
        return (colours >> 8).astype(np.uint8) if colours.dtype.itemsize == 2 else colours
    if frame.ndim == 3:
        return frame if frame.dtype == np.uint8 else scaled(frame, settings.window)
    if photometric not in GREYS:
        raise Refusal("its pixels are neither grey nor of a kind of colour that is read")
    grey = _grey(frame, header, settings)
    return 255 - grey if photometric == "MONOCHROME1" else grey


def _grey(frame: np.ndarray, header: Dataset, settings: PixelSettings) -> np.ndarray:
    """(H, W) uint8 before MONOCHROME1 is turned round: INPUT.WINDOW, else the file's window, else its own range."""
    if header.get("BitsStored") == 1:
        return frame.astype(np.uint8) * 255
    values, as_stored = _modality(_own_bits(frame, header), header)
    plain = as_stored and header.get("BitsStored") == 8 and not header.get("PixelRepresentation")
    centre, width = _first(_element(header, "WindowCenter")), _first(_element(header, "WindowWidth"))
    windowed = centre is not None and width is not None
    table = _element(header, "VOILUTSequence")
    if plain and not windowed and not table:
        return values.astype(np.uint8)
    if settings.window:
        return to_uint8(values, settings.window)
    if windowed:
        return _windowed(values, float(centre), float(width), _element(header, "VOILUTFunction") or "LINEAR")
    if table:
        entries, largest = _looked_up(values, table, bool(header.get("PixelRepresentation")))
        return to_uint8(entries, (0, largest))
    return scaled(values, None)


def _own_bits(frame: np.ndarray, header: Dataset) -> np.ndarray:
    """Without what old files keep in the bits above BitsStored."""
    stored, allocated = header.get("BitsStored"), header.get("BitsAllocated")
    if frame.dtype.kind != "u" or not stored or not allocated or stored >= allocated:
        return frame
    return frame & frame.dtype.type((1 << stored) - 1)


def _modality(values: np.ndarray, header: Dataset) -> tuple[np.ndarray, bool]:
    """In the modality's units (Hounsfield's, …), and whether these are the stored values."""
    table = _element(header, "ModalityLUTSequence")
    if table:
        return _looked_up(values, table, bool(header.get("PixelRepresentation")))[0], False
    slope, intercept = _element(header, "RescaleSlope"), _element(header, "RescaleIntercept")
    slope, intercept = 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)
    if (slope, intercept) == (1.0, 0.0):
        return values, True
    return values * slope + intercept, False


def _windowed(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3, for an output of 0..255."""
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise Refusal("the width of its window is not positive: name a window by INPUT.WINDOW lo,hi")
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return np.rint(255 / (1 + np.exp(-4 * (values - centre) / width))).astype(np.uint8)
    if function not in ("LINEAR", "LINEAR_EXACT"):
        raise Refusal("its window is of a kind that DICOM does not define: name a window by INPUT.WINDOW lo,hi")
    middle, half = (centre - 0.5, (width - 1) / 2) if function == "LINEAR" else (centre, width / 2)
    return to_uint8(values, (middle - half, middle + half))


def _looked_up(values: np.ndarray, table: Any, signed: bool) -> tuple[np.ndarray, int]:
    """The entries of a sequence's first table that ``values`` stand for, and the largest that its bits can hold."""
    count, first, bits = (int(number) for number in table[0].LUTDescriptor)
    data = table[0].LUTData
    count = count or 1 << 16  # which its 16 bits cannot say
    if isinstance(data, bytes):
        data = np.frombuffer(data, "<u2" if len(data) >= 2 * count else "u1")
    entries = np.asarray(data, np.int64)[:count]
    first -= (1 << 16) if signed and first >= 1 << 15 else 0
    return entries[np.clip(values.astype(np.int64) - first, 0, len(entries) - 1)], 2**bits - 1


def _element(header: Dataset, keyword: str) -> Any:
    """An element's value, at the top or, in a multi-frame file, of the first frame or of all; ``None`` where it is empty."""
    value = header.get(keyword)
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in GROUPS:
            if value is None and header.get(groups):
                inside = header[groups][0].get(group)
                value = inside[0].get(keyword) if inside else None
    return value


def _first(value: Any) -> Any:
    """Of several windows the first."""
    if isinstance(value, str) or not hasattr(value, "__len__"):
        return value
    return value[0] if len(value) else None
