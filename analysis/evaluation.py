"""Metrics of labelled images with intervals, by the bootstrap over images: :mod:`analysis.metrics` and the Brier score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tabulate import tabulate
from tqdm import tqdm

from analysis.metrics import ECE_BINS, METRICS, Metric, metrics
from analysis.words import count_of, listed

RESAMPLES = 1000
DEFINED = 0.9  # of the resamples must give a metric, or it has no interval
SHOWN = {name: metric for name, metric in METRICS.items() if name != "error_rate"} | {
    "brier": Metric("Brier score (0 to 2)", unit="", digits=3, higher_is_better=False)
}


def brier_score(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean over images of ``Σ_c (p_c - [c is the true class])²`` (Brier, 1950): 0 is perfect, 2 is sure and wrong."""
    y, p = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    return float(((p - np.eye(p.shape[1])[y]) ** 2).sum(axis=1).mean())


def evaluation(
    labels: ArrayLike,
    probabilities: ArrayLike,
    classnames: Sequence[str],
    ordered: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """:func:`analysis.metrics.metrics` of labelled images, with ``brier`` among them and ``intervals``.

    Args:
        labels: (N,) true class of each image, 0 … C-1.
        probabilities: (N, C), rows that sum to 1.
        classnames: the C names.
        ordered: as there.
        resamples: draws of N images with replacement.
        seed: of the draws.

    Returns:
        What ``metrics`` returns, and ``intervals``: for each metric the 2.5 and 97.5 % percentile over the draws, in its unit,
        or ``None`` where more than a tenth of them leave it undefined (``metric_notes`` says so); ``resamples``; ``seed``.

    Raises:
        ValueError: as ``metrics``.
    """
    y, p = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    found = metrics(y, p, classnames, ordered)
    found["metrics"]["brier"] = brier_score(y, p)
    generator, redrawn = np.random.default_rng(seed), Redrawn(y, p, ordered)
    drawn: dict[str, list[float]] = {name: [] for name in found["metrics"]}
    for _ in tqdm(range(resamples), desc="bootstrap", disable=None, leave=False):
        times = np.bincount(generator.integers(len(y), size=len(y)), minlength=len(y))
        for name, value in redrawn(times).items():
            if math.isfinite(value):
                drawn[name].append(value)
    intervals: dict[str, list[float] | None] = {}
    for name, values in drawn.items():
        whole = len(values) >= DEFINED * resamples and found["metrics"][name] is not None
        intervals[name] = np.percentile(values, [2.5, 97.5]).tolist() if whole else None
        if not whole and found["metrics"][name] is not None:
            found["metric_notes"].append(
                f"{name} has no interval: {resamples - len(values)} of {resamples} draws leave it undefined"
            )
    flat = [name for name, between in intervals.items() if between and between[0] == between[1]]
    if flat:
        found["metric_notes"].append(
            f"an interval without width is no certainty ({listed(flat)}): drawing these {count_of(len(y), 'image')} again "
            "always gives the same value"
        )
    return found | {"intervals": intervals, "resamples": resamples, "seed": seed}


class Redrawn:
    """The metrics of images that are there several times or not at all, from sums that are made once.

    What scikit-learn says of the same images one by one (the tests compare them), in a hundredth of its time: an interval needs
    a thousand of these.

    Args:
        labels, probabilities, ordered: as :func:`evaluation` has them.
    """

    def __init__(self, labels: NDArray[np.int64], probabilities: NDArray[np.float64], ordered: bool) -> None:
        self.y, p = labels, probabilities
        self.classes, predicted, confidence = p.shape[1], p.argmax(axis=1), p.max(axis=1)
        self.cells = self.y * self.classes + predicted
        self.bins = np.digitize(confidence, np.linspace(0, 1, ECE_BINS + 1)[1:-1], right=True)
        self.gaps = (predicted == self.y) - confidence
        self.brier = ((p - np.eye(self.classes)[self.y]) ** 2).sum(axis=1)
        self.ranks = [np.unique(p[:, label], return_inverse=True)[1].ravel() for label in range(self.classes)]
        grades = np.arange(self.classes)
        self.weights = (grades[:, None] - grades) ** 2 if ordered else 1 - np.eye(self.classes)

    def __call__(self, times: NDArray[np.int64]) -> dict[str, float]:
        """In the units of :data:`SHOWN`, NaN where one is not defined.

        Args:
            times: (N,) how often each image is there.
        """
        count = times.sum()
        confusion = np.bincount(self.cells, times, self.classes**2).reshape(self.classes, self.classes)
        support, predicted, correct = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
        there = np.flatnonzero(support)
        by_chance = np.outer(support, predicted) / count
        accuracy = 100 * correct.sum() / count
        with np.errstate(invalid="ignore", divide="ignore"):
            kappa = 1 - (self.weights * confusion).sum() / (self.weights * by_chance).sum()
        return {
            "accuracy": accuracy,
            "error_rate": 100 - accuracy,
            "balanced_accuracy": 100 * (correct[there] / support[there]).mean(),
            "macro_f1": 100 * (2 * correct[there] / (support + predicted)[there]).mean(),
            "macro_auroc": 100 * float(np.mean([self._auroc(label, times) for label in there])),
            "cohen_kappa": float(kappa),
            "ece": 100 * np.abs(np.bincount(self.bins, times * self.gaps)).sum() / count,
            "brier": times @ self.brier / count,
        }

    def _auroc(self, label: int, times: NDArray[np.int64]) -> float:
        """How often an image of the class has a higher probability of it than one of another (half for equal ones)."""
        own = self.y == label
        ours, others = (np.bincount(self.ranks[label], times * part) for part in (own, ~own))
        pairs = ours.sum() * others.sum()
        return float(ours @ (np.cumsum(others) - others / 2) / pairs) if pairs else math.nan


def as_text(found: Mapping[str, Any], classnames: Sequence[str]) -> str:
    """The metrics with their intervals, the confusion matrix, and the notes, for a terminal."""
    rows = []
    for name, metric in SHOWN.items():
        value, interval = found["metrics"][name], found["intervals"][name]
        unit = " %" if metric.unit else ""
        shown = "not defined" if value is None else f"{value:.{metric.digits}f}{unit}"
        between = "" if interval is None else f"{interval[0]:.{metric.digits}f} to {interval[1]:.{metric.digits}f}{unit}"
        weights = f" ({found['kappa_weights']} weights)" if name == "cohen_kappa" and found["kappa_weights"] else ""
        rows.append([metric.title + weights, shown, between])
    text = tabulate(
        rows, headers=[f"of {count_of(found['num_test'], 'image')}", "value", "95 % interval"], disable_numparse=True
    )
    names = [f"{number} {name}" for number, name in enumerate(classnames, start=1)]
    matrix = [[name, *counts] for name, counts in zip(names, found["confusion_matrix"], strict=True)]
    numbers = [str(number) for number in range(1, len(names) + 1)]
    confusion = tabulate(matrix, headers=["true class, down; predicted, across", *numbers])
    notes = "".join(f"note: {note}\n" for note in found["metric_notes"])
    return f"{text}\n\n{confusion}\n{notes}"
