"""How images are read, from a config; what a file that cannot be read raises; what is said once."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

from yacs.config import CfgNode

from dassl.utils.errors import SettingError

log = logging.getLogger(__name__)

MIDDLE = -1  # INPUT.SLICE: the middle slice
MAX_PIXELS = 100_000_000
_said: set[str] = set()


@dataclass(frozen=True)
class PixelSettings:
    """How image files become 8-bit RGB; the keys of INPUT that say so.

    Attributes:
        window: (lo, hi), lo < hi: the values that become 0 and 255 in images of more than 8 bits; ``None``: each image's
            own range.
        exif: whether an image is turned as its EXIF tag says. The published reader does not.
        slice: which slice of a volume, from 0; -1 the middle one.
        max_pixels: an image with more (width x height) is refused before it is decoded.
    """

    window: tuple[float, float] | None = None
    exif: bool = False
    slice: int = MIDDLE
    max_pixels: int = MAX_PIXELS

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> PixelSettings:
        """The settings of ``cfg.INPUT``; of a config without them, as Dassl's own is, the defaults.

        Raises:
            SettingError: a value that cannot be used.
        """
        own = cfg.INPUT
        number, limit = own.get("SLICE", MIDDLE), own.get("MAX_PIXELS", MAX_PIXELS)
        if number < MIDDLE:
            raise SettingError(f"INPUT.SLICE is {number}, must be the number of a slice, from 0, or -1 for the middle one")
        if limit < 1:
            raise SettingError(f"INPUT.MAX_PIXELS is {limit}, must be 1 or more")
        return cls(_window(tuple(own.get("WINDOW", ()))), bool(own.get("EXIF", False)), int(number), int(limit))

    def check_size(self, width: int, height: int) -> None:
        """Raise a :class:`Refusal` for an image of more pixels than are allowed."""
        if width * height > self.max_pixels:
            limit = f"more than INPUT.MAX_PIXELS {self.max_pixels:,}"
            raise Refusal(f"it has {width:,} x {height:,} pixels, {limit}: refused without decoding it")


def _window(values: tuple[object, ...]) -> tuple[float, float] | None:
    if not values:
        return None
    numbers = [float(one) for one in values if isinstance(one, (int, float)) and math.isfinite(one)]
    if len(values) != 2 or len(numbers) != 2 or numbers[0] >= numbers[1]:
        raise SettingError(f"INPUT.WINDOW is {list(values)}, must be empty or two numbers lo < hi, as in INPUT.WINDOW -160,240")
    return numbers[0], numbers[1]


class UnreadableImage(OSError):
    """A file that cannot be read as an image: one line that names it.

    Attributes:
        path: of the file.
        reason: without the file's name.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path, self.reason = str(path), reason
        super().__init__(f"{path}: {reason}")

    def __reduce__(self) -> tuple[type[UnreadableImage], tuple[str, str]]:
        return type(self), (self.path, self.reason)  # loaders' workers hand it over pickled


class Refusal(Exception):
    """Why a file is not read, in words that hold nothing of its contents; the reader adds the file's name."""


def say_once(kind: str, what: str) -> None:
    """Into the log, the first time that a process reads a file of this kind."""
    if kind not in _said:
        _said.add(kind)
        log.warning("%s: %s (said once for files of this kind)", kind, what)
