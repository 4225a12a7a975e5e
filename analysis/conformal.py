"""How far a probability can be trusted: a temperature for it, and sets of classes that hold the true one as often as asked.

Pure functions of arrays, as :mod:`analysis.metrics`. Temperature scaling: Guo et al., ICML 2017. Split conformal prediction:
Vovk, Gammerman and Shafer, 2005. The score of a class is APS (Romano, Sesia and Candès, NeurIPS 2020) without its random draw,
so that an image has one set and not another at every look, or RAPS (Angelopoulos et al., ICLR 2021) with a penalty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest

from analysis.metrics import expected_calibration_error

COVERAGE = 0.9
TEMPERATURES = (0.05, 20.0)  # between which one is looked for
LEAST = 8  # images, below which no part holds two
_TINY = 1e-300  # for the logarithm of a probability of 0

Floats = NDArray[np.float64]


class TooFewImages(ValueError):
    """Too few calibration images for what was asked: such a set would have to hold every class."""

    told = True  # to the user, in a line (entry.py)


# -- temperature ------------------------------------------------------------------------------------------


def tempered(probabilities: ArrayLike, temperature: float) -> Floats:
    """(N, C) probabilities of scores divided by ``temperature``: above 1 less sure, below 1 surer, the order stays."""
    logs = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), _TINY)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def nll(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean negative logarithm of the true class's probability, in nats."""
    y, p = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], _TINY)).mean())


def fitted_temperature(labels: ArrayLike, probabilities: ArrayLike) -> tuple[float, str]:
    """The temperature with the least :func:`nll`, and what is to be said of it ("" mostly).

    Where every image is classified right, a lower temperature is always better and none is best: 1 is kept, and said.

    Args:
        labels: (N,), 0 … C-1.
        probabilities: (N, C).
    """
    y, p = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if (p.argmax(axis=1) == y).all():
        return (
            1.0,
            f"none of the {len(y)} images for the temperature is classified wrong: there is none to be fitted, 1 is kept",
        )
    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(lambda t: nll(y, tempered(p, math.exp(t))), bounds=(low, high), method="bounded")
    at_end = min(found.x - low, high - found.x) < 1e-3
    return math.exp(found.x), "the temperature lies at the end of what is looked at: look at the labels" if at_end else ""


# -- sets -------------------------------------------------------------------------------------------------


def nonconformity(probabilities: ArrayLike, penalty: float = 0.0) -> Floats:
    """(N, C): what must be taken in, likeliest class first, until this class is: APS; with a ``penalty`` RAPS.

    Args:
        penalty: for each class beyond the first (λ of RAPS with k_reg = 1): larger ones make large sets rarer.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    order = np.argsort(-p, axis=1, kind="stable")
    taken = np.cumsum(np.take_along_axis(p, order, axis=1), axis=1) + penalty * np.arange(p.shape[1])
    scores = np.empty_like(p)
    np.put_along_axis(scores, order, taken, axis=1)
    return scores


def rank_of(count: int, coverage: float) -> int:
    """Which of ``count`` sorted scores is the threshold, from 1: the finite-sample quantile ``ceil((n + 1) coverage)``."""
    return math.ceil((count + 1) * coverage - 1e-9)


def images_needed(coverage: float) -> int:
    """The least n of which :func:`rank_of` is no more than n: ``ceil(1 / (1 - coverage)) - 1``."""
    return math.ceil(1 / (1 - coverage) - 1e-9) - 1


def threshold(scores: Sequence[float], coverage: float) -> float:
    """What a class may score at most to be in the set.

    Args:
        scores: of the true classes of calibration images.
        coverage: how often the set shall hold the true class, in (0, 1).

    Raises:
        ValueError: a coverage outside of (0, 1).
        TooFewImages: too few scores for this coverage.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"a coverage of {coverage} is not between 0 and 1")
    rank = rank_of(len(scores), coverage)
    if rank > len(scores):
        most = math.floor(100 * len(scores) / (len(scores) + 1))
        raise TooFewImages(
            f"{len(scores)} calibration images allow sets of up to {most} %: sets of {percent(coverage)} need "
            f"{images_needed(coverage)}"
        )
    return float(np.sort(np.asarray(scores, dtype=np.float64))[rank - 1])


def percent(share: float) -> str:
    """0.9 -> "90 %", 0.995 -> "99.5 %"."""
    return f"{100 * share:.4g} %"


