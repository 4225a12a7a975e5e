"""The paper's ablation forms: a table per factor of a method, a row per level, the configured one marked.

``ablation.json`` has the factors: what each level is called, the label that grids of ``configs/sweeps`` give its runs, and
the settings that make it. A level without settings is the run as the config files have it, which all factors share.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from analysis.counted import PAIR, apart_notes, counted
from analysis.render import Cell, Table
from analysis.results import Run, short_key
from analysis.stats import average_hm, mean
from analysis.summaries import Grid, Scope, average_cell, hm_cell, split_of, summary
from analysis.tables import heading, undefined_notes, warning_notes
from analysis.words import shots_of

DEFAULT = "default"
PAIRED = "Δ: difference to the default with the same seeds, ± 95 % t-interval of the differences."


@dataclass(frozen=True, eq=False)  # a key of dictionaries
class Level:
    """One way to set a factor; ``settings`` (config key -> value) is empty for the config files' own."""

    name: str
    label: str
    settings: Mapping[str, Any]

    @property
    def title(self) -> str:
        return self.name if self.settings else f"{self.name} ({DEFAULT})"


@dataclass(frozen=True)
class Factor:
    """What is varied, and its levels in the order of the table."""

    name: str
    levels: tuple[Level, ...]


@cache
def ablated() -> tuple[str, tuple[Factor, ...]]:
    """The method of ``ablation.json``, and its factors."""
    content = json.loads((Path(__file__).parent / "ablation.json").read_text())
    return content["method"], tuple(
        Factor(one["factor"], tuple(Level(row["level"], row["label"], row["settings"]) for row in one["levels"]))
        for one in content["factors"]
    )


def factor_tables(runs: Sequence[Run], scope: Scope) -> tuple[list[Table], list[str]]:
    """The tables of every factor of which two levels were run; and what of the factors was not run, a line each.

    What else was changed (fewer epochs, say) must be the same for the rows of a table: each way has tables of its own, and
    each backbone. Few-shot has a column per number of shots, base-to-new a table per number of shots. Datasets are averaged,
    those alone that count in the protocol.
    """
    method, _ = ablated()
    known = [run for run in runs if run.method == method and run.changed is not None and not run.source]
    configured = {(key, run.dataset): before for run in known for key, (before, _) in run.changes.items()}
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in known:
        groups.setdefault((run.backbone, _rest_of(run)), []).append(run)
    tables, gaps = [], []
    for (backbone, rest), own in sorted(groups.items(), key=lambda item: item[0]):
        on = f"{method} on {backbone}" + (f" with {rest}" if rest else "")
        for part, shots in _parts(own):
            narrowed = replace(scope, datasets=tuple(sorted({run.dataset for run in part})))
            found, absent = _of_part(part, configured, narrowed, (shots, on))
            apart = apart_notes(own) if shots else ()
            tables += [replace(table, notes=tuple(dict.fromkeys((*table.notes, *apart)))) for table in found]
            gaps += absent
    return tables, gaps


def _parts(own: Sequence[Run]) -> list[tuple[list[Run], int]]:
    """The runs of each kind of table, with the shots of base-to-new ones; 0 for few-shot, which has them as columns."""
    few, both = split_of(own, "all"), [run for run in own if run.split in PAIR]
    pairs = counted(both) or both  # one that is apart may be looked at alone
    of_shots = [([run for run in pairs if run.shots == k], k) for k in sorted({run.shots for run in pairs})]
    return ([(few, 0)] if few else []) + of_shots


def _of_part(
    part: Sequence[Run], configured: Mapping[tuple[str, str], Any], scope: Scope, named: tuple[int, str]
) -> tuple[list[Table], list[str]]:
    shots, on = named
    tables, gaps = [], []
    for factor in ablated()[1]:
        rows = {level: [run for run in part if _is_of(run, level, configured)] for level in factor.levels}
        there = {level: own for level, own in rows.items() if own}
        task = f"base-to-new, {shots_of(shots)}" if shots else "few-shot"
        if len(there) > 1:
            tables.append(_table(factor, there, scope, named))
        absent = [level.name for level in rows if level not in there]
        if absent and any(level.settings for level in there):
            gaps.append(f"{task}, {on}, {factor.name}: {', '.join(absent)}")
    return tables, gaps


