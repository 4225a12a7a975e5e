"""Accuracy against training images per class: one panel with every method named at its curve, and one per dataset."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from sklearn.isotonic import IsotonicRegression

from analysis.cast import Cast, averaged, cell_of, chance_of, hollow, keys_of, limits, synthetic, unit_of, with_average
from analysis.figure_style import (
    COLUMN_WIDTH,
    GRID,
    INK,
    PAPER,
    SOFT,
    Plot,
    legend,
    legend_shape,
    outer_labels,
    panels,
    styled,
)  # fmt: skip
from analysis.method_looks import Look
from analysis.render import Cell
from analysis.results import Run
from analysis.summaries import Scope, Series, by_series

INTERVALS = 6  # most methods that are drawn with intervals
HEADER = ("panel", "method", "shots")
Cells = Mapping[Series, Sequence[Cell]]


@styled
def average_plot(runs: Sequence[Run], scope: Scope, cast: Cast) -> Plot:
    """One panel, the average over the datasets (or the only one), each method named and with its number at the right.

    Args:
        runs: of the split "all".
        scope: metric, datasets and seeds.
        cast: labels and looks.
    """
    what, part = averaged(scope, runs)
    shots, cells = _shots(runs), _cells(runs, part)
    title = f"Few-shot {unit_of(scope)}, {synthetic(runs)}{what}{hollow(c for own in cells.values() for c in own)}"
    figure, (axis,) = panels(1, title, max(2.9, 0.155 * len(cells) + 0.8), 1, width=COLUMN_WIDTH)
    bars = len(cells) <= INTERVALS
    _panel(axis, cells, cast, shots, unit_of(scope), bars)
    chance = chance_of(runs, part)
    numbers = _ends((c for own in cells.values() for c in own), bars)
    span = limits(scope, [*numbers, *([chance] if chance is not None else [])])
    _bound(axis, span, chance)
    _names(axis, cells, cast, len(shots))
    rows = _rows(what, cells, cast, shots)
    return Plot(f"few_shot_average_{scope.metric}", title, figure, (*HEADER, scope.metric, "ci95", "note"), tuple(rows))


@styled
def shots_plot(runs: Sequence[Run], scope: Scope, cast: Cast) -> Plot:
    """The figure of CoOp (Zhou et al., 2022, figure 3): a panel per dataset, the average first, all with one y axis.

    Args: as :func:`average_plot`.
    """
    parts, shots = with_average(scope, runs), _shots(runs)
    found = {what: _cells(runs, part) for what, part in parts.items()}
    series = list(by_series(runs))
    keys, lines = legend_shape([cast.labels[s] for s in series])
    bars = len(series) <= INTERVALS
    told = "95 % t-interval over seeds; " if bars else ""
    every = [c for cells in found.values() for own in cells.values() for c in own]
    title = f"Few-shot {unit_of(scope)}, {synthetic(runs)}{told}dashed: chance{hollow(every)}"
    figure, axes = panels(len(parts), title, 1.7 if len(parts) > 3 else 2.2, min(4, max(2, len(parts))), lines)
    chances = {what: chance_of(runs, part) for what, part in parts.items()}
    numbers = _ends(every, bars)
    span = limits(scope, [*numbers, *(c for c in chances.values() if c is not None)])
    rows: list[tuple[Any, ...]] = []
    for axis, (what, cells) in zip(axes, found.items(), strict=True):
        _panel(axis, cells, cast, shots, unit_of(scope), bars)
        _bound(axis, span, chances[what], written=False)
        axis.set_title(what if len(what) <= 26 else f"{what[:25]}…")
        rows += _rows(what, cells, cast, shots)
    outer_labels(axes, x_ticks=True, y_ticks=span is not None)
    legend(figure, *keys_of(cast, series), keys)
    return Plot(f"few_shot_{scope.metric}", title, figure, (*HEADER, scope.metric, "ci95", "note"), tuple(rows))


def _ends(cells: Iterable[Cell], bars: bool) -> list[float]:
    """What the y axis must hold: the numbers, and with ``bars`` both ends of their intervals."""
    known = [(c.value, (c.half or 0.0) if bars else 0.0) for c in cells if c.value is not None]
    return [value + sign * half for value, half in known for sign in (-1, 1)]


def _shots(runs: Sequence[Run]) -> list[int]:
    return sorted({run.shots for run in runs}, key=lambda k: math.inf if k < 0 else k)  # -1: all images


def _cells(runs: Sequence[Run], part: Scope) -> dict[Series, list[Cell]]:
    return {series: [cell_of(own, runs, part, k) for k in _shots(runs)] for series, own in by_series(runs).items()}


def _rows(what: str, cells: Cells, cast: Cast, shots: Sequence[int]) -> list[tuple[Any, ...]]:
    return [
        (what, cast.labels[series], k, c.value, c.half, c.note)
        for series, own in cells.items()
        for k, c in zip(shots, own, strict=True)
    ]


def _panel(axis: Axes, cells: Cells, cast: Cast, shots: Sequence[int], unit: str, bars: bool) -> None:
    """Every series' curve, the highlighted one on top."""
    order = sorted(cells, key=lambda series: series[0] == cast.highlight)
    for number, series in enumerate(order):
        shift = (number - (len(order) - 1) / 2) * 0.04 if bars else 0.0
        _line(axis, cells[series], cast.looks[series], shift, bars)
    axis.set_xticks(range(len(shots)), ["all" if k < 0 else str(k) for k in shots])
    axis.set_xlim(-0.25, len(shots) - 0.75)
    axis.set_xlabel("training images per class")
    axis.set_ylabel(unit)
    axis.grid(axis="x", visible=False)


