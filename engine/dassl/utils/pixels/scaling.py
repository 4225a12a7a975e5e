"""Values of any range as 8 bits."""

from __future__ import annotations

import numpy as np

STRIP = 1 << 20  # values that are turned into float64 together: an image of 100 million pixels takes no more than that

Range = tuple[float, float]


def to_uint8(values: np.ndarray, window: Range | None = None) -> np.ndarray:
    """Scale linearly: the window's ends, or else the smallest and the largest finite value, become 0 and 255.

    Values beyond the ends are clipped, infinite ones too; NaN becomes 0. Where all finite values are equal there is no
    range, and without a window everything finite becomes 0.

    Args:
        values: (H, W) or (H, W, C) integers or floats; colours share one range.
        window: (lo, hi), lo < hi.

    Returns:
        uint8 of the same shape, rounded to the nearest.

    Raises:
        ValueError: no window and no finite value.
    """
    low, high = window or finite_range(values)
    # a subnormal difference would overflow as a divisor
    wide = high / 2 - low / 2 > np.finfo(np.float64).tiny
    out = np.empty(values.shape, np.uint8)
    for source, target in _strips(values, out):
        part = source.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            # halves, as the difference of two large floats can be infinite
            share = (part / 2 - low / 2) / (high / 2 - low / 2) if wide else np.where(part > high, 1.0, 0.0)
        target[...] = np.rint(np.nan_to_num(np.clip(share, 0, 1), nan=0.0) * 255)
    return out


def finite_range(values: np.ndarray) -> Range:
    """The smallest and the largest value, NaN and infinities left out.

    Raises:
        ValueError: nothing is left.
    """
    if values.size and values.dtype.kind in "biu":
        return float(values.min()), float(values.max())
    low, high = np.inf, -np.inf
    for part in _rows(values):
        finite = part[np.isfinite(part)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if low > high:
        raise ValueError("none of its values is finite")
    return low, high


def scaled(values: np.ndarray, window: Range | None) -> np.ndarray:
    """:func:`to_uint8`, but a picture of 8 bits that was only stored deeper is that picture.

    Programs that save 8 bits as 16 multiply by 257 or 256, as floats they divide by 255. Such a file has no grey level
    that the picture of 8 bits has not, so it is read as that one would be: not stretched to its own range.
    """
    stored = None if window else eight_bits(values)
    return to_uint8(values, window) if stored is None else stored


def eight_bits(values: np.ndarray) -> np.ndarray | None:
    """The picture of 8 bits that ``values`` are a copy of; ``None`` where they are none.

    A copy: all are multiples of 257 up to 65535, or of 256 up to 65280, or floats k / 255 in 0..1.
    """
    if values.dtype.kind == "f":
        return _from_shares(values)
    for factor in (257, 256):
        if values.size and all(_multiples(part, factor) for part in _rows(values)):
            return (values // factor).astype(np.uint8)
    return None


def _multiples(values: np.ndarray, factor: int) -> bool:
    return bool(values.min() >= 0 and values.max() <= 255 * factor and not (values % factor).any())


def _from_shares(values: np.ndarray) -> np.ndarray | None:
    out = np.empty(values.shape, np.uint8)
    for source, target in _strips(values, out):
        levels = source.astype(np.float64) * 255
        if not np.isfinite(levels).all() or levels.min() < 0 or levels.max() > 255.001:
            return None
        nearest = np.rint(levels)
        if np.abs(levels - nearest).max() > 1e-4:  # float32 holds k / 255 to 1e-5 of a level
            return None
        target[...] = nearest
    return out if out.size else None


def _rows(values: np.ndarray) -> list[np.ndarray]:
    """Views of a few rows each, of about :data:`STRIP` values."""
    each = max(1, STRIP // max(1, int(np.prod(values.shape[1:]))))
    return [values[start : start + each] for start in range(0, len(values), each)]


def _strips(values: np.ndarray, out: np.ndarray) -> zip[tuple[np.ndarray, np.ndarray]]:
    return zip(_rows(values), _rows(out), strict=True)
