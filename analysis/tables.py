"""The tables of the paper: few-shot accuracy, base-to-new with HM, averages per modality, ablations of one method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from analysis.counted import PAIR, apart_notes, counted
from analysis.render import KEYS, Cell, Table, render
from analysis.results import Run, short_key
from analysis.summaries import Scope, average_cell, hm_cell, rows_of, split_of
from analysis.words import listed, shots_of

__all__ = ["HM_NAMES", "ablation_tables", "base2new_table", "few_shot_table", "modality_tables", "render"]

HM_NAMES = {
    "of-averages": "HM of the averaged base and new",
    "of-datasets": "average of per-dataset HMs",
    "arithmetic": "arithmetic mean of base and new (as printed by Biomed-DPT)",
}
HM_COLUMNS = {"of-averages": "HM of averages", "of-datasets": "average of HMs", "arithmetic": "arithmetic mean"}
Rows = Sequence[tuple[tuple[str, ...], Sequence[Run]]]  # names of a row, and its runs


def heading(task: str, scope: Scope, runs: Sequence[Run], what: str) -> str:
    """A table's title; generated data are always told."""
    kinds = {run.rehearsal for run in runs}
    synthetic = "rehearsal (synthetic), " if kinds == {True} else "PARTLY rehearsal (synthetic), " if True in kinds else ""
    unit = f" in {scope.scale.unit}" if scope.scale.unit else ""
    return f"{task} {scope.scale.title}{unit}, {synthetic}{what}: mean over seeds ± 95 % t-interval"


def undefined_notes(columns: Mapping[str, Sequence[Run]], scope: Scope) -> tuple[str, ...]:
    """A line per column in which the metric is not defined on a dataset."""
    notes = []
    for name, runs in columns.items():
        out = sorted(set(scope.datasets) - set(scope.defined_on(runs)))
        if out:
            alone = {run.dataset for run in runs if run.classes == 1} >= set(out)
            why = " (one class, which any method classifies right)" if alone else ""
            notes.append(f"{scope.scale.title} is not defined on {', '.join(out)} ({name}): left out{why}.")
    return tuple(notes)


def warning_notes(runs: Sequence[Run]) -> tuple[str, ...]:
    """A line per dataset and warning of its runs, each once; and one where a dataset's runs are not on the same data."""
    said = [f"{run.dataset}: {warning}." for run in runs for warning in run.warnings]
    return tuple(dict.fromkeys([*said, *unequal_data(runs)]))


def unequal_data(runs: Sequence[Run]) -> list[str]:
    """A line per dataset under whose name runs have other images, classes or parts than others of the same kind of split."""
    first: dict[tuple[str, str], dict[str, Run]] = {}
    for run in runs:
        if run.split_hash:
            first.setdefault((run.dataset, run.split_kind), {}).setdefault(run.split_hash, run)
    return [
        f"{dataset}: NOT COMPARABLE, its runs differ in images, class names or parts of the split, in {len(found)} ways: "
        f"as {listed((f'{run.method} seed {run.seed}' for run in found.values()), 4)}."
        for (dataset, _), found in first.items()
        if len(found) > 1
    ]


def few_shot_table(
    runs: Sequence[Run], what: str, scope: Scope, rows: Rows | None = None, keys: tuple[str, ...] = KEYS
) -> Table:
    """Rows: methods, or ``rows`` under the headings ``keys``. Columns: shots. One dataset, or the average over several.

    Args:
        runs: of the split "all".
        what: what the title says of the datasets.
        scope: metric, datasets and seeds.
        rows, keys: other rows than one per method.
    """
    shots = sorted({run.shots for run in runs})
    columns = {shots_of(k): [run for run in runs if run.shots == k] for k in shots}
    body, (own_rows, settings) = [], rows_of(runs)
    for names, own in rows or own_rows:
        parts = ([run for run in own if run.shots == k] for k in shots)
        cells = (average_cell(part, all_rows, scope) for part, all_rows in zip(parts, columns.values(), strict=True))
        body.append((names, tuple(cells)))
    title, notes = heading("Few-shot", scope, runs, what), undefined_notes(columns, scope) + warning_notes(runs)
    return Table(title, keys, tuple(columns), tuple(body), notes, scope.best, () if rows else settings)


def base2new_table(
    runs: Sequence[Run],
    what: str,
    scope: Scope,
    rows: Rows | None = None,
    keys: tuple[str, ...] = KEYS,
    hms: Sequence[str] = tuple(HM_NAMES),
) -> Table:
    """Columns: base, new, HM (over several datasets each of ``hms``); the rest as :func:`few_shot_table`.

    HM is that of the seed averages, its interval that of the HMs of single seeds.

    Args:
        runs: of the splits "base" and "new", of one number of shots.
    """
    several = len(scope.datasets) > 1
    hms = () if not scope.has_hm else hms if several else ("of-averages",)
    columns = {split: split_of(runs, split) for split in ("base", "new")}
    body, (own_rows, settings) = [], rows_of(runs)
    for names, own in rows or own_rows:
        cells = [average_cell(split_of(own, split), all_rows, scope) for split, all_rows in columns.items()]
        body.append((names, (*cells, *(hm_cell(own, runs, scope, how) for how in hms))))
    headings = [HM_COLUMNS[how] if several else "HM" for how in hms]
    meaning = "; ".join(f"{HM_COLUMNS[how]}: {HM_NAMES[how]}" for how in hms) if several else "HM = 2BN/(B+N)"
    title = heading("Base-to-new", scope, runs, what) + (f"; {meaning}" if hms else "")
    notes = undefined_notes(columns, scope) + warning_notes(runs) + apart_notes(runs)
    return Table(title, keys, ("base", "new", *headings), tuple(body), notes, scope.best, () if rows else settings)