def _line(axis: Axes, cells: Sequence[Cell], look: Look, shift: float, bars: bool) -> None:
    """A curve through the cells that have every dataset; what lacks some stands alone beside it, hollow."""
    on_curve = [None if c.value is None or "datasets" in c.note else c.value for c in cells]
    x = np.arange(len(cells)) + shift
    axis.plot(x, [np.nan if v is None else v for v in on_curve], look.line, color=look.color, lw=look.width, clip_on=False)
    for place, cell in zip(x, cells, strict=True):
        if cell.value is None:
            continue
        fill = PAPER if cell.note else look.color
        axis.plot(place, cell.value, look.marker, color=look.color, markerfacecolor=fill, zorder=3, clip_on=False,
                  ms=look.size(3.6))  # fmt: skip
        if bars and cell.half is not None:
            axis.errorbar(place, cell.value, cell.half, color=look.color, lw=0.8, capsize=2, zorder=1)


def _bound(axis: Axes, span: tuple[float, float] | None, chance: float | None, written: bool = True) -> None:
    """The limits of the y axis, and a dashed line where guessing is."""
    if span:
        axis.set_ylim(*span)
    if chance is not None:
        axis.axhline(chance, ls=(0, (4, 3)), color=SOFT, lw=0.9, zorder=0.5)
        if written:
            at = (axis.get_xlim()[0], chance)
            axis.annotate(f"chance {chance:.1f}", at, (4, 2), textcoords="offset points", fontsize=6.5, color=SOFT, va="bottom",
                          bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.6}, zorder=0.6)  # fmt: skip


def _names(axis: Axes, cells: Cells, cast: Cast, columns: int) -> None:
    """Each method's name and number at the right of its last marker, as near its height as they have room."""
    last = {s: max((n for n, c in enumerate(own) if c.value is not None), default=None) for s, own in cells.items()}
    ordered = sorted((s for s in cells if last[s] is not None), key=lambda s: cells[s][last[s]].value)
    if not ordered:
        return
    low, high = axis.get_ylim()
    heights = np.array([cells[s][last[s]].value for s in ordered])
    inches = axis.get_figure().get_figheight() - 0.75
    places = spread(heights, (high - low) * 0.142 / inches, low, high)
    axis.set_xlim(-0.25, max(0.25, columns - 1 + 0.05 * columns))
    edge = axis.get_xlim()[1]
    step = (edge + 0.25) * 0.05
    for series, height, place in zip(ordered, heights, places, strict=True):
        look, cell = cast.looks[series], cells[series][last[series]]
        at = edge + step
        axis.plot([last[series], edge, at], [height, place, place], "-", color=GRID, lw=0.7, clip_on=False, zorder=0.4)
        axis.plot(at, place, look.marker, color=look.color, markerfacecolor=PAPER if cell.note else look.color, clip_on=False,
                  ms=look.size(3.6))  # fmt: skip
        weight = "bold" if series[0] == cast.highlight else "normal"
        axis.text(at + 0.7 * step, place, cell.number, fontsize=7, va="center", color=INK)
        axis.annotate(cast.labels[series], (at + 0.7 * step, place), (26, 0), textcoords="offset points", fontsize=7,
                      va="center", color=INK, fontweight=weight, annotation_clip=False)  # fmt: skip


def spread(heights: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Places next to the ascending ``heights`` (least squares), ``gap`` or more apart, in low … high where they fit."""
    steps = gap * np.arange(len(heights))
    fitted = IsotonicRegression(y_min=low, y_max=max(low, high - steps[-1])).fit_transform(
        np.arange(len(heights)), heights - steps
    )
    return fitted + steps
