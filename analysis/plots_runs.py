"""Figures of single settings: confusion matrices, reliability diagrams, training curves; seeds taken together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis.curves import Curves, moving_average, read_curves
from analysis.figure_style import Plot, legend, legend_shape, outer_labels, panels, shortened, styled
from analysis.metrics import ECE_BINS
from analysis.plots_scores import Cast, keys_of, synthetic
from analysis.predictions import read_predictions
from analysis.results import PREDICTIONS, DamagedRun, Run, read_record
from analysis.stats import mean
from analysis.summaries import by_series

NUMBERED = 12  # most classes whose confusion matrix shows its numbers
SMOOTH = 5  # epochs of the moving average


def record_of(run: Run) -> Mapping[str, Any] | None:
    """The results file; ``None`` where it went away since it was read."""
    try:
        return read_record(run.folder)
    except DamagedRun:
        return None


# -- confusion --------------------------------------------------------------------------------------------


def confusions(runs: Sequence[Run]) -> tuple[list[str], NDArray[np.int64] | None]:
    """Class names and the sum of the confusion matrices (true classes as rows) of runs with the same classes."""
    names: list[str] = []
    total = None
    for record in filter(None, map(record_of, runs)):
        try:
            matrix = np.array(record["confusion_matrix"], dtype=np.int64)
            own = [str(name) for name in record["classnames"]]
        except (KeyError, TypeError, ValueError):
            continue
        if matrix.shape != (len(own), len(own)) or (names and names != own):
            continue
        names, total = own, matrix if total is None else total + matrix
    return names, total


@styled
def confusion_plot(runs: Sequence[Run], cast: Cast, what: str, name: str) -> Plot | None:
    """A matrix per method, in % of the true class, all seeds together; ``None`` where there is one class.

    Args:
        runs: of one dataset, split and number of shots.
        cast: labels.
        what: these in words.
        name: of the file.
    """
    found = {series: confusions(own) for series, own in by_series(runs).items()}
    found = {series: (names, total) for series, (names, total) in found.items() if total is not None and len(names) > 1}
    if not found:
        return None
    title = f"Confusion in % of the true class, {synthetic(runs)}{what}, seeds together"
    classes = max(len(names) for names, _ in found.values())
    few = len(found) <= 4  # then the labels take a larger part of the figure
    side = min(5.0, max(2.6, 1.8 + 0.3 * classes) if few else max(1.7, 0.9 + 0.3 * classes))
    figure, axes = panels(len(found), title, (side, side), max(1, min(4, int(10 / side))))
    rows = []
    for axis, (series, (names, total)) in zip(axes, found.items(), strict=True):
        share = 100 * total / np.maximum(1, total.sum(axis=1, keepdims=True))
        _matrix(axis, share, names)
        axis.set_title(cast.labels[series])
        rows += [
            (cast.labels[series], names[i], names[j], int(total[i, j])) for i in range(len(names)) for j in range(len(names))
        ]
    outer_labels(axes, ticks=len({tuple(names) for names, _ in found.values()}) == 1)
    return Plot(f"confusion_{name}", title, figure, ("method", "true class", "predicted class", "images"), tuple(rows))


def _matrix(axis: Axes, share: NDArray[np.float64], names: Sequence[str]) -> None:
    axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    ticks = [shortened(name, 16) for name in names]
    axis.set_xticks(range(len(names)), ticks, rotation=45, ha="right", rotation_mode="anchor", fontsize=7)
    axis.set_yticks(range(len(names)), ticks, fontsize=7)
    axis.set_xlabel("predicted", fontsize=8)
    axis.set_ylabel("true", fontsize=8)
    axis.grid(visible=False)
    if len(names) <= NUMBERED:
        for (i, j), value in np.ndenumerate(share):
            color = "white" if value > 55 else "black"
            axis.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=7, color=color)


# -- calibration ------------------------------------------------------------------------------------------


def reliability(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> list[tuple[int, float, float]]:
    """Images, mean confidence and accuracy in [0, 1] of each bin (lo, hi] that has images: the bins of the ECE."""
    which = np.digitize(confidence, np.linspace(0, 1, ECE_BINS + 1)[1:-1], right=True)
    bins = ((which == b) for b in range(ECE_BINS))
    return [(int(own.sum()), float(confidence[own].mean()), float(correct[own].mean())) for own in bins if own.any()]


def confidences(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Highest probability of each test image (N,), and whether its class is the true one (N,); empty without predictions."""
    try:
        kept = read_predictions(folder / PREDICTIONS)
    except DamagedRun:
        return np.zeros(0), np.zeros(0, dtype=bool)
    return kept.probabilities.max(axis=1), kept.probabilities.argmax(axis=1) == kept.labels


