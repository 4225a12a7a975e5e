"""Files of kinds that Pillow does not write: TIFF of any sample type, PNG with colours of 16 bits, DICOM."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}
PNG_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> colour type


def write_tiff(path: Path, values: np.ndarray, photometric: int = 1, order: str = "<") -> Path:
    """One uncompressed strip of (H, W) or (H, W, 3) values."""
    values = values.astype(values.dtype.newbyteorder(order))
    height, width = values.shape[:2]
    samples = values.shape[2] if values.ndim == 3 else 1
    bits = values.dtype.itemsize * 8
    data = values.tobytes()
    tags = [(256, 4, [width]), (257, 4, [height]), (258, 3, [bits] * samples), (259, 3, [1]),
            (262, 3, [2 if samples == 3 else photometric]), (273, 4, [8]), (277, 3, [samples]), (278, 4, [height]),
            (279, 4, [len(data)]), (339, 3, [SAMPLE_FORMATS[values.dtype.kind]] * samples)]  # fmt: skip
    at = 8 + len(data)
    beyond, entries = b"", b""
    for tag, kind, numbers in tags:
        raw = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        if len(raw) > 4:
            offset = at + 2 + 12 * len(tags) + 4 + len(beyond)
            beyond, raw = beyond + raw, struct.pack(f"{order}I", offset)
        entries += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + raw.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, at)
    path.write_bytes(head + data + struct.pack(f"{order}H", len(tags)) + entries + b"\0" * 4 + beyond)
    return path


def write_png16(path: Path, values: np.ndarray) -> Path:
    """(H, W, C) uint16 as a PNG of 16 bits: grey, grey with alpha, RGB or RGBA."""
    height, width, channels = values.shape
    rows = values.astype(">u2").tobytes()
    step = width * channels * 2
    lines = b"".join(b"\0" + rows[start : start + step] for start in range(0, len(rows), step))
    header = struct.pack(">IIBBBBB", width, height, 16, PNG_COLOURS[channels], 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(lines)) + _chunk(b"IEND", b"")
    )
    return path


def write_huge_png(path: Path, side: int) -> Path:
    """A black square of 8-bit grey, compressed to a thousandth of its size."""
    packer, row = zlib.compressobj(1), bytes(1 + side)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b""))
    return path


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def write_dicom(path: Path, values: np.ndarray, photometric: str = "MONOCHROME2", compress: str = "", **elements: Any) -> Path:
    """A secondary capture with an invented patient; ``values`` (H, W), (H, W, 3) or, with NumberOfFrames, one axis more."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.PatientName, data.PatientID, data.PatientBirthDate = "Zebedee^Quill", "ID-998877", "19010203"
    colour = photometric in ("RGB", "YBR_FULL")
    frame = values[0] if "NumberOfFrames" in elements else values
    data.Rows, data.Columns = frame.shape[:2]
    data.SamplesPerPixel, data.PhotometricInterpretation = 3 if colour else 1, photometric
    if colour:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8 * values.dtype.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(values.dtype.kind == "i")
    data.PixelData = values.tobytes()
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    data["PixelData"].VR = "OW" if values.dtype.itemsize == 2 else "OB"
    if compress:
        from pydicom import uid

        data.compress(getattr(uid, compress))
    data.save_as(path, enforce_file_format=True)
    return path
