"""Averages over seeds, intervals, the harmonic mean of base and new, and paired tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

RESAMPLES = 10_000


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("the mean of nothing")
    return sum(values) / len(values)


def deviation(values: Sequence[float]) -> float:
    """Standard deviation of a sample (n - 1) of two or more values."""
    centre = mean(values)
    return math.sqrt(sum((v - centre) ** 2 for v in values) / (len(values) - 1))


def t95(n: int) -> float:
    """The 97.5 % quantile of Student's t for ``n`` values: 4.30 for three."""
    return float(stdtrit(n - 1, 0.975))  # scipy.stats, which has it as t.ppf, takes half a second to import


def ci95(values: Sequence[float]) -> float | None:
    """Half width of the 95 % t-interval of the mean (4.30 s / sqrt(3) for three seeds); ``None`` below two values."""
    n = len(values)
    return None if n < 2 else t95(n) * deviation(values) / math.sqrt(n)


def harmonic(base: float, new: float) -> float:
    """HM = 2 B N / (B + N), in the unit of its arguments; 0 when both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0


def average_hm(pairs: Sequence[Sequence[float]], how: str) -> float:
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


@dataclass(frozen=True)
class Difference:
    """A mean difference with its 95 % percentile interval and two-sided p-value."""

    value: float
    low: float
    high: float
    p: float


def paired_bootstrap(differences: ArrayLike, seed: int = 0, resamples: int = RESAMPLES) -> Difference:
    """Is the mean of per-image differences of two methods other than 0? (Efron and Tibshirani, 1993, chapters 13 and 16)

    Images are drawn with replacement, the same ones for both methods. As only counts matter, the draw is one from the
    multinomial distribution over the distinct differences. p is twice the smaller tail beyond 0, both counts plus one.

    Args:
        differences: (N,) of A minus B, e.g. in accuracy per image.
        seed: of the draws.
        resamples: number of draws.

    Raises:
        ValueError: no images.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or not len(d):
        raise ValueError(f"differences of shape {d.shape}")
    values, counts = np.unique(d, return_counts=True)
    means = np.random.default_rng(seed).multinomial(len(d), counts / len(d), size=resamples) @ values / len(d)
    low, high = np.percentile(means, [2.5, 97.5])
    tail = min((means <= 0).sum(), (means >= 0).sum())
    return Difference(float(d.mean()), float(low), float(high), min(1.0, 2 * (int(tail) + 1) / (resamples + 1)))


def wilcoxon(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Two-sided p-value of Wilcoxon's signed-rank test over pairs, one per dataset; ``None`` below two pairs.

    Raises:
        ValueError: of different length.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values are no pairs")
    if len(a) < 2:
        return None
    if np.allclose(a, b, rtol=0, atol=1e-9):
        return 1.0  # no rank at all: scipy returns NaN
    from scipy import stats  # slow to import, and few tables ask for it

    return float(stats.wilcoxon(a, b).pvalue)
