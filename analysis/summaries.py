"""From runs to one number of a table: averages over datasets and seeds, with interval, and with what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.metrics import METRICS, Metric
from analysis.render import UNDEFINED, Cell
from analysis.results import Run
from analysis.stats import average_hm, ci95, mean

Series = tuple[str, str, str]  # method, backbone, setting
Grid = Mapping[tuple[str, int], tuple[float, ...]]  # (dataset, seed) -> a value, or base and new
Statistic = Callable[[Sequence[Sequence[float]]], float]  # one number of the tuples of all datasets


@dataclass(frozen=True)
class Scope:
    """What every cell of a table should have: one metric, on each of these datasets with each of these seeds."""

    metric: str
    datasets: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def scale(self) -> Metric:
        return METRICS[self.metric]

    @property
    def has_hm(self) -> bool:
        """A harmonic mean is shown for metrics in % of which more is better."""
        return bool(self.scale.unit) and self.scale.higher_is_better

    @property
    def best(self) -> str:
        return "max" if self.scale.higher_is_better else "min"

    def defined_on(self, runs: Sequence[Run]) -> tuple[str, ...]:
        """The datasets without those on which every run says that the metric is not defined."""
        values: dict[str, list[float | None]] = {}
        for run in runs:
            values.setdefault(run.dataset, []).append(run.metrics[self.metric])
        return tuple(d for d in self.datasets if d not in values or any(value is not None for value in values[d]))

    def grid(self, runs: Sequence[Run]) -> dict[tuple[str, int], tuple[float, ...]]:
        """The metric of each run that has it."""
        found = ((run.dataset, run.seed, run.metrics[self.metric]) for run in runs)
        return {(dataset, seed): (value,) for dataset, seed, value in found if value is not None}


def by_series(runs: Sequence[Run]) -> dict[Series, list[Run]]:
    """Runs by method, backbone and setting, in order."""
    grouped: dict[Series, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.series, run.dataset, run.seed)):
        grouped.setdefault(run.series, []).append(run)
    return grouped


def names_of(runs: Sequence[Run]) -> Series:
    """What names a series in a table: method, backbone, variant with what was set otherwise than in the config files."""
    first = runs[0]
    changed = f" ({first.setting})" if first.changes else ""
    return first.method, first.backbone, merged({run.variant for run in runs}) + changed


def rows_of(runs: Sequence[Run]) -> tuple[list[tuple[Series, list[Run]]], tuple[str, ...]]:
    """A row per series: its names and runs; and what of each row is not as in the config files."""
    rows = [(names_of(own), own) for own in by_series(runs).values()]
    return rows, tuple(own[0].differs for _, own in rows)


def merged(variants: set[str]) -> str:
    """``nctx4_csc, nctx5_csc`` -> ``nctx4|nctx5_csc``: the config files differ between datasets."""
    parts = [name.split("_") for name in sorted(variants)]
    if len({len(words) for words in parts}) > 1:
        return " | ".join(sorted(variants))
    return "_".join("|".join(dict.fromkeys(words)) for words in zip(*parts, strict=True))


def summary(grid: Grid, scope: Scope, statistic: Statistic) -> Cell:
    """The statistic of the datasets' seed averages, with the 95 % t-interval of its values in single seeds.

    Only seeds that have every dataset count for the interval. What is missing is said in the cell's note.
    """
    digits, datasets, seeds = scope.scale.digits, scope.datasets, scope.seeds
    there = [[grid[dataset, seed] for seed in seeds if (dataset, seed) in grid] for dataset in datasets]
    rows = [[mean(column) for column in zip(*values, strict=True)] for values in there if values]
    if not rows:
        return Cell(digits=digits)
    whole = [seed for seed in seeds if all((dataset, seed) in grid for dataset in datasets)]
    half = ci95([statistic([grid[dataset, seed] for dataset in datasets]) for seed in whole])
    found, wanted = sum(map(len, there)), len(datasets) * len(seeds)
    note = f"{found} of {wanted} runs" if found < wanted else ""
    if len(rows) < len(datasets):
        note = f"{len(rows)} of {len(datasets)} datasets"
    return Cell(statistic(rows), half, note, digits=digits)


def average_cell(own: Sequence[Run], everyone: Sequence[Run], scope: Scope) -> Cell:
    """The metric averaged over datasets and seeds.

    Args:
        own: the runs of this row and column.
        everyone: the runs of all rows in this column: they tell on which datasets the metric is defined at all.
        scope: what the cell should have.
    """
    wanted = scope.defined_on(everyone)
    if not wanted:
        return Cell(note=UNDEFINED, digits=scope.scale.digits)
    cell = summary(scope.grid(own), replace(scope, datasets=wanted), lambda rows: mean([row[0] for row in rows]))
    return replace(cell, covers=data_of(own, everyone, wanted))


def hm_cell(own: Sequence[Run], everyone: Sequence[Run], scope: Scope, how: str) -> Cell:
    """One of the three HMs of :func:`analysis.stats.average_hm`, from datasets and seeds that have base and new."""
    base, new = (scope.grid(split_of(own, split)) for split in ("base", "new"))
    wanted = [set(scope.defined_on(split_of(everyone, split))) for split in ("base", "new")]
    datasets = tuple(name for name in scope.datasets if name in wanted[0] & wanted[1])
    if not datasets:
        return Cell(note=UNDEFINED, digits=scope.scale.digits)
    pairs = {key: (*base[key], *new[key]) for key in base if key in new}
    cell = summary(pairs, replace(scope, datasets=datasets), lambda rows: average_hm(rows, how))
    return replace(cell, covers=data_of(own, everyone, datasets))


def data_of(own: Sequence[Run], everyone: Sequence[Run], datasets: Sequence[str]) -> frozenset[tuple[str, str, str]]:
    """Dataset, kind of split and hash of the data of these runs; a hash that a run does not tell is taken to be the others'."""
    known = {(run.dataset, run.split_kind): run.split_hash for run in reversed(everyone) if run.split_hash}
    return frozenset(
        (run.dataset, run.split_kind, run.split_hash or known.get((run.dataset, run.split_kind), ""))
        for run in own
        if run.dataset in datasets
    )


def split_of(runs: Sequence[Run], split: str) -> list[Run]:
    """The runs of one split: all, base or new."""
    return [run for run in runs if run.split == split]
