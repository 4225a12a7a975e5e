"""Figures of single settings: confusion matrices, reliability diagrams, training curves; seeds taken together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from analysis.cast import Cast, keys_of, synthetic
from analysis.curves import Curves, moving_average, read_curves
from analysis.figure_style import PAGE_WIDTH, SOFT, Plot, legend, legend_shape, outer_labels, panels, styled
from analysis.metrics import ECE_BINS
from analysis.predictions import read_predictions
from analysis.results import PREDICTIONS, DamagedRun, Run, read_record
from analysis.stats import mean
from analysis.summaries import by_series
from analysis.words import shortened

CELL = 0.19  # least inches of a cell with a number
NUMBERED = 12  # most classes whose confusion matrix shows its numbers
SMOOTH = 5  # epochs of the moving average
DOT, GAP = "#0072B2", "#D55E00"  # of reliability diagrams
ON_LIGHT, ON_DARK = "#000000", "#fefefe"  # numbers in cells, whose colours stay on a dark page


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
    room = PAGE_WIDTH - 1.4  # beside the class names at the left and the colour bar
    most = max(1, min(4, len(found), int(room / (CELL * classes + 0.15))))
    even = (number for number in (most, most - 1) if number > 1 and len(found) % number == 0)
    columns = next(even, math.ceil(len(found) / math.ceil(len(found) / most)))  # rows of equal length, if they can be
    side = min(room / columns, 3.6, max(1.2, 0.3 * classes))
    below = 0.8 / math.ceil(len(found) / columns)  # the class names, shared by the rows
    figure, axes = panels(len(found), title, 0.82 * side + 0.3 + below, columns)
    rows = []
    for axis, (series, (names, total)) in zip(axes, found.items(), strict=True):
        _matrix(axis, 100 * total / np.maximum(1, total.sum(axis=1, keepdims=True)), names)
        axis.set_title(cast.labels[series])
        rows += [
            (cast.labels[series], names[i], names[j], int(total[i, j])) for i in range(len(names)) for j in range(len(names))
        ]
    alike = len({tuple(names) for names, _ in found.values()}) == 1
    outer_labels(axes, x_ticks=alike, y_ticks=alike)
    bar = figure.colorbar(ScalarMappable(Normalize(0, 100), "Blues"), ax=axes, shrink=0.8, aspect=30, pad=0.02)
    bar.set_label("% of the true class", fontsize=7)
    bar.outline.set_visible(False)
    return Plot(
        f"confusion_{name}", title, figure, ("method", "true class", "predicted class", "images"), tuple(rows), runs[0].dataset
    )


def _matrix(axis: Axes, share: NDArray[np.float64], names: Sequence[str]) -> None:
    """Cells as shapes, not as a picture: sharp in print, and small."""
    axis.pcolormesh(share, cmap="Blues", vmin=0, vmax=100, edgecolors="none")
    axis.set(aspect="equal", xlabel="predicted", ylabel="true", ylim=(len(names), 0))
    ticks, places = [shortened(name, 16) for name in names], np.arange(len(names)) + 0.5
    axis.set_xticks(places, ticks, rotation=45, ha="right", rotation_mode="anchor", fontsize=6)
    axis.set_yticks(places, ticks, fontsize=6)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.grid(visible=False)
    if len(names) <= NUMBERED:
        for i, row in enumerate(share):
            for j, value in enumerate(whole_percents(row)):
                color = ON_DARK if share[i, j] > 55 else ON_LIGHT
                axis.text(j + 0.5, i + 0.5, f"{value}", ha="center", va="center", fontsize=6, color=color)


def whole_percents(shares: NDArray[np.float64]) -> list[int]:
    """Shares in % as whole numbers that add up to what the shares do, 100 or 0: the largest remainders are rounded up."""
    floors = np.floor(shares + 1e-9).astype(int)
    for place in np.argsort(floors - shares, kind="stable")[: round(float(shares.sum())) - int(floors.sum())]:
        floors[place] += 1
    return [int(one) for one in floors]


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
    figure, axes = panels(len(groups), title, 1.85, 4)
    rows = []
    for axis, (series, (bins, eces)) in zip(axes, groups.items(), strict=True):
        images = sum(n for n, _, _ in bins)
        x, y = ([100 * b[k] for b in bins] for k in (1, 2))
        axis.plot([0, 100], [0, 100], "--", color=SOFT, lw=0.8)
        axis.vlines(x, x, y, color=GAP, lw=1)
        axis.plot(x, y, "-", color=DOT, lw=0.9)
        axis.scatter(x, y, [4 + 90 * n / images for n, _, _ in bins], color=DOT, alpha=0.8, zorder=3, clip_on=False)
        known = [e for e in eces if e is not None]
        axis.set_title(cast.labels[series] + (f"\nECE {mean(known):.1f} %" if known else ""))
        axis.set(
            xlim=(0, 100),
            ylim=(0, 100),
            xticks=range(0, 101, 25),
            yticks=range(0, 101, 25),
            xlabel="confidence (%)",
            ylabel="accuracy (%)",
            aspect="equal",
        )
        rows += [(cast.labels[series], n, conf, acc) for n, conf, acc in bins]
    outer_labels(axes, x_ticks=True, y_ticks=True)
    header = ("method", "images", "confidence", "accuracy")
    return Plot(f"reliability_{name}", title, figure, header, tuple(rows), runs[0].dataset)


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
    keys, legend_lines = legend_shape([cast.labels[s] for s in drawn])
    title = f"Training, {synthetic(runs)}{what}, mean over seeds"
    long = any(len(c.epochs) > 4 * SMOOTH for own in curves.values() for c in own)
    title += f", moving average over {SMOOTH} epochs" if long else ""
    figure, axes = panels(2, title, 2.5, 2, legend_lines)
    rows = []
    for axis, meter, label in zip(axes, ("loss", "acc"), ("loss on the batch", "accuracy on the batch (%)"), strict=True):
        for series in drawn:
            epochs, values = mean_curve(curves[series], meter)
            look = cast.looks[series]
            rows += [(meter, cast.labels[series], epoch, value) for epoch, value in zip(epochs, values, strict=True)]
            shown = moving_average(tuple(values), SMOOTH) if long else values
            every = max(1, len(epochs) // 6)
            axis.plot(epochs, shown, look.line, color=look.color, lw=look.width, marker=look.marker, markevery=every,
                      clip_on=meter != "acc")  # fmt: skip
        axis.set(xlabel="epoch", ylabel=label)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.set_ylim(*((0, 100) if meter == "acc" else (min(0, axis.get_ylim()[0]), None)))
    legend(figure, *keys_of(cast, drawn), keys)
    return Plot(f"training_{name}", title, figure, ("meter", "method", "epoch", "value"), tuple(rows), runs[0].dataset)
