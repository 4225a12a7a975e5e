"""The papers' printed averages beside ours, with the difference and what keeps the two from being comparable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.counted import PAIR, counted, published, task_of
from analysis.render import KEYS, Cell, Table
from analysis.results import OWN_SPLIT, Run
from analysis.stats import harmonic
from analysis.summaries import Scope, average_cell, by_series, hm_cell, names_of, split_of
from analysis.words import count_of, shots_of

SEEDS, BACKBONE = 3, "BiomedCLIP"
BASE2NEW_SHOTS = 16
TASKS = {"few_shot": "Few-shot", "base_to_new": f"Base-to-new, {shots_of(BASE2NEW_SHOTS)},"}
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
        said.append(f"{count_of(len({run.seed for run in runs}), 'seed')} instead of {SEEDS}")
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
        cells["few_shot"] = {shots_of(k): _average([r for r in few if r.shots == k], few, value) for k, value in columns}
    if pairs and method in printed["base_to_new"]:
        # the papers print three different things as HM: theirs is worked out from their base and new
        base, new = printed["base_to_new"][method][:2]
        scope = _scope(pairs)
        ours = [_average(split_of(pairs, "base"), pairs, base), _average(split_of(pairs, "new"), pairs, new)]
        score = replace(hm_cell(pairs, pairs, scope, "of-averages"), published=harmonic(base, new))
        cells["base_to_new"] = dict(zip(BASE2NEW_COLUMNS, (*ours, score), strict=True))
    return cells


def comparisons(runs: Sequence[Run], metric: str) -> list[Table]:
    """Per paper and task ours, published, difference, of the rows that followed the paper's protocol; and alone what the paper
    printed for methods whose rows did not. Accuracy only; else no table.

    Runs on own images, or on another split than a dataset's own, have no published number and are left out, and so are
    those on a dataset that the papers leave out of the protocol. Beside generated data nothing published is printed.
    """
    if metric != "accuracy":
        return []
    tables = []
    for paper in published()["papers"]:
        for task, name in TASKS.items():
            tables += _of_paper(_with_published(runs, task), paper, task, name)
    return tables


def why_none(runs: Sequence[Run], metric: str) -> str:
    """Why runs that papers have numbers for have none beside them, nor the paper's own; "" where that is not so."""
    rows = [own for task in TASKS for own, _ in _with_published(runs, task) if any(run.rehearsal for run in own)]
    if metric != "accuracy" or not rows:
        return ""
    return f"Published averages are not printed: ours are no such numbers ({caveats([run for own in rows for run in own])})."


def _with_published(runs: Sequence[Run], task: str) -> list[tuple[list[Run], str]]:
    """The runs of each series in a table of the papers that has its method, and what keeps them from being compared."""
    own_split = [run for run in runs if run.split_kind == OWN_SPLIT and not run.own_images]
    parts = [split_of(own, "all") if task == "few_shot" else at_16_shots(own) for own in by_series(own_split).values()]
    known = {method for printed in published()["papers"].values() for method in printed[task]}
    return [(own, caveats(own)) for own in parts if own and own[0].method in known]


def _of_paper(rows: Sequence[tuple[list[Run], str]], paper: str, task: str, name: str) -> list[Table]:
    """Our rows beside the paper's, and the paper's rows that stand alone."""
    beside, alone, reasons = [], [], []
    for own, why in rows:
        cells = published_cells(own, paper).get(task)
        if cells is None or any(run.rehearsal for run in own):
            continue
        if not why:
            beside.append((own, {column: replace(c, published=None if c.note else c.published) for column, c in cells.items()}))
        elif not any(own[0].method == method for (method,), _ in alone):
            alone.append(((own[0].method,), tuple(Cell(cell.published) for cell in cells.values())))
            columns = tuple(cells)
        reasons += [why] if why else []
    tables = []
    if beside:
        body = tuple((names_of(own), tuple(cells.values())) for own, cells in beside)
        title = f"{name} accuracy in %, average over datasets: ours / {paper} (difference)"
        settings = tuple(own[0].differs for own, _ in beside)
        tables.append(Table(title, KEYS, tuple(beside[0][1]), body, settings=settings))
    if alone:
        title = f"{name} accuracy in %, average over {len(published()['datasets'][task])} datasets, as printed by {paper}"
        notes = (f"No run of ours beside these: {' | '.join(dict.fromkeys(reasons))}.",)
        tables.append(Table(title, KEYS[:1], columns, tuple(alone), notes, best=""))
    return tables


def at_16_shots(runs: Sequence[Run]) -> list[Run]:
    """The runs of base-to-new with as many shots as the papers' table has, on the datasets that its average counts."""
    return [run for run in counted(runs) if run.split in PAIR and run.shots == BASE2NEW_SHOTS]


def _scope(runs: Sequence[Run]) -> Scope:
    return Scope("accuracy", tuple(sorted({run.dataset for run in runs})), tuple(sorted({run.seed for run in runs})))


def _average(own: Sequence[Run], task: Sequence[Run], value: float) -> Cell:
    return replace(average_cell(own, own, _scope(task)), published=value)
