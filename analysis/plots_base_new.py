"""New against base classes, with lines of equal harmonic mean: one panel with every method named, and one per dataset."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from analysis.cast import Cast, averaged, cell_of, chance_of, hollow, keys_of, synthetic, unit_of, with_average
from analysis.figure_style import COLUMN_WIDTH, INK, PAPER, SOFT, Plot, legend, legend_shape, outer_labels, panels, styled
from analysis.render import Cell
from analysis.results import Run
from analysis.stats import harmonic
from analysis.summaries import Scope, Series, by_series, split_of
from analysis.words import shots_of

HEADER = ("panel", "method", "base", "new", "HM", "note")
STEPS = (0.5, 1, 2, 5, 10, 20)  # between lines of equal harmonic mean
Pairs = Mapping[Series, tuple[Cell, Cell]]


@styled
def average_plot(runs: Sequence[Run], scope: Scope, cast: Cast, shots: int) -> Plot:
    """One panel, the average over the datasets (or the only one), and at its right the methods by harmonic mean.

    Args:
        runs: of the splits "base" and "new", of one number of shots.
        scope: metric, datasets and seeds.
        cast: labels and looks.
        shots: for title and name.
    """
    what, part = averaged(scope, runs)
    pairs = _pairs(runs, part, shots)
    chances = [chance_of(split_of(runs, split), part) for split in ("base", "new")]
    told = f"; chance: {chances[0]:.1f} base, {chances[1]:.1f} new" if None not in chances else ""
    empty = hollow(cell for pair in pairs.values() for cell in pair)
    title = f"Base-to-new {unit_of(scope)}, {synthetic(runs)}{shots_of(shots)}, {what}; dotted: equal HM{empty}"
    figure, (axis,) = panels(1, title + told, max(2.9, 0.155 * len(pairs) + 0.8), 1, width=COLUMN_WIDTH)
    _panel(axis, pairs, cast, unit_of(scope), chances, 5.0)
    _ranking(axis, pairs, cast)
    return Plot(f"base_new_average_{shots}shots_{scope.metric}", title + told, figure, HEADER, tuple(_rows(what, pairs, cast)))


@styled
def base_new_plot(runs: Sequence[Run], scope: Scope, cast: Cast, shots: int) -> Plot:
    """A panel per dataset, the average first. Args: as :func:`average_plot`."""
    series, parts = list(by_series(runs)), with_average(scope, runs)
    found = {what: _pairs(runs, part, shots) for what, part in parts.items()}
    keys, lines = legend_shape([cast.labels[s] for s in series])
    title = (
        f"Base-to-new {unit_of(scope)}, {synthetic(runs)}{shots_of(shots)}; dotted: equal harmonic mean; dashed: chance; "
        f"each panel has its own axes{hollow(c for pairs in found.values() for pair in pairs.values() for c in pair)}"
    )
    figure, axes = panels(len(parts), title, 1.8 if len(parts) > 3 else 2.3, min(4, max(2, len(parts))), lines)
    rows: list[tuple[Any, ...]] = []
    for axis, (what, part) in zip(axes, parts.items(), strict=True):
        pairs = found[what]
        chances = [chance_of(split_of(runs, split), part) for split in ("base", "new")]
        _panel(axis, pairs, cast, unit_of(scope), chances, 4.0)
        axis.set_title(what if len(what) <= 26 else f"{what[:25]}…", pad=11)  # above the lines' numbers
        rows += _rows(what, pairs, cast)
    outer_labels(axes, x_ticks=False, y_ticks=False)
    handles, labels = keys_of(cast, series)
    for handle in handles:
        handle.set_linestyle("none")
    legend(figure, handles, labels, keys)
    return Plot(f"base_new_{shots}shots_{scope.metric}", title, figure, HEADER, tuple(rows))


def _pairs(runs: Sequence[Run], part: Scope, shots: int) -> dict[Series, tuple[Cell, Cell]]:
    """Each series' cells of base and new classes."""
    return {
        series: tuple(cell_of(split_of(own, split), split_of(runs, split), part, shots) for split in ("base", "new"))
        for series, own in by_series(runs).items()
    }  # type: ignore[return-value]


def _hm(pair: tuple[Cell, Cell]) -> float | None:
    base, new = (cell.value for cell in pair)
    return None if base is None or new is None else harmonic(base, new)


def _rows(what: str, pairs: Pairs, cast: Cast) -> list[tuple[Any, ...]]:
    return [
        (what, cast.labels[series], base.value, new.value, _hm((base, new)), base.note or new.note)
        for series, (base, new) in pairs.items()
    ]


