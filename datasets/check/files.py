"""Every image file read once, in parallel, by the reader that runs use."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import imagehash
import numpy as np
from PIL import Image
from tqdm import tqdm

from dassl.utils import PixelSettings, UnreadableImage, UserError, kind_of, read_image

Item, Result = TypeVar("Item"), TypeVar("Result")

ALONE = 64  # so few files are read without other processes
HASH_SIDE = 16  # the hash has HASH_SIDE² = 256 bits
HASH_INPUT = 4 * HASH_SIDE  # what imagehash shrinks an image to before its cosine transform
THUMBNAIL = 32
# left-right, upside down, both: as slices of rows and columns
TURNS = {
    "": (slice(None), slice(None)),
    "mirrored": (slice(None), slice(None, None, -1)),
    "upside down": (slice(None, None, -1), slice(None)),
    "turned by 180 degrees": (slice(None, None, -1), slice(None, None, -1)),
}


@dataclass(frozen=True)
class Look:
    """What one file holds; of a file that cannot be read, ``path`` and ``reason`` alone.

    Attributes:
        path: below the image folder, with "/".
        reason: why it cannot be read; "" where it can.
        kind: format, depth and colour: "JPEG, 8-bit grey".
        size: width and height.
        file, pixels: SHA-256 of the file's bytes, and of the 8-bit RGB pixels that it is read as.
        hashes: (4, 4) uint64, the 256 bits of the perceptual hash (pHash) of the image as it is and by each of ``TURNS``.
        thumbnail: (32, 32) uint8, grey.
    """

    path: str
    reason: str = ""
    kind: str = ""
    size: tuple[int, int] = (0, 0)
    file: str = ""
    pixels: str = ""
    hashes: np.ndarray | None = None
    thumbnail: np.ndarray | None = None


def look(path: str, images: Path, settings: PixelSettings) -> Look:
    """Read one file of a folder of images."""
    full = str(images / path)
    try:
        picture = read_image(full, settings)
        kind = kind_of(full, settings)
    except UnreadableImage as error:
        return Look(path, error.reason)
    grey = picture.convert("L")
    small = np.asarray(grey.resize((HASH_INPUT, HASH_INPUT), Image.Resampling.LANCZOS))
    hashes = np.stack([_bits(small[turn]) for turn in TURNS.values()])
    with open(full, "rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file.read())
    shape = f"{picture.size}".encode()
    thumbnail = np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))
    return Look(path, "", kind, picture.size, content, _digest(shape + picture.tobytes()), hashes, thumbnail)


def _bits(small: np.ndarray) -> np.ndarray:
    """(4,) uint64: the bits of the perceptual hash of a (64, 64) grey image."""
    return np.packbits(imagehash.phash(Image.fromarray(small), hash_size=HASH_SIDE).hash).view(np.uint64)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def look_at(images: Path, paths: Sequence[str], settings: PixelSettings, workers: int, title: str) -> list[Look]:
    """:func:`look` at each of ``paths``, in their order."""
    return in_parallel(partial(look, images=images, settings=settings), paths, workers, title)


def unreadable(paths: Sequence[str], settings: PixelSettings, workers: int = 0) -> list[UnreadableImage]:
    """What is wrong with each of these files that cannot be read, in their order."""
    results = in_parallel(partial(_reason, settings=settings), paths, workers, "reading all images")
    return [UnreadableImage(path, reason) for path, reason in zip(paths, results, strict=True) if reason]


def _reason(path: str, settings: PixelSettings) -> str:
    try:
        read_image(path, settings)
    except UnreadableImage as error:
        return error.reason
    return ""


def in_parallel(function: Callable[[Item], Result], items: Sequence[Item], workers: int = 0, title: str = "") -> list[Result]:
    """``function`` of each item, in order, by processes: readers are not all safe in threads.

    Args:
        workers: processes; 0 takes one per core, and none for a few items.

    Raises:
        UserError: a process was killed, as it is where memory ends.
    """

    def shown(results: Iterable[Result]) -> list[Result]:
        return list(tqdm(results, total=len(items), desc=title, unit="image", disable=None))

    workers = workers or (os.cpu_count() or 1 if len(items) > ALONE else 1)
    if workers == 1:
        return shown(map(function, items))
    try:
        with ProcessPoolExecutor(workers) as pool:
            return shown(pool.map(function, items, chunksize=max(1, min(32, len(items) // workers))))
    except BrokenProcessPool as error:
        raise UserError(
            f"a process that reads images was killed, for want of memory perhaps: try --workers 1 ({title})"
        ) from error
