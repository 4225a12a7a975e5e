"""Figures of averages: accuracy against shots, base against new, methods per modality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.counted import counted
from analysis.figure_style import Look, Plot, legend, legend_shape, looks, outer_labels, panels, styled
from analysis.render import Cell
from analysis.results import Run
from analysis.stats import harmonic
from analysis.summaries import Scope, Series, average_cell, by_series, names_of, split_of

HIGHLIGHTED, OTHERS = "#A33F00", "#2B6A99"  # of bars: dark enough for white numbers
RADAR_AXES, RADAR_METHODS, INTERVALS = 3, 6, 6  # fewest axes of a radar; most methods in a radar, and with intervals


@dataclass(frozen=True)
class Cast:
    """Who is drawn, and how: the same in every figure.

    Attributes:
        labels: of each series.
        looks: of each series.
        highlight: the method drawn thicker.
    """

    labels: dict[Series, str]
    looks: dict[Series, Look]
    highlight: str


def cast_of(runs: Sequence[Run], highlight: str) -> Cast:
    """Labels say of backbone and setting only what tells two series apart."""
    groups = by_series(runs)
    many = len({run.backbone for run in runs}) > 1
    labels: dict[Series, str] = {}
    for series, own in groups.items():
        method, backbone, setting = series
        alone = len({other[2] for other in groups if other[:2] == series[:2]}) == 1
        words = [method, backbone if many else "", "" if alone else setting or names_of(own)[2]]
        labels[series] = ", ".join(filter(None, words))
    return Cast(labels, looks(list(groups), [series[0] == highlight for series in groups]), highlight)


def synthetic(runs: Sequence[Run]) -> str:
    """What a title says of generated data."""
    kinds = {run.rehearsal for run in runs}
    return "rehearsal (synthetic), " if kinds == {True} else "PARTLY rehearsal (synthetic), " if True in kinds else ""


def unit_of(scope: Scope) -> str:
    return f"{scope.scale.title} ({scope.scale.unit})" if scope.scale.unit else scope.scale.title


def with_average(scope: Scope, runs: Sequence[Run]) -> dict[str, Scope]:
    """A panel per dataset; of several that count in the runs' protocol, their average first."""
    single = {name: replace(scope, datasets=(name,)) for name in scope.datasets}
    averaged = {run.dataset for run in counted(runs)}
    several = replace(scope, datasets=tuple(name for name in scope.datasets if name in averaged))
    return {f"average over {len(several.datasets)} datasets": several, **single} if len(several.datasets) > 1 else single


def keys_of(cast: Cast, drawn: Sequence[Series]) -> tuple[list[Line2D], list[str]]:
    """Legend entries."""
    handles = [Line2D([], [], color=k.color, marker=k.marker, ls=k.line, lw=k.width) for k in map(cast.looks.get, drawn) if k]
    return handles, [cast.labels[series] for series in drawn]


# -- accuracy against shots -------------------------------------------------------------------------------


@styled
def shots_plot(runs: Sequence[Run], scope: Scope, cast: Cast) -> Plot:
    """The figure of CoOp (Zhou et al., 2022, figure 3): a panel per dataset, the average first.

    Args:
        runs: of the split "all".
        scope: metric, datasets and seeds.
        cast: labels and looks.
    """
    groups, parts = by_series(runs), with_average(scope, runs)
    shots = sorted({run.shots for run in runs}, key=lambda k: math.inf if k < 0 else k)  # -1: all images
    columns = min(4, len(parts))
    keys, legend_lines = legend_shape([cast.labels[s] for s in groups], max(columns * 3.1, 4.6))
    bars = len(groups) <= INTERVALS
    told = "95 % t-interval over seeds; " if bars else ""
    title = f"Few-shot {unit_of(scope)}, {synthetic(runs)}{told}hollow: runs missing"
    figure, axes = panels(len(parts), title, (3.1, 2.6), columns, legend_lines)
    rows = []
    for axis, (what, part) in zip(axes, parts.items(), strict=True):
        for number, (series, own) in enumerate(groups.items()):
            cells = [_cell_at(own, runs, part, k) for k in shots]
            shift = (number - (len(groups) - 1) / 2) * 0.04 if bars else 0.0
            _line(axis, cells, cast.looks[series], shift, bars)
            rows += [(what, cast.labels[series], k, c.value, c.half, c.note) for k, c in zip(shots, cells, strict=True)]
        axis.set_title(what)
        axis.set_xticks(range(len(shots)), ["all" if k < 0 else str(k) for k in shots])
        axis.set_xlim(-0.3, len(shots) - 0.7)
        axis.set_xlabel("training images per class")
        axis.set_ylabel(unit_of(scope))
    outer_labels(axes, ticks=False)
    legend(figure, *keys_of(cast, list(groups)), keys)
    return Plot(
        f"few_shot_{scope.metric}", title, figure, ("panel", "method", "shots", scope.metric, "ci95", "note"), tuple(rows)
    )