def _panel(axis: Axes, pairs: Pairs, cast: Cast, unit: str, chances: Sequence[float | None], size: float) -> None:
    points = []
    for series in sorted(pairs, key=lambda series: series[0] == cast.highlight):
        base, new = pairs[series]
        if base.value is None or new.value is None:
            continue
        points.append((base.value, new.value))
        look = cast.looks[series]
        fill = PAPER if base.note or new.note else look.color
        larger = 1.5 if series[0] == cast.highlight else 1.0
        axis.plot(base.value, new.value, look.marker, color=look.color, markerfacecolor=fill, zorder=3, clip_on=False,
                  ms=look.size(size * larger))  # fmt: skip
    axis.set_xlabel(f"base: {unit}")
    axis.set_ylabel(f"new: {unit}")
    axis.grid(visible=False)
    if not points:
        axis.set(xticks=[], yticks=[])
        axis.text(0.5, 0.5, "no method has\nbase and new", transform=axis.transAxes, ha="center", va="center", color=SOFT)
        return
    _equal_hm(axis, points)
    for chance, span, draw in ((chances[0], axis.get_xlim(), axis.axvline), (chances[1], axis.get_ylim(), axis.axhline)):
        if chance is not None and span[0] <= chance <= span[1]:
            draw(chance, ls=(0, (4, 3)), color=SOFT, lw=0.9, zorder=0.5)


def _equal_hm(axis: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Limits around the points, never beyond 100, and dotted lines n = h b / (2 b - h), named outside the axes."""
    values = np.array(points)
    low, high = values.min(axis=0), values.max(axis=0)
    margin = np.maximum(1.5, 0.12 * (high - low))
    low, high = np.maximum(0, low - margin), np.minimum(100, high + margin)
    axis.set_xlim(low[0], high[0])
    axis.set_ylim(low[1], high[1])
    corners = [harmonic(*low), harmonic(*high)]
    step = next((s for s in STEPS if (corners[1] - corners[0]) / s <= 7), STEPS[-1])
    for h in np.arange(math.ceil(corners[0] / step) * step, corners[1], step):
        base = np.linspace(max(low[0], h / 2 + 1e-6), high[0], 200)
        new = h * base / (2 * base - h)
        inside = (new >= low[1]) & (new <= high[1])
        if not inside.any():
            continue
        axis.plot(base[inside], new[inside], ":", color=SOFT, lw=0.7, zorder=0)
        x, y = base[inside][-1], new[inside][-1]
        if abs(x - high[0]) < 1e-9:  # it leaves at the right, else it came in from above
            axis.annotate(f"{h:g}", (x, y), (2, 0), textcoords="offset points", fontsize=6, color=SOFT, va="center")
        elif h < 2 * high[1]:
            top = h * high[1] / (2 * high[1] - h)
            if low[0] <= top <= high[0]:
                axis.annotate(f"{h:g}", (top, high[1]), (0, 1), textcoords="offset points", fontsize=6, color=SOFT, ha="center",
                              va="bottom")  # fmt: skip


def _ranking(axis: Axes, pairs: Pairs, cast: Cast) -> None:
    """The methods at the right of the panel, best harmonic mean first; those without base or new are not named."""
    ranked = sorted(((hm, s) for s, pair in pairs.items() if (hm := _hm(pair)) is not None), reverse=True)
    height = 0.142 / (axis.get_figure().get_figheight() - 0.75)
    axis.text(1.13, 1.0, "HM", transform=axis.transAxes, fontsize=7, color=SOFT, va="bottom")
    for place, (hm, series) in enumerate(ranked):
        y, look = 1.0 - (place + 0.7) * height, cast.looks[series]
        lacking = pairs[series][0].note or pairs[series][1].note
        axis.plot(1.09, y, look.marker, color=look.color, markerfacecolor=PAPER if lacking else look.color, clip_on=False,
                  ms=look.size(3.6), transform=axis.transAxes)  # fmt: skip
        weight = "bold" if series[0] == cast.highlight else "normal"
        axis.text(1.13, y, f"{hm:.2f}", transform=axis.transAxes, fontsize=7, va="center", color=INK)
        axis.annotate(cast.labels[series], (1.13, y), (26, 0), xycoords=axis.transAxes, textcoords="offset points", fontsize=7,
                      va="center", color=INK, fontweight=weight, annotation_clip=False)  # fmt: skip
