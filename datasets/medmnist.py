"""MedMNIST's archives of arrays, ``<name>.npz``: their images as PNG files, written once.

The files lie in a hidden folder beside the archive (or in the user's cache where that is read-only), so that every part of the
project reads them as it reads any image. Arrays are read image by image: an archive may be larger than the memory.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dassl.utils import UserError, write_json
from datasets.made_splits import Sample

log = logging.getLogger(__name__)

PARTS = {"train": "train", "val": "val", "test": "test"}
STAMP = ".whole.json"  # written last: which archive the folder holds


def samples_of(archive: Path) -> list[Sample]:
    """The images of an archive by label, then as they lie in it.

    Raises:
        UserError: not MedMNIST's, or several labels for one image.
    """
    labels = _labels(archive)
    rows = [Sample(_name(part, number), str(label), part) for part, own in labels.items() for number, label in enumerate(own)]
    return sorted(rows, key=lambda sample: int(sample.key))


def images_of(archive: Path) -> Path:
    """The folder of an archive's images, written where they are not there yet.

    Raises:
        UserError: not MedMNIST's, or no place to write to.
    """
    labels = _labels(archive)  # a wrong archive is refused before anything is written
    status = archive.stat()
    stamp = {"size": status.st_size, "modified": status.st_mtime_ns}
    name = f".{archive.name}.images"
    places = [archive.parent / name, Path("~/.cache/biomed-dpt/npz").expanduser() / f"{archive.stem}-{status.st_mtime_ns}"]
    for place in places:
        if _stamp(place) == stamp:
            return place
    failures = []
    for place in places:
        try:
            _write(archive, labels, place, stamp)
            return place
        except OSError as error:
            failures.append(f"{place}: {error.strerror or error}")
    raise UserError(f"the images of {archive} cannot be written ({'; '.join(failures)})")


def _stamp(place: Path) -> dict[str, Any] | None:
    try:
        return json.loads((place / STAMP).read_text())
    except (OSError, ValueError):
        return None


def _write(archive: Path, labels: dict[str, np.ndarray], place: Path, stamp: dict[str, int]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    log.info("writing the %d images of %s to %s", sum(map(len, labels.values())), archive, place)
    scratch = Path(tempfile.mkdtemp(dir=place.parent, prefix=f"{place.name}-"))
    try:
        for part, own in labels.items():
            (scratch / part).mkdir()
            count = 0
            for count, pixels in enumerate(_images(archive, f"{part}_images"), 1):
                Image.fromarray(pixels).save(scratch / _name(part, count - 1))
            if count != len(own):
                raise UserError(f"{archive} has {count} images and {len(own)} labels for {part}")
        write_json(stamp, str(scratch / STAMP))
        scratch.chmod(0o755)  # as other folders: mkdtemp's are its maker's alone
        if place.is_dir():
            shutil.rmtree(place)
        os.replace(scratch, place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _name(part: str, number: int) -> str:
    return f"{part}/{number:06d}.png"


def _labels(archive: Path) -> dict[str, np.ndarray]:
    """Labels (N,) of each part.

    Raises:
        UserError: not MedMNIST's archive, or labels that are not one number per image.
    """
    try:
        with np.load(archive, allow_pickle=False) as arrays:
            found = {part: arrays[f"{part}_labels"] for part in PARTS if f"{part}_images" in arrays.files}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{archive} is no archive of MedMNIST's: {' '.join(str(error).split())}") from error
    if "train" not in found:
        raise UserError(f"{archive} is no archive of MedMNIST's: it has no train_images")
    for part, own in found.items():
        if own.ndim == 2 and own.shape[1] > 1:
            raise UserError(f"{archive}: {own.shape[1]} labels for one image, and a class is one label")
        if own.dtype.kind not in "iu" or own.ndim not in (1, 2) or (own < 0).any():
            raise UserError(f"{archive}: {part}_labels are no whole numbers from 0")
    return {part: own.reshape(-1) for part, own in found.items()}


def _images(archive: Path, member: str) -> Iterator[np.ndarray]:
    """The images of an array (N, H, W) or (N, H, W, 3) of bytes, one at a time.

    Raises:
        UserError: another shape or type.
    """
    with zipfile.ZipFile(archive) as arrays, arrays.open(f"{member}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        flat = len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)
        if not flat or dtype != np.uint8 or fortran:
            raise UserError(f"{archive}: {member} is {dtype} {shape}; images are bytes, (N, H, W) or (N, H, W, 3)")
        size = int(np.prod(shape[1:]))
        for _ in range(shape[0]):
            data = stream.read(size)
            if len(data) < size:
                raise UserError(f"{archive}: {member} is cut short")
            yield np.frombuffer(data, np.uint8).reshape(shape[1:])