@styled
def reliability_plot(runs: Sequence[Run], cast: Cast, what: str, name: str) -> Plot | None:
    """Accuracy over confidence per method, images of all seeds together, with the mean ECE of the runs.

    ``None`` where no run kept predictions. Args: as :func:`confusion_plot`.
    """
    groups = {}
    for series, own in by_series(runs).items():
        pairs = [confidences(run.folder) for run in own]
        confidence, correct = (np.concatenate(side) for side in zip(*pairs, strict=True))
        if len(confidence):
            groups[series] = (reliability(confidence, correct), [run.metrics.get("ece") for run in own])
    if not groups:
        return None
    title = f"Reliability, {synthetic(runs)}{what}, seeds together; {ECE_BINS} bins, area of a point: share of the images"
    figure, axes = panels(len(groups), title, (2.4, 2.4), 5)
    rows = []
    for axis, (series, (bins, eces)) in zip(axes, groups.items(), strict=True):
        images = sum(n for n, _, _ in bins)
        x, y = ([100 * b[k] for b in bins] for k in (1, 2))
        axis.plot([0, 100], [0, 100], "--", color="#777777", lw=0.8)
        axis.vlines(x, x, y, color="#D55E00", lw=1)
        axis.plot(x, y, "-", color="#0072B2", lw=1)
        axis.scatter(x, y, [8 + 200 * n / images for n, _, _ in bins], color="#0072B2", alpha=0.75, zorder=3)
        known = [e for e in eces if e is not None]
        axis.set_title(cast.labels[series] + (f"\nECE {mean(known):.1f} %" if known else ""))
        axis.set(xlim=(0, 102), ylim=(-2, 102), xlabel="confidence (%)", ylabel="accuracy (%)", aspect="equal")
        rows += [(cast.labels[series], n, conf, acc) for n, conf, acc in bins]
    outer_labels(axes, ticks=True)
    return Plot(f"reliability_{name}", title, figure, ("method", "images", "confidence", "accuracy"), tuple(rows))


# -- training ---------------------------------------------------------------------------------------------


def mean_curve(curves: Sequence[Curves], meter: str) -> tuple[list[int], list[float]]:
    """Mean over runs of a meter, at the epochs that all runs have."""
    own = [dict(zip(c.epochs, c.meters[meter], strict=True)) for c in curves if meter in c.meters]
    shared = sorted(set.intersection(*(set(c) for c in own))) if own else []
    return shared, [mean([c[e] for c in own]) for e in shared]


@styled
def training_plot(runs: Sequence[Run], cast: Cast, what: str, name: str) -> Plot | None:
    """Training loss and accuracy over epochs, mean over seeds; ``None`` where no log has epochs.

    Args: as :func:`confusion_plot`.
    """
    curves = {series: [read_curves(run.folder) for run in own] for series, own in by_series(runs).items()}
    drawn = [series for series, own in curves.items() if any(c.epochs for c in own)]
    if not drawn:
        return None
    keys, legend_lines = legend_shape([cast.labels[s] for s in drawn], 9.0)
    title = f"Training, {synthetic(runs)}{what}, mean over seeds"
    long = any(len(c.epochs) > 4 * SMOOTH for own in curves.values() for c in own)
    title += f", moving average over {SMOOTH} epochs" if long else ""
    figure, axes = panels(2, title, (4.5, 3.0), 2, legend_lines)
    rows = []
    for axis, meter, label in zip(axes, ("loss", "acc"), ("loss on the batch", "accuracy on the batch (%)"), strict=True):
        for series in drawn:
            epochs, values = mean_curve(curves[series], meter)
            look = cast.looks[series]
            rows += [(meter, cast.labels[series], epoch, value) for epoch, value in zip(epochs, values, strict=True)]
            shown = moving_average(tuple(values), SMOOTH) if long else values
            every = max(1, len(epochs) // 6)
            axis.plot(epochs, shown, look.line, color=look.color, lw=look.width, marker=look.marker, markevery=every)
        axis.set(xlabel="epoch", ylabel=label)
    legend(figure, *keys_of(cast, drawn), keys)
    return Plot(f"training_{name}", title, figure, ("meter", "method", "epoch", "value"), tuple(rows))