def _keys() -> set[str]:
    return {key for factor in ablated()[1] for level in factor.levels for key in level.settings}


def _rest_of(run: Run) -> str:
    """What a run has changed beside the factors, in words."""
    return ", ".join(f"{short_key(key)}={value}" for key, value in sorted(run.used.items()) if key not in _keys())


def _is_of(run: Run, level: Level, configured: Mapping[tuple[str, str], Any]) -> bool:
    """Whether a run is of a level: its changes among the factors' keys are the level's, but for what its config file has."""
    own = {key: value for key, value in run.used.items() if key in _keys()}
    wanted = {k: v for k, v in level.settings.items() if (k, run.dataset) not in configured or configured[k, run.dataset] != v}
    return own == wanted


def _table(factor: Factor, rows: Mapping[Level, Sequence[Run]], scope: Scope, named: tuple[int, str]) -> Table:
    shots, on = named
    everyone = [run for own in rows.values() for run in own]
    default = next((own for level, own in rows.items() if not level.settings), [])
    columns = _columns(everyone, shots, scope)
    body = []
    for level, own in rows.items():
        cells = []
        for split, k in columns.values():
            cells.append(_cell(own, everyone, split, k, scope))
            cells.append(_difference(own, default, split, k, scope) if level.settings else Cell(note=DEFAULT))
        body.append(((level.title,), tuple(cells)))
    headings = tuple(name for column in columns for name in (column, f"Δ {column}"))
    where = f"{shots_of(shots)}, " if shots else ""
    title = heading(
        "Base-to-new" if shots else "Few-shot", scope, everyone, f"{where}{factor.name} of {on}, {', '.join(scope.datasets)}"
    )
    by_column = {name: [run for run in everyone if _fits(run, split, k)] for name, (split, k) in columns.items()}
    notes = (PAIRED, *undefined_notes(by_column, scope), *warning_notes(everyone))
    return Table(title, (factor.name,), headings, tuple(body), notes, scope.best)


def _columns(runs: Sequence[Run], shots: int, scope: Scope) -> dict[str, tuple[str, int]]:
    """Heading -> the split ("HM" for both of base-to-new) and the shots of a column."""
    if not shots:
        return {shots_of(k): ("all", k) for k in sorted({run.shots for run in runs})}
    return {split: (split, shots) for split in (*PAIR, *(("HM",) if scope.has_hm else ()))}


def _fits(run: Run, split: str, shots: int) -> bool:
    return run.shots == shots and (split == "HM" or run.split == split)


def _cell(own: Sequence[Run], everyone: Sequence[Run], split: str, shots: int, scope: Scope) -> Cell:
    of, among = ([run for run in runs if _fits(run, split, shots)] for runs in (own, everyone))
    return hm_cell(of, among, scope, "of-averages") if split == "HM" else average_cell(of, among, scope)


def _difference(own: Sequence[Run], default: Sequence[Run], split: str, shots: int, scope: Scope) -> Cell:
    """Mean of what a level has more than the default, over the datasets and seeds that both have."""
    grids = [_grid([run for run in runs if _fits(run, split, shots)], split, scope) for runs in (own, default)]
    both: Grid = {key: (*grids[0][key], *grids[1][key]) for key in grids[0] if key in grids[1]}
    datasets = tuple(name for name in scope.datasets if any(key[0] == name for grid in grids for key in grid))
    if not datasets:
        return Cell(digits=scope.scale.digits)
    return replace(summary(both, replace(scope, datasets=datasets), _gain), signed=True)


def _grid(runs: Sequence[Run], split: str, scope: Scope) -> dict[tuple[str, int], tuple[float, ...]]:
    if split != "HM":
        return scope.grid(runs)
    base, new = (scope.grid(split_of(runs, one)) for one in PAIR)
    return {key: (*base[key], *new[key]) for key in base if key in new}


def _gain(rows: Sequence[Sequence[float]]) -> float:
    """Of (value, default's value) per dataset the difference of the means; of (base, new, base, new) that of their HMs."""
    half = len(rows[0]) // 2
    sides = [row[:half] for row in rows], [row[half:] for row in rows]
    level, default = (average_hm(side, "of-averages") if half == 2 else mean([row[0] for row in side]) for side in sides)
    return level - default