@dataclass(frozen=True)
class Calibration:
    """What was learned of a run's probabilities from labelled images.

    Attributes:
        temperature: 1 leaves the probabilities as they are.
        scores: :func:`nonconformity` of the true classes of the threshold's images, sorted.
        penalty: of these scores.
    """

    temperature: float
    scores: tuple[float, ...]
    penalty: float = 0.0

    def probabilities(self, raw: ArrayLike) -> Floats:
        """(N, C) probabilities of the run -> calibrated ones."""
        return tempered(raw, self.temperature)

    def sets(self, raw: ArrayLike, coverage: float = COVERAGE) -> NDArray[np.bool_]:
        """(N, C): which classes are in each image's set; the likeliest is in every one.

        Raises:
            ValueError, TooFewImages: as :func:`threshold`.
        """
        p = self.probabilities(raw)
        inside = nonconformity(p, self.penalty) <= threshold(self.scores, coverage)
        inside[np.arange(len(p)), p.argmax(axis=1)] = True
        return inside


# -- from labelled images ---------------------------------------------------------------------------------


def parts(count: int, seed: int) -> dict[str, NDArray[np.int64]]:
    """The numbers 0 … count-1, drawn for the "temperature" (a quarter), the "threshold" (half) and to be "held out"."""
    drawn = np.random.default_rng(seed).permutation(count)
    first = count // 4
    last = (count - first) // 3  # so that no part shrinks as the images become more
    return {"temperature": drawn[:first], "threshold": drawn[first : count - last], "held out": drawn[count - last :]}


def labelled_needed(coverage: float) -> int:
    """How many labelled images :func:`calibrated` needs for sets of this coverage."""
    count = LEAST
    while len(parts(count, 0)["threshold"]) < images_needed(coverage):
        count += 1
    return count


def calibrated(
    labels: ArrayLike, probabilities: ArrayLike, coverage: float = COVERAGE, penalty: float = 0.0, seed: int = 1
) -> tuple[Calibration, dict[str, Any]]:
    """A :class:`Calibration` from labelled images, and what it does on images that it did not see.

    A quarter of the images gives the temperature, half the threshold, the last quarter is held out and only measured. Each
    image has one use: a temperature that had seen the threshold's images would make these look easier than new ones.

    Args:
        labels: (N,), 0 … C-1.
        probabilities: (N, C) of the run.
        coverage: of the sets whose coverage is measured; any other can be asked of the calibration later.
        penalty: RAPS's, 0 for APS.
        seed: of the draw.

    Raises:
        ValueError: a coverage outside of (0, 1), or a negative penalty.
        TooFewImages: too few images for this coverage.
    """
    y, p = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if not 0 < coverage < 1 or penalty < 0:
        raise ValueError(f"coverage {coverage} must be between 0 and 1, penalty {penalty} 0 or more")
    needed = labelled_needed(coverage)
    if len(y) < needed:
        raise TooFewImages(
            f"{len(y)} labelled images are too few for sets of {percent(coverage)}: {needed} are needed, of which half give "
            "the threshold"
        )
    drawn = parts(len(y), seed)
    own, after, rest = (drawn[part] for part in ("temperature", "threshold", "held out"))
    temperature, note = fitted_temperature(y[own], p[own])
    scores = nonconformity(tempered(p[after], temperature), penalty)[np.arange(len(after)), y[after]]
    found = Calibration(temperature, tuple(np.sort(scores).tolist()), penalty)
    return found, {
        "images": {part: len(numbers) for part, numbers in drawn.items()},
        "seed": seed,
        "notes": [note] if note else [],
        "held_out": held_out(found, y[rest], p[rest], coverage),
    }


def held_out(found: Calibration, labels: ArrayLike, raw: ArrayLike, coverage: float) -> dict[str, Any]:
    """How the sets and probabilities of a calibration fare on labelled images that it was not made of.

    Returns:
        ``coverage_asked``, ``coverage`` (share of images whose set holds the true class), ``coverage_interval`` (95 %, Clopper
        and Pearson), ``mean_set_size``, ``alone`` (share of sets with one class), ``coverage_per_class`` (by label, ``None``
        without images: no promise is made for a single class); ``nll`` and ``ece`` (share), each raw and calibrated.
    """
    y, p = np.asarray(labels), np.asarray(raw, dtype=np.float64)
    inside, calm = found.sets(p, coverage), found.probabilities(p)
    hit = inside[np.arange(len(y)), y]
    interval = binomtest(int(hit.sum()), len(y)).proportion_ci(0.95, method="exact")
    sizes = inside.sum(axis=1)
    return {
        "coverage_asked": coverage,
        "coverage": float(hit.mean()),
        "coverage_interval": [float(interval.low), float(interval.high)],
        "mean_set_size": float(sizes.mean()),
        "alone": float((sizes == 1).mean()),
        "coverage_per_class": [float(hit[y == c].mean()) if (y == c).any() else None for c in range(p.shape[1])],
        "nll": {"raw": nll(y, p), "calibrated": nll(y, calm)},
        "ece": {"raw": expected_calibration_error(y, p), "calibrated": expected_calibration_error(y, calm)},
    }
