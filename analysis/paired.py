"""Is one method better than another? Paired bootstrap over test images, and Wilcoxon's test over datasets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.counted import apart_notes, counted
from analysis.layout import TARGET
from analysis.predictions import Predictions, read_predictions
from analysis.render import Cell, Table
from analysis.results import PREDICTIONS, DamagedRun, Run
from analysis.stats import mean, paired_bootstrap, wilcoxon
from analysis.summaries import by_series, names_of, split_of
from analysis.words import shots_of

SMALLEST_P = 0.05
WORDS = {"all": "all classes", "base": "base classes", "new": "new classes", TARGET: "tested on other datasets than trained on"}


class AmbiguousMethod(ValueError):
    """A name that fits no series of runs, or several; the message lists them."""

    told = True  # to the user, in a line (entry.py)


def series_named(runs: Sequence[Run], name: str) -> list[Run]:
    """The runs of ``METHOD`` or ``METHOD/VARIANT``, of one backbone and setting.

    Raises:
        AmbiguousMethod: none, or several series fit.
    """
    method, _, variant = name.partition("/")
    fitting = [run for run in runs if run.method == method and (not variant or variant in (run.variant, names_of([run])[2]))]
    series = by_series(fitting)
    if len(series) == 1:
        return fitting
    known = sorted(" / ".join(names_of(own)) for own in by_series(runs).values() if not series or own[0].method == method)
    raise AmbiguousMethod(
        f'"{name}" fits {len(series) or "no"} series of runs (method / backbone / variant): {"; ".join(known)}. '
        "Name one as METHOD/VARIANT, and the backbone with --backbones"
    )


def paired_tables(runs: Sequence[Run], first: str, second: str, seed: int = 0) -> list[Table]:
    """A table per split and number of shots: a row per dataset with both accuracies, their difference and its p-value.

    Only seeds that both methods have count. The difference of an image is that of its accuracies, averaged over seeds.

    Args:
        runs: finished ones.
        first, second: ``METHOD`` or ``METHOD/VARIANT``.
        seed: of the bootstrap.

    Raises:
        AmbiguousMethod: a name that fits no or several series.
    """
    a, b = series_named(runs, first), series_named(runs, second)
    tables = []
    for split, what in WORDS.items():
        for k in sorted({run.shots for run in split_of(a, split)} & {run.shots for run in split_of(b, split)}):
            sides = [[run for run in split_of(side, split) if run.shots == k] for side in (a, b)]
            tables.append(_table(sides, f"{what}, {shots_of(k)}", (first, second), seed))
    return tables


def _table(sides: Sequence[Sequence[Run]], what: str, names: tuple[str, str], seed: int) -> Table:
    rows, notes, pairs = [], [], []
    averaged = {run.dataset for run in counted(sides[0])}
    for dataset in sorted({run.dataset for side in sides for run in side}):
        by_seed = [{run.seed: run for run in side if run.dataset == dataset} for side in sides]
        seeds = sorted(set(by_seed[0]) & set(by_seed[1]))
        if any(run.dataset == dataset and run.classes == 1 for side in sides for run in side):
            notes.append(f"not compared: {dataset}: one class, which any method classifies right")
            continue
        try:
            images = [image_accuracies([one[s] for s in seeds]) for one in by_seed]
            if images[0].keys() != images[1].keys():
                raise DamagedRun("the two were not tested on the same images")
        except DamagedRun as error:
            notes.append(f"not compared: {dataset}: {error}")
            continue
        order = list(images[0])
        accuracies = [np.array([one[path] for path in order]) for one in images]
        rows.append(((dataset,), _row(accuracies, len(seeds), seed)))
        if dataset in averaged:
            pairs.append([float(one.mean()) for one in accuracies])
    notes += [_over_datasets(pairs), *apart_notes([*sides[0], *sides[1]])]
    said = "rehearsal (synthetic), " if any(run.rehearsal for side in sides for run in side) else ""
    title = f"{names[0]} against {names[1]}, accuracy in %, {said}{what}: paired bootstrap over test images"
    columns = ("images", "seeds", *names, "difference", "95 % low", "95 % high", "p")
    if len(rows) > 1:
        notes.append(f"{len(rows)} p-values: none is adjusted for their number.")
    return Table(title, ("dataset",), columns, tuple(rows), tuple(notes), best="")


def _row(accuracies: Sequence[NDArray[np.float64]], seeds: int, seed: int) -> tuple[Cell, ...]:
    found = paired_bootstrap(accuracies[0] - accuracies[1], seed)
    numbers = (*(float(one.mean()) for one in accuracies), found.value, found.low, found.high)
    counts = (Cell(len(accuracies[0]), digits=0), Cell(seeds, digits=0))
    return (*counts, *(Cell(number) for number in numbers), Cell(found.p, digits=4))


def _over_datasets(pairs: Sequence[Sequence[float]]) -> str:
    n = len(pairs)
    p = wilcoxon([a for a, _ in pairs], [b for _, b in pairs])
    if p is None:
        return f"Wilcoxon signed-rank test over datasets: not defined for {n}."
    smallest = 2 ** (1 - n)  # all n differences of one sign
    too_few = f" With {n} datasets p cannot be below {smallest:.3g}." if smallest > SMALLEST_P else ""
    difference = mean([a - b for a, b in pairs])
    return f"Wilcoxon signed-rank test over {n} datasets: mean difference {difference:+.2f}, p = {p:.4f}.{too_few}"


def image_accuracies(runs: Sequence[Run]) -> dict[tuple[str, int], float]:
    """Accuracy in % of each test image, averaged over the runs (seeds), by its path and label.

    Raises:
        DamagedRun: no run, predictions that cannot be read, or runs that were tested on different images.
    """
    if not runs:
        raise DamagedRun("no seed that both have")
    totals: dict[tuple[str, int], float] = {}
    for number, run in enumerate(runs):
        correct = hits(read_predictions(run.folder / PREDICTIONS))
        if number and correct.keys() != totals.keys():
            raise DamagedRun(f"{run.folder} was tested on other images than {runs[0].folder}")
        for key, value in correct.items():
            totals[key] = totals.get(key, 0.0) + value / len(runs)
    return totals


def hits(kept: Predictions) -> dict[tuple[str, int], float]:
    """100.0 or 0.0 for each image: whether its most probable class is its label."""
    right = kept.probabilities.argmax(axis=1) == kept.labels
    return {(p, n): 100.0 * yes for p, n, yes in zip(kept.paths, kept.labels.tolist(), right.tolist(), strict=True)}
