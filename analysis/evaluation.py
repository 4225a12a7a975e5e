"""Metrics of labelled images with intervals, by the bootstrap over images: :mod:`analysis.metrics` and the Brier score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from tabulate import tabulate
from tqdm import tqdm

from analysis.metrics import METRICS, Metric, metrics

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
    generator = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in found["metrics"]}
    for _ in tqdm(range(resamples), desc="bootstrap", disable=None, leave=False):
        rows = generator.integers(len(y), size=len(y))
        once = metrics(y[rows], p[rows], classnames, ordered)["metrics"] | {"brier": brier_score(y[rows], p[rows])}
        for name, value in once.items():
            if value is not None:
                drawn[name].append(value)
    intervals: dict[str, list[float] | None] = {}
    for name, values in drawn.items():
        whole = len(values) >= DEFINED * resamples and found["metrics"][name] is not None
        intervals[name] = np.percentile(values, [2.5, 97.5]).tolist() if whole else None
        if not whole and found["metrics"][name] is not None:
            found["metric_notes"].append(
                f"{name} has no interval: {resamples - len(values)} of {resamples} draws leave it undefined"
            )
    return found | {"intervals": intervals, "resamples": resamples, "seed": seed}


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
    text = tabulate(rows, headers=[f"of {found['num_test']} images", "value", "95 % interval"], disable_numparse=True)
    names = [f"{number} {name}" for number, name in enumerate(classnames, start=1)]
    matrix = [[name, *counts] for name, counts in zip(names, found["confusion_matrix"], strict=True)]
    numbers = [str(number) for number in range(1, len(names) + 1)]
    confusion = tabulate(matrix, headers=["true class, down; predicted, across", *numbers])
    notes = "".join(f"note: {note}\n" for note in found["metric_notes"])
    return f"{text}\n\n{confusion}\n{notes}"
