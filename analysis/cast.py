"""Who is drawn in the figures and how they are called; what a panel covers, chance, and limits that panels share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from matplotlib.lines import Line2D

from analysis.counted import counted
from analysis.method_looks import Look, looks
from analysis.render import Cell
from analysis.results import Run
from analysis.stats import mean
from analysis.summaries import Scope, Series, average_cell, by_series
from analysis.words import cut_inside, short_labels

LABEL = 34  # most characters of a label


@dataclass(frozen=True)
class Cast:
    """Who is drawn, and how: the same in every figure and on the page.

    Attributes:
        labels: of each series, short.
        looks: of each series.
        highlight: the method drawn thicker.
        settings: of each series what is not as in the config files, "" for nothing.
    """

    labels: dict[Series, str]
    looks: dict[Series, Look]
    highlight: str
    settings: dict[Series, str]

    @property
    def legend(self) -> list[tuple[str, str]]:
        """The labels that carry a letter, and what it stands for."""
        return [(self.labels[s], self.settings[s]) for s in self.labels if self.labels[s].endswith(")") and self.settings[s]]


def cast_of(runs: Sequence[Run], highlight: str) -> Cast:
    """Labels say of backbone and setting only what tells two series apart."""
    groups = by_series(runs)
    many = len({run.backbone for run in runs}) > 1
    settings = {series: own[0].differs for series, own in groups.items()}
    named = [
        (cut_inside(f"{method}, {backbone}" if many else method, LABEL), settings[(method, backbone, s)])
        for method, backbone, s in groups
    ]
    labels = dict(zip(groups, short_labels(named), strict=True))
    return Cast(labels, looks(list(groups), highlight), highlight, settings)


def synthetic(runs: Sequence[Run]) -> str:
    """What a title says of generated data."""
    kinds = {run.rehearsal for run in runs}
    return "rehearsal (synthetic), " if kinds == {True} else "PARTLY rehearsal (synthetic), " if True in kinds else ""


def unit_of(scope: Scope) -> str:
    return f"{scope.scale.title} ({scope.scale.unit})" if scope.scale.unit else scope.scale.title


def averaged(scope: Scope, runs: Sequence[Run]) -> tuple[str, Scope]:
    """The datasets that count in the runs' protocol taken together, in words; of one dataset the dataset."""
    there = {run.dataset for run in counted(runs)}
    names = tuple(name for name in scope.datasets if name in there) or scope.datasets
    return names[0] if len(names) == 1 else f"average over {len(names)} datasets", replace(scope, datasets=names)


def with_average(scope: Scope, runs: Sequence[Run]) -> dict[str, Scope]:
    """A panel per dataset; of several that count in the runs' protocol, their average first."""
    single = {name: replace(scope, datasets=(name,)) for name in scope.datasets}
    what, several = averaged(scope, runs)
    return {what: several, **single} if len(several.datasets) > 1 else single


def keys_of(cast: Cast, drawn: Sequence[Series]) -> tuple[list[Line2D], list[str]]:
    """Legend entries."""
    looks_ = [cast.looks[series] for series in drawn]
    handles = [Line2D([], [], color=k.color, marker=k.marker, ls=k.line, lw=k.width, ms=k.size(3.6)) for k in looks_]
    return handles, [cast.labels[series] for series in drawn]


def cell_of(own: Sequence[Run], everyone: Sequence[Run], scope: Scope, shots: int) -> Cell:
    """The cell of a series at a number of shots, on the scope's datasets."""
    part, all_rows = ([r for r in some if r.shots == shots and r.dataset in scope.datasets] for some in (own, everyone))
    return average_cell(part, all_rows, scope)


def hollow(cells: Iterable[Cell]) -> str:
    """What a title says where a cell lacks runs."""
    return "; hollow: runs missing" if any(cell.note and cell.value is not None for cell in cells) else ""


def chance_of(runs: Iterable[Run], scope: Scope) -> float | None:
    """The metric in % of guessing all classes alike, averaged over the scope's datasets; ``None`` where that is not known."""
    if scope.metric == "macro_auroc":
        return 50.0
    if scope.metric not in ("accuracy", "balanced_accuracy"):
        return None
    classes = {run.dataset: run.classes for run in runs if run.dataset in scope.datasets and run.classes > 1}
    return mean([100 / n for n in classes.values()]) if set(classes) == set(scope.datasets) else None


def limits(scope: Scope, values: Sequence[float]) -> tuple[float, float] | None:
    """Limits of an axis that several panels share, on whole tens within 0 … 100; ``None`` without unit or values."""
    if not scope.scale.unit or not values:
        return None
    low = 10 * math.floor(min(values) / 10) if scope.scale.higher_is_better else 0
    high = 10 * math.ceil(max(values) / 10)
    return max(0, low), min(100, max(high, low + 10))
