"""The table "source → targets": what was trained on one dataset, tested on others; it never stands beside in-domain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.layout import TARGET
from analysis.render import KEYS, Table
from analysis.results import Run
from analysis.summaries import Scope, average_cell, by_series, names_of, rows_of, split_of
from analysis.tables import heading, undefined_notes, warning_notes
from analysis.words import shots_of

NOTE = "Trained on the source alone, on all of its classes; a target's images and labels are tested on, and never trained on."


def cross_tables(runs: Sequence[Run], metric: str, seeds: Sequence[int] = ()) -> list[Table]:
    """One table per source and number of shots: the source's own number, each target's, and the average over the targets.

    Args:
        runs: tests on targets, and few-shot runs, of which those on a source are its column.
        metric: one of :data:`analysis.metrics.METRICS`.
        seeds: that every cell should have; those that are there by default.
    """
    return [_table(own, metric, seeds) for own in _groups(runs)]


def _groups(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each source and number of shots, those on the source itself among them."""
    targets = split_of(runs, TARGET)
    return [
        [run for run in runs if run.shots == shots and source in ((run.source,) if run.source else (run.dataset,))]
        for source, shots in sorted({(run.source, run.shots) for run in targets})
    ]


def _table(runs: Sequence[Run], metric: str, seeds: Sequence[int]) -> Table:
    own, targets = split_of(runs, "all"), split_of(runs, TARGET)
    source, shots = targets[0].source, targets[0].shots
    whole = Scope(metric, (source,), tuple(seeds or sorted({run.seed for run in runs})))
    names = {run.dataset: run.target for run in sorted(targets, key=lambda run: run.target)}
    scopes = {f"{source} (source)": whole} | {name: replace(whole, datasets=(pair,)) for pair, name in names.items()}
    if len(names) > 1:
        scopes[f"average over {len(names)} targets"] = replace(whole, datasets=tuple(names))
    there = {column: [run for run in runs if run.dataset in scope.datasets] for column, scope in scopes.items()}
    rows = [(names_, of) for names_, of in rows_of(runs)[0] if any(run.source for run in of)]  # not what was never tested so
    body = tuple(
        (
            words,
            tuple(
                average_cell([run for run in of if run.dataset in scope.datasets], there[column], scope)
                for column, scope in scopes.items()
            ),
        )
        for words, of in rows
    )
    title = heading("Cross-dataset", whole, runs, f"{source} → {', '.join(names.values())}, {shots_of(shots)} of the source")
    notes = tuple(note for column, scope in scopes.items() for note in undefined_notes({column: there[column]}, scope))
    shown = [run for _, of in rows for run in of if run in own or run in targets]
    settings = tuple(of[0].differs for _, of in rows)
    return Table(title, KEYS, tuple(scopes), body, (NOTE, *notes, *warning_notes(shown)), whole.best, settings)


def cross_missing(runs: Sequence[Run], shots: Sequence[int] = (), seeds: Sequence[int] = ()) -> list[str]:
    """What belongs into these tables and is not there, a line per series, source and number of shots."""
    lines = []
    for group in _groups(runs):
        targets = split_of(group, TARGET)
        source, k = targets[0].source, targets[0].shots
        wanted = tuple(seeds or sorted({run.seed for run in group}))
        there = {(run.series, run.dataset, run.seed) for run in group}
        columns = [source, *sorted({run.dataset for run in targets})]
        for series, own in by_series(group).items():
            if not split_of(own, TARGET):
                continue
            gaps = {name: [seed for seed in wanted if (series, name, seed) not in there] for name in columns}
            told = [d if gap == list(wanted) else f"{d} seed {' '.join(map(str, gap))}" for d, gap in gaps.items() if gap]
            if told:
                lines.append(f"{' / '.join(names_of(own))}, cross-dataset, {shots_of(k)}: {', '.join(told)}")
    found = {run.shots for run in split_of(runs, TARGET)}
    return lines + [f"all cross-dataset runs with {shots_of(k)}" for k in shots if found and k not in found]
