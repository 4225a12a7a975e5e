"""Methods per modality: numbers with intervals on one axis, and the best ones around a circle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.cast import Cast, chance_of, hollow, keys_of, limits, synthetic, unit_of
from analysis.figure_style import INK, PAPER, SOFT, Plot, legend, legend_shape, outer_labels, panels, styled
from analysis.render import Cell
from analysis.results import Run
from analysis.summaries import Scope, Series, average_cell, by_series

RADAR_AXES, RADAR_METHODS = 3, 6  # fewest axes of a radar; most methods in one


def modality_cells(runs: Sequence[Run], scope: Scope) -> tuple[dict[str, Scope], dict[Series, list[Cell]]]:
    """The datasets of each modality, and each series' averages over them."""
    members: dict[str, list[str]] = {}
    for modality, dataset in sorted({(run.modality, run.dataset) for run in runs}):
        members.setdefault(modality, []).append(dataset)
    scopes = {modality: replace(scope, datasets=tuple(names)) for modality, names in members.items()}
    everyone = {m: [run for run in runs if run.dataset in part.datasets] for m, part in scopes.items()}
    cells = {
        series: [average_cell([r for r in own if r.dataset in part.datasets], everyone[m], part) for m, part in scopes.items()]
        for series, own in by_series(runs).items()
    }
    return scopes, cells


@styled
def bars_plot(runs: Sequence[Run], scope: Scope, cast: Cast, what: str, name: str) -> Plot:
    """A panel per modality on one axis, a line per method, best on top of the average; hollow where runs are missing.

    Args:
        runs: of one split and number of shots.
        scope: metric, datasets and seeds.
        cast: labels and looks.
        what: split and shots in words.
        name: of the file.
    """
    scopes, cells = modality_cells(runs, scope)
    sign = 1 if scope.scale.higher_is_better else -1
    order = sorted(cells, key=lambda s: sign * np.mean([c.value for c in cells[s] if c.value is not None] or [-sign * 1e9]))
    empty = hollow(cell for own in cells.values() for cell in own)
    title = f"{unit_of(scope)} per modality, {synthetic(runs)}{what}; 95 % t-interval over seeds; dashed: chance{empty}"
    chances = {m: chance_of(runs, part) for m, part in scopes.items()}
    numbers = [c.value for own in cells.values() for c in own if c.value is not None]
    span = limits(scope, [*numbers, *(c for c in chances.values() if c is not None)])
    figure, axes = panels(len(scopes), title, max(1.2, 0.6 + 0.145 * len(order)), 3)
    rows = []
    for column, (axis, (modality, part)) in enumerate(zip(axes, scopes.items(), strict=True)):
        for y, series in enumerate(order):
            cell, look = cells[series][column], cast.looks[series]
            rows.append((modality, cast.labels[series], cell.value, cell.half, cell.note))
            beside = cell.empty if cell.value is None else cell.number
            axis.text(1.02, y, beside, transform=axis.get_yaxis_transform(), va="center", fontsize=6.5,
                      color=SOFT if cell.value is None else INK)  # fmt: skip
            if cell.value is not None:
                fill = PAPER if cell.note else look.color
                axis.errorbar(cell.value, y, xerr=cell.half, color=look.color, lw=1, capsize=1.5)
                axis.plot(cell.value, y, look.marker, color=look.color, markerfacecolor=fill, clip_on=False, zorder=3,
                          ms=look.size(3.6))  # fmt: skip
        axis.set_title(f"{modality} ({', '.join(part.datasets)})" if len(", ".join(part.datasets)) < 18 else modality[:28])
        axis.set_yticks(range(len(order)), [cast.labels[s] for s in order])
        axis.grid(axis="x", visible=False)
        axis.set_ylim(-0.6, len(order) - 0.4)
        axis.set_xlabel(unit_of(scope))
        if span:
            axis.set_xlim(*span)
        if chances[modality] is not None:
            axis.axvline(chances[modality], ls=(0, (4, 3)), color=SOFT, lw=0.9, zorder=0.5)
    outer_labels(axes, x_ticks=span is not None, y_ticks=True)
    return Plot(f"bars_{name}_{scope.metric}", title, figure, ("modality", "method", scope.metric, "ci95", "note"), tuple(rows))


@styled
def radar_plot(runs: Sequence[Run], scope: Scope, cast: Cast, what: str, name: str) -> Plot | None:
    """The best methods over all modalities, at most six with the highlighted one; ``None`` below three modalities.

    Args: as :func:`bars_plot`. Only series that lack no run are drawn.
    """
    scopes, cells = modality_cells(runs, scope)
    whole = {s: [c.value for c in own] for s, own in cells.items() if all(c.value is not None and not c.note for c in own)}
    if len(scopes) < RADAR_AXES or not whole:
        return None
    sign = -1 if scope.scale.higher_is_better else 1
    best = sorted(whole, key=lambda s: (s[0] != cast.highlight, sign * float(np.mean(whole[s]))))[:RADAR_METHODS]
    keys, legend_lines = legend_shape([cast.labels[s] for s in best], 5.2)
    values = [value for series in best for value in whole[series]]
    low = max(0, 10 * math.floor(min(values) / 10 - 1)) if scope.scale.unit else 0  # the differences are small beside it
    begins = f"; the axis begins at {low}" if low else ""
    title = f"{unit_of(scope)} per modality, {synthetic(runs)}{what}: {len(best)} of {len(cells)} methods{begins}"
    figure, (axis,) = panels(1, title, 3.9, 1, legend_lines, width=5.2)
    axis.remove()
    axis = figure.add_subplot(projection="polar")
    angles = np.linspace(0, 2 * np.pi, len(scopes), endpoint=False)
    for series in best:
        look, values = cast.looks[series], whole[series]
        axis.plot([*angles, angles[0]], [*values, values[0]], look.line, color=look.color, marker=look.marker, lw=look.width)
    axis.set_xticks(angles, [modality[:24] for modality in scopes])
    axis.tick_params(axis="x", pad=10)
    axis.set_rlabel_position(180 / len(scopes))
    if scope.scale.unit:
        axis.set_ylim(low, min(100, 10 * math.ceil(max(v for s in best for v in whole[s]) / 10)))
    legend(figure, *keys_of(cast, best), keys)
    rows = tuple((m, cast.labels[s], v) for s in best for m, v in zip(scopes, whole[s], strict=True))
    return Plot(f"radar_{name}_{scope.metric}", title, figure, ("modality", "method", scope.metric), rows)