def _cell_at(own: Sequence[Run], everyone: Sequence[Run], scope: Scope, shots: int) -> Cell:
    part, all_rows = ([r for r in some if r.shots == shots and r.dataset in scope.datasets] for some in (own, everyone))
    return average_cell(part, all_rows, scope)


def _line(axis: Axes, cells: Sequence[Cell], look: Look, shift: float, bars: bool) -> None:
    there = [(x + shift, cell) for x, cell in enumerate(cells) if cell.value is not None]
    axis.plot([x for x, _ in there], [c.value for _, c in there], look.line, color=look.color, lw=look.width)
    for x, cell in there:
        fill = "white" if cell.note else look.color
        axis.plot(x, cell.value, look.marker, color=look.color, markerfacecolor=fill, zorder=3)
        if bars and cell.half is not None:
            axis.errorbar(x, cell.value, cell.half, color=look.color, lw=0.8, capsize=2, zorder=1)


# -- base against new -------------------------------------------------------------------------------------


@styled
def base_new_plot(runs: Sequence[Run], scope: Scope, cast: Cast, shots: int) -> Plot:
    """New over base with lines of equal harmonic mean, a panel per dataset, the average first.

    Args:
        runs: of the splits "base" and "new", of one number of shots.
        scope: metric, datasets and seeds.
        cast: labels and looks.
        shots: for title and name.
    """
    groups, parts = by_series(runs), with_average(scope, runs)
    columns = min(4, len(parts))
    keys, legend_lines = legend_shape([cast.labels[s] for s in groups], max(columns * 3.0, 4.6))
    title = f"Base-to-new {unit_of(scope)}, {synthetic(runs)}{shots} shots; dotted: equal harmonic mean; hollow: runs missing"
    figure, axes = panels(len(parts), title, (3.0, 3.0), columns, legend_lines)
    rows = []
    for axis, (what, part) in zip(axes, parts.items(), strict=True):
        points = []
        for series, own in groups.items():
            base, new = (_cell_at(split_of(own, split), split_of(runs, split), part, shots) for split in ("base", "new"))
            hm = harmonic(base.value, new.value) if base.value is not None and new.value is not None else None
            rows.append((what, cast.labels[series], base.value, new.value, hm, base.note or new.note))
            if hm is not None:
                points.append((base.value, new.value))
                look = cast.looks[series]
                fill = "white" if base.note or new.note else look.color
                size = 9 if series[0] == cast.highlight else 7
                axis.plot(base.value, new.value, look.marker, color=look.color, markerfacecolor=fill, ms=size, alpha=0.9)
        axis.set_title(what)
        axis.set_xlabel(f"base: {unit_of(scope)}")
        axis.set_ylabel(f"new: {unit_of(scope)}")
        _equal_hm(axis, points)
    outer_labels(axes, ticks=False)
    handles, labels = keys_of(cast, list(groups))
    for handle in handles:
        handle.set_linestyle("none")
    legend(figure, handles, labels, keys)
    header = ("panel", "method", "base", "new", "HM", "note")
    return Plot(f"base_new_{shots}shots_{scope.metric}", title, figure, header, tuple(rows))


