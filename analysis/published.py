"""The papers' printed averages beside ours, with the difference and what keeps the two from being comparable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.counted import PAIR, counted, published, task_of
from analysis.render import Cell, Table
from analysis.results import OWN_SPLIT, Run
from analysis.stats import harmonic
from analysis.summaries import Scope, average_cell, by_series, hm_cell, names_of, split_of
from analysis.tables import KEYS

SEEDS, BACKBONE = 3, "BiomedCLIP"
BASE2NEW_SHOTS = 16
BASE2NEW_COLUMNS = ("base", "new", "HM of averages")


def caveats(runs: Sequence[Run]) -> str:
    """What of ours differs from the published protocol, in words; empty when nothing does.

    Args:
        runs: of one protocol, which decides how many datasets there should be.
    """
    said = []
    if any(run.rehearsal for run in runs):
        said.append("rehearsal (synthetic)")
    others = sorted({run.backbone for run in runs} - {BACKBONE})
    if others:
        said.append(f"backbone {', '.join(others)} instead of {BACKBONE}")
    wanted, there = set(_datasets(runs)), {run.dataset for run in runs}
    if wanted != there & wanted:
        said.append(f"{len(there & wanted)} of {len(wanted)} datasets")
    own = sorted({run.dataset for run in runs if run.own_images})
    foreign = sorted(there - wanted - set(own))
    if foreign:
        said.append(f"other datasets among them: {', '.join(foreign)}")
    if own:
        said.append(f"own images among them: {', '.join(own)}")
    other = sorted({run.dataset for run in runs if run.split_kind != OWN_SPLIT})
    if other:
        said.append(f"another split than the published one: {', '.join(other)}")
    if len({run.seed for run in runs}) != SEEDS:
        said.append(f"{len({run.seed for run in runs})} seeds instead of {SEEDS}")
    return "; ".join(said)


def _datasets(runs: Sequence[Run]) -> Sequence[str]:
    """The datasets that the papers average over in the protocol of these runs."""
    return published()["datasets"][task_of(runs[0].split)] if runs else ()


def published_cells(runs: Sequence[Run], paper: str) -> dict[str, dict[str, Cell]]:
    """Our averages of one series with the paper's number in each cell, by task and column; only what the paper has.

    Args:
        runs: of one method, backbone and setting.
        paper: a key of ``published()["papers"]``.
    """
    printed, method = published()["papers"][paper], runs[0].method
    few, pairs = split_of(runs, "all"), at_16_shots(runs)
    cells: dict[str, dict[str, Cell]] = {}
    if few and method in printed["few_shot"]:
        columns = zip(published()["shots"], printed["few_shot"][method], strict=True)
        cells["few_shot"] = {f"{k} shots": _average([r for r in few if r.shots == k], few, value) for k, value in columns}
    if pairs and method in printed["base_to_new"]:
        # the papers print three different things as HM: theirs is worked out from their base and new
        base, new = printed["base_to_new"][method][:2]
        scope = _scope(pairs)
        ours = [_average(split_of(pairs, "base"), pairs, base), _average(split_of(pairs, "new"), pairs, new)]
        score = replace(hm_cell(pairs, pairs, scope, "of-averages"), published=harmonic(base, new))
        cells["base_to_new"] = dict(zip(BASE2NEW_COLUMNS, (*ours, score), strict=True))
    return cells


def comparisons(runs: Sequence[Run], metric: str) -> list[Table]:
    """One table per paper and task of these runs: ours, published, difference. Accuracy only; else no table.

    Runs on own images, or on another split than a dataset's own, have no published number and are left out, and so are
    those on a dataset that the papers leave out of the protocol.
    """
    if metric != "accuracy":
        return []
    runs = [run for run in runs if run.split_kind == OWN_SPLIT and not run.own_images]
    tables = []
    for paper in published()["papers"]:
        rows = [(names_of(own), own, published_cells(own, paper)) for own in by_series(runs).values()]
        for task, name in (("few_shot", "Few-shot"), ("base_to_new", f"Base-to-new, {BASE2NEW_SHOTS} shots,")):
            body = [(names, tuple(cells[task].values())) for names, _, cells in rows if task in cells]
            if not body:
                continue
            shown = [
                run
                for _, own, cells in rows
                if task in cells
                for run in (split_of(own, "all") if task == "few_shot" else at_16_shots(own))
            ]
            columns = next(tuple(cells[task]) for _, _, cells in rows if task in cells)
            told = caveats(shown)
            title = f"{name} accuracy in %, average over datasets: ours / {paper} (difference)"
            tables.append(Table(title + (f". NOT COMPARABLE, ours: {told}" if told else ""), KEYS, columns, tuple(body)))
    return tables


def at_16_shots(runs: Sequence[Run]) -> list[Run]:
    """The runs of base-to-new with as many shots as the papers' table has, on the datasets that its average counts."""
    return [run for run in counted(runs) if run.split in PAIR and run.shots == BASE2NEW_SHOTS]


def _scope(runs: Sequence[Run]) -> Scope:
    return Scope("accuracy", tuple(sorted({run.dataset for run in runs})), tuple(sorted({run.seed for run in runs})))


def _average(own: Sequence[Run], task: Sequence[Run], value: float) -> Cell:
    return replace(average_cell(own, own, _scope(task)), published=value)