# -- per modality -----------------------------------------------------------------------------------------


def modality_tables(runs: Sequence[Run], scope: Scope) -> list[Table]:
    """Rows: methods. Columns: modalities, each the average over its datasets. A table per shots and split, and per HM."""
    left_out, runs = apart_notes(runs), counted(runs)
    members: dict[str, list[str]] = {}
    for modality, dataset in sorted({(run.modality, run.dataset) for run in runs}):
        members.setdefault(modality, []).append(dataset)
    scopes = {modality: replace(scope, datasets=tuple(names)) for modality, names in members.items()}
    notes = ("; ".join(f"{modality}: {', '.join(names)}" for modality, names in members.items()), *left_out)
    tables = []
    for splits in ("all",), ("base",), ("new",), ("base", "new"):
        if len(splits) > 1 and not scope.has_hm:
            continue
        for k in sorted({run.shots for run in runs if run.split == splits[-1]}):
            chosen = [run for run in runs if run.split in splits and run.shots == k]
            own_rows, settings = rows_of(chosen)
            rows = tuple((names, _modality_cells(own, chosen, splits, scopes)) for names, own in own_rows)
            kind = HM_NAMES["of-averages"] if len(splits) > 1 else f"{splits[0]} classes"
            title = heading(f"{shots_of(k)}, {kind},", scope, chosen, "per modality")
            tables.append(Table(title, KEYS, tuple(members), rows, notes + warning_notes(chosen), scope.best, settings))
    return tables


def _modality_cells(
    own: Sequence[Run], everyone: Sequence[Run], splits: Sequence[str], scopes: Mapping[str, Scope]
) -> tuple[Cell, ...]:
    if len(splits) > 1:
        return tuple(hm_cell(own, everyone, scope, "of-averages") for scope in scopes.values())
    return tuple(average_cell(own, everyone, scope) for scope in scopes.values())


# -- ablations --------------------------------------------------------------------------------------------


def ablation_tables(runs: Sequence[Run], method: str, scope: Scope) -> list[Table]:
    """Rows: the settings of one method that were run; columns: the settings that differ, then the numbers.

    Few-shot: one column per shots; base-to-new: base, new and HM of the averages, one table per shots. Datasets are
    averaged, those alone that count in the protocol. One set of tables per backbone. Runs whose changes are not known are left
    out.
    """
    known = [run for run in runs if run.method == method and run.changed is not None]
    tables = []
    for backbone in sorted({run.backbone for run in known}):
        own = [run for run in known if run.backbone == backbone]
        what = f"ablation of {method} on {backbone}, "
        few = split_of(own, "all")
        if few:
            keys, rows = setting_rows(few)
            tables.append(few_shot_table(few, what + ", ".join(scope.datasets), scope, rows, keys))
        both = [run for run in own if run.split in PAIR]
        pairs = counted(both) or both  # one that is apart may be looked at alone
        apart = {run.dataset for run in both} - {run.dataset for run in pairs}
        narrowed = replace(scope, datasets=tuple(name for name in scope.datasets if name not in apart))
        for k in sorted({run.shots for run in pairs}):
            of_k = [run for run in pairs if run.shots == k]
            keys, rows = setting_rows(of_k)
            title = f"{shots_of(k)}, {what}{', '.join(narrowed.datasets)}"
            table = base2new_table(of_k, title, narrowed, rows, keys, ("of-averages",))
            tables.append(replace(table, notes=tuple(dict.fromkeys(table.notes + apart_notes(both)))))
    return tables


def setting_rows(runs: Sequence[Run]) -> tuple[tuple[str, ...], Rows]:
    """Headings and rows of an ablation: a row per setting, with the values of all that was changed in any of the runs.

    A dataset whose config file has a row's value already counts in that row with its run as configured.
    """
    configured = {(key, run.dataset): before for run in runs for key, (before, _) in run.changes.items()}
    keys = sorted({key for key, _ in configured})
    defaults = {key: "|".join(sorted({str(value) for (k, _), value in configured.items() if k == key})) for key in keys}
    rows = []
    for _, setting in sorted({run.setting: run.used for run in runs}.items()):
        names = tuple(str(setting.get(key, defaults[key])) for key in keys) or ("as configured",)
        rows.append((names, [run for run in runs if run.used == _as_changed(setting, configured, run.dataset)]))
    return tuple(short_key(key) for key in keys) or ("setting",), rows


def _as_changed(setting: Mapping[str, Any], configured: Mapping[tuple[str, str], Any], dataset: str) -> dict[str, Any]:
    """What a run on ``dataset`` with this setting has changed: not what its config file says anyway."""
    return {k: value for k, value in setting.items() if (k, dataset) not in configured or configured[k, dataset] != value}
