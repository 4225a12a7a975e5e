"""Averages over seeds and the harmonic mean of base and new."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("the mean of nothing")
    return sum(values) / len(values)


def ci95(values: Sequence[float]) -> float | None:
    """Half width of the 95 % t-interval of the mean (4.30 s / sqrt(3) for three seeds); ``None`` below two values."""
    n = len(values)
    if n < 2:
        return None
    centre = mean(values)
    s = math.sqrt(sum((v - centre) ** 2 for v in values) / (n - 1))
    return float(stats.t.ppf(0.975, n - 1)) * s / math.sqrt(n)


def harmonic(base: float, new: float) -> float:
    """HM = 2 B N / (B + N), in the unit of its arguments; 0 when both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0


def average_hm(pairs: Sequence[tuple[float, float]], how: str) -> float:
    """One of the three numbers that papers print as average "HM" over datasets.

    Args:
        pairs: base and new accuracy of each dataset.
        how: "of-averages" (HM of the two averages), "of-datasets" (average of per-dataset HMs), or "arithmetic"
            (mean of base and new, as printed by Biomed-DPT).

    Raises:
        ValueError: another word.
    """
    base, new = mean([b for b, _ in pairs]), mean([n for _, n in pairs])
    if how == "of-averages":
        return harmonic(base, new)
    if how == "of-datasets":
        return mean([harmonic(b, n) for b, n in pairs])
    if how == "arithmetic":
        return (base + new) / 2
    raise ValueError(how)
