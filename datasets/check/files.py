"""Every image file read once, in parallel, by the reader that runs use."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image

from dassl.utils import PixelSettings, UnreadableImage, kind_of, read_image
from dassl.utils.sources import sha256
from datasets.check.parallel import in_parallel

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
    shape = f"{picture.size}".encode()
    thumbnail = np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))
    return Look(path, "", kind, picture.size, sha256(Path(full)), _digest(shape + picture.tobytes()), hashes, thumbnail)


def _bits(small: np.ndarray) -> np.ndarray:
    """(4,) uint64: the bits of the perceptual hash of a (64, 64) grey image."""
    return np.packbits(imagehash.phash(Image.fromarray(small), hash_size=HASH_SIDE).hash).view(np.uint64)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def look_at(images: Path, paths: Sequence[str], settings: PixelSettings, workers: int, title: str) -> list[Look]:
    """:func:`look` at each of ``paths``, in their order."""
    return in_parallel(partial(look, images=images, settings=settings), paths, workers, title)