def _equal_hm(axis: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Limits around the points, and dotted lines n = h b / (2 b - h) through them."""
    if not points:
        axis.text(0.5, 0.5, "no method has base and new", transform=axis.transAxes, ha="center")
        return
    values = np.array(points)
    low, high = values.min(axis=0), values.max(axis=0)
    margin = np.maximum(1.5, 0.1 * (high - low))
    axis.set_xlim(low[0] - margin[0], min(101, high[0] + margin[0]))
    axis.set_ylim(low[1] - margin[1], min(101, high[1] + margin[1]))
    base = np.linspace(max(1e-3, low[0] - margin[0]), min(101, high[0] + margin[0]), 200)
    corners = [harmonic(max(0.0, c[0]), max(0.0, c[1])) for c in (low - margin, high + margin)]
    step = next((s for s in (1, 2, 5, 10, 20) if (corners[1] - corners[0]) / s <= 6), 20)
    for h in np.arange(math.ceil(corners[0] / step) * step, corners[1], step):
        ok = 2 * base - h > 1e-6
        new = h * base[ok] / (2 * base[ok] - h)
        inside = (new >= axis.get_ylim()[0]) & (new <= axis.get_ylim()[1])
        if inside.any():
            axis.plot(base[ok][inside], new[inside], ":", color="#888888", lw=0.8, zorder=0)
            last = np.flatnonzero(inside)[-1]
            axis.annotate(f"{h:g}", (base[ok][last], new[last]), fontsize=7, color="#666666", ha="right", va="bottom")


# -- methods per modality ---------------------------------------------------------------------------------


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
    """A panel per modality, a bar per method, best on top of the first panel; outlined where runs are missing.

    Args:
        runs: of one split and number of shots.
        scope: metric, datasets and seeds.
        cast: labels and the highlighted method.
        what: split and shots in words.
        name: of the file.
    """
    scopes, cells = modality_cells(runs, scope)
    sign = 1 if scope.scale.higher_is_better else -1
    order = sorted(cells, key=lambda s: sign * np.mean([c.value for c in cells[s] if c.value is not None] or [-sign * 1e9]))
    title = f"{unit_of(scope)} per modality, {synthetic(runs)}{what}; 95 % t-interval over seeds; outlined: runs missing"
    figure, axes = panels(len(scopes), title, (3.1, max(1.3, 0.75 + 0.21 * len(order))), 3)
    rows = []
    for column, (axis, (modality, part)) in enumerate(zip(axes, scopes.items(), strict=True)):
        for y, series in enumerate(order):
            cell = cells[series][column]
            rows.append((modality, cast.labels[series], cell.value, cell.half, cell.note))
            color = HIGHLIGHTED if series[0] == cast.highlight else OTHERS
            if cell.value is None:
                axis.text(0.02, y, cell.empty, transform=axis.get_yaxis_transform(), va="center", fontsize=7, color="#555555")
                continue
            fill = "white" if cell.note else color
            axis.barh(y, cell.value, color=fill, edgecolor=color, height=0.72, lw=1)
            if cell.half is not None:
                axis.errorbar(cell.value, y, xerr=cell.half, color="black", lw=0.8, capsize=1.5)
            axis.text(0.02, y, cell.number, transform=axis.get_yaxis_transform(), va="center", fontsize=7,
                      color=color if cell.note else "white", fontweight="bold")  # fmt: skip
        axis.set_title(f"{modality} ({', '.join(part.datasets)})" if len(part.datasets) < 4 else modality)
        axis.set_yticks(range(len(order)), [cast.labels[s] for s in order] if column % 3 == 0 else [])
        axis.grid(axis="y", visible=False)
        axis.set_ylim(-0.6, len(order) - 0.4)
        axis.set_xlabel(unit_of(scope))
        if scope.scale.unit:
            axis.set_xlim(0, 100)
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
    keys, legend_lines = legend_shape([cast.labels[s] for s in best], 5.6)
    title = f"{unit_of(scope)} per modality, {synthetic(runs)}{what}: {len(best)} of {len(cells)} methods"
    figure, (axis,) = panels(1, title, (5.6, 4.4), 1, legend_lines)
    axis.remove()
    axis = figure.add_subplot(projection="polar")
    angles = np.linspace(0, 2 * np.pi, len(scopes), endpoint=False)
    for series in best:
        look, values = cast.looks[series], whole[series]
        axis.plot([*angles, angles[0]], [*values, values[0]], look.line, color=look.color, marker=look.marker, lw=look.width)
    axis.set_xticks(angles, list(scopes))
    axis.tick_params(axis="x", pad=10)
    axis.set_rlabel_position(180 / len(scopes))
    values = [value for series in best for value in whole[series]]
    if scope.scale.unit:  # not from 0: the differences are small beside it
        axis.set_ylim(max(0, 10 * math.floor(min(values) / 10 - 1)), min(100, 10 * math.ceil(max(values) / 10)))
    legend(figure, *keys_of(cast, best), keys)
    rows = tuple((m, cast.labels[s], v) for s in best for m, v in zip(scopes, whole[s], strict=True))
    return Plot(f"radar_{name}_{scope.metric}", title, figure, ("modality", "method", scope.metric), rows)
