"""All tables of an output folder: which there are, what they leave out, and their printing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.choice import SPLITS, Choice, concerns, select
from analysis.counted import apart_notes, counted
from analysis.cross import cross_missing, cross_tables
from analysis.factors import ablated, factor_tables
from analysis.layout import CROSS
from analysis.paired import AmbiguousMethod, paired_tables
from analysis.published import comparisons, why_none
from analysis.render import Table, render_tables
from analysis.results import Run, read_log, read_runs
from analysis.stats import ci95, mean
from analysis.summaries import Scope, by_series, names_of
from analysis.tables import HM_NAMES, ablation_tables, base2new_table, few_shot_table, modality_tables
from analysis.words import shots_of


@dataclass(frozen=True)
class Contents:
    """What tables show.

    Attributes:
        metric: one of :data:`analysis.metrics.METRICS`.
        hm: which harmonic mean of an average over datasets, one of :data:`analysis.tables.HM_NAMES`, or all.
        modalities: averages per modality, too.
        published: the papers' averages beside ours.
        ablation: only the settings of this method side by side.
        paired: only the test of one method against another, each METHOD[/VARIANT]; of their accuracy.
        bootstrap_seed: of that test.
        long: for people too, backbone and variant in columns of their own.
        factors: only the ablation tables of the factors of ``analysis/ablation.json``.
    """

    metric: str = "accuracy"
    hm: str = "all"
    modalities: bool = False
    published: bool = False
    ablation: str = ""
    paired: tuple[str, str] | None = None
    bootstrap_seed: int = 0
    long: bool = False
    factors: bool = False


EVERYTHING, PLAIN = Choice(), Contents()


def built(runs: Sequence[Run], choice: Choice = EVERYTHING, contents: Contents = PLAIN) -> tuple[list[Table], list[str]]:
    """The tables of these runs, and what is missing from them, a line each.

    Args:
        runs: chosen ones (:func:`analysis.choice.select`) that have the metric.
        choice: what they were chosen by; a name in it that no run has is missing.
        contents: what the tables show.

    Raises:
        AmbiguousMethod: ``paired`` or ``ablation`` names no or several series, or ``factors`` has no two levels to compare.
    """
    if contents.paired:
        return paired_tables(runs, *contents.paired, seed=contents.bootstrap_seed), []
    if contents.ablation:
        runs = [run for run in runs if not run.source]
        tables = ablation_tables(runs, contents.ablation, _scope(runs, choice, contents))
        if not tables:
            raise AmbiguousMethod(f"no runs of {contents.ablation}; methods: {', '.join(sorted({run.method for run in runs}))}")
        return tables, []
    if contents.factors:
        tables, gaps = factor_tables(runs, _scope(runs, choice, contents))
        if not tables:
            raise AmbiguousMethod(
                f"no two levels of a factor of {ablated()[0]} were run: bash scripts/biomed_dpt/ablation.sh DATASET runs them"
            )
        return tables, gaps
    tables, gaps = [], []
    for task in (choice.task,) if choice.task else SPLITS:
        own = [run for run in runs if run.split in SPLITS[task]]
        if task == CROSS:
            tables += cross_tables(own, contents.metric, choice.seeds)
            gaps += cross_missing(own, choice.shots, choice.seeds) + (_absent(own, choice) if choice.task else [])
            continue
        tables += tables_of(own, choice, contents) if own else []
        gaps += missing(own, choice) if own or choice.task == task else []
    return tables, gaps


def _scope(runs: Sequence[Run], choice: Choice, contents: Contents) -> Scope:
    datasets = tuple(sorted({run.dataset for run in runs}))
    return Scope(contents.metric, datasets, tuple(choice.seeds or sorted({run.seed for run in runs})))


def tables_of(runs: Sequence[Run], choice: Choice, contents: Contents) -> list[Table]:
    """The tables of one protocol: per dataset, then the average over those that count in it."""
    datasets = tuple(sorted({run.dataset for run in runs}))
    scope = _scope(runs, choice, contents)
    hms = tuple(HM_NAMES) if contents.hm == "all" else (contents.hm,)
    groups = {name: (name,) for name in datasets}
    averaged = tuple(sorted({run.dataset for run in counted(runs)}))
    if len(averaged) > 1:
        groups[f"average over {len(averaged)} datasets"] = averaged
    tables = []
    for what, names in groups.items():
        part, narrowed = [run for run in runs if run.dataset in names], Scope(scope.metric, names, scope.seeds)
        if runs[0].split == "all":
            tables.append(few_shot_table(part, what, narrowed))
            continue
        for k in sorted({run.shots for run in part}):
            of_k = [run for run in part if run.shots == k]
            table = base2new_table(of_k, f"{what}, {shots_of(k)}", narrowed, hms=hms)
            apart = apart_notes(runs) if len(names) > 1 else ()
            tables.append(replace(table, notes=table.notes + apart))
    tables += modality_tables(runs, scope) if contents.modalities else []
    if not contents.published:
        return tables
    why = why_none(runs, contents.metric)
    tables[-1] = replace(tables[-1], notes=(*tables[-1].notes, why)) if why else tables[-1]
    return tables + comparisons(runs, contents.metric)


def missing(runs: Sequence[Run], choice: Choice) -> list[str]:
    """What belongs into the tables of one protocol and is not there, a line per series and number of shots."""
    if not runs:
        return [f"all runs of {method}" for method in choice.methods]
    there = {run.cell for run in runs}
    datasets = sorted({run.dataset for run in runs})
    seeds = choice.seeds or sorted({run.seed for run in runs})
    shots = choice.shots or sorted({run.shots for run in runs})
    lines = []
    for series, own in by_series(runs).items():
        for split in SPLITS["few_shot"] if own[0].split == "all" else SPLITS["base2new"]:
            for k in shots:
                gaps = {d: [s for s in seeds if (*series, d, split, k, s) not in there] for d in datasets}
                told = [d if gap == list(seeds) else f"{d} seed {' '.join(map(str, gap))}" for d, gap in gaps.items() if gap]
                if told:
                    lines.append(f"{' / '.join(names_of(own))}, {split}, {shots_of(k)}: {', '.join(told)}")
    return lines + _absent(runs, choice)


def _absent(runs: Sequence[Run], choice: Choice) -> list[str]:
    """The names that were asked for and that no run has."""
    absent = [method for method in choice.methods if all(run.method != method for run in runs)]
    found = {name for run in runs for name in run.names}
    absent_data = [name for name in choice.datasets if name not in found]
    return [f"all runs of {name}" for name in absent] + [f"all runs on {name}" for name in absent_data]


def show(directory: Path, choice: Choice, contents: Contents, style: str) -> int:
    """Print the tables of the finished runs below a folder; what is not in them is named.

    Returns:
        Exit status: 0 done, 2 nothing to show.
    """
    runs, defects = read_runs(directory)
    if not runs and not defects:
        return classic(directory)
    asked = select(runs, choice)
    without = [run for run in asked if contents.metric not in run.metrics]
    asked = [run for run in asked if contents.metric in run.metrics]
    # in CSV the sheet alone goes to standard output
    out = sys.stderr if style == "csv" else sys.stdout
    for defect in (defect for defect in defects if concerns(defect, choice)):
        print(f"not averaged: {defect.folder}: {defect.why}", file=out)
    for run in without:
        print(f"not averaged: {run.folder}: it was run before {contents.metric} was measured", file=out)
    if not asked:
        print(f"error: no finished run below {directory} fits these arguments", file=sys.stderr)
        return 2
    tables, gaps = built(asked, choice, contents)
    print(("" if style == "csv" else "\n") + render_tables(tables, style, long=contents.long))
    for what in gaps:
        print(f"missing: {what}", file=out)
    return 0


def classic(directory: Path) -> int:
    """Mean and 95 % t-interval of each metric over the ``log.txt`` below ``directory``; unfinished ones are named."""
    found: dict[str, list[float]] = {}
    for path in sorted(directory.rglob("log.txt")):
        metrics = read_log(path)
        if not metrics:
            print(f"unfinished, not averaged: {path.parent}")
            continue
        print(f"file: {path}  " + "  ".join(f"{k}: {v:.2f}%" for k, v in metrics.items()))
        for key, value in metrics.items():
            found.setdefault(key, []).append(value)
    if not found:
        print(f"error: no finished log.txt below {directory}", file=sys.stderr)
        return 2
    for key, values in found.items():
        half = ci95(values)
        print(f"* {key}: {mean(values):.2f}%" + (f" +- {half:.2f}% (95 % t-interval, {len(values)} runs)" if half else ""))
    return 0
