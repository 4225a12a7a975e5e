"""Which runs there are: done, damaged or unfinished, and missing; per method, dataset, split, shots and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from analysis.layout import TARGET, Place, place_of
from analysis.results import Defect, Run
from analysis.summaries import by_series, names_of
from analysis.words import cut_inside, short_labels

SPLIT_ORDER = {"all": 0, "base": 1, "new": 2, TARGET: 3}
PROTOCOL = {"all": 0, "base": 1, "new": 1, TARGET: 2}  # a row is expected in those that it was run in
PROTOCOL_NAMES = ("few-shot", "base-to-new", "cross-dataset")
DONE, BROKEN, MISSING = "done", "broken", "missing"
Column = tuple[str, str, int]  # dataset, split, shots
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Mark:
    """One run of the grid; ``folder`` is ``None`` for a missing one, ``why`` says what is wrong."""

    seed: int
    state: str
    folder: Path | None = None
    why: str = ""


@dataclass(frozen=True)
class Coverage:
    """Rows by their names, columns, the marks of each filled place, and the defects that no place could be found for."""

    rows: tuple[Key, ...]
    columns: tuple[Column, ...]
    marks: Mapping[tuple[Key, Column], tuple[Mark, ...]]
    elsewhere: tuple[Defect, ...]
    labels: Mapping[Key, str] = field(default_factory=dict)

    def label(self, row: Key) -> str:
        """The row's short name."""
        return self.labels.get(row, row[0])

    def of_protocol(self, number: int) -> tuple[list[str], dict[Key, dict[str, list[Mark]]]]:
        """Datasets of one of :data:`PROTOCOL_NAMES`, and per row the marks of all shots, splits and seeds on each."""
        columns = [column for column in self.columns if PROTOCOL[column[1]] == number]
        found: dict[Key, dict[str, list[Mark]]] = {}
        for row in self.rows:
            for column in columns:
                if (row, column) in self.marks:
                    found.setdefault(row, {}).setdefault(column[0], []).extend(self.marks[row, column])
        return list(dict.fromkeys(column[0] for column in columns)), found

    def count(self, state: str) -> int:
        """Runs in this state, those without a place included."""
        return sum(m.state == state for own in self.marks.values() for m in own) + len(self.elsewhere) * (state == BROKEN)


def coverage(runs: Sequence[Run], defects: Sequence[Defect]) -> Coverage:
    """The grid. A row is expected on every dataset, with all shots and seeds, of the protocols that it was run in."""
    names = {series: names_of(own) for series, own in by_series(runs).items()}
    found: dict[tuple[Key, Column], dict[int, Mark]] = {}
    for run in runs:
        column = (run.dataset, run.split, run.shots)
        found.setdefault((names[run.series], column), {})[run.seed] = Mark(run.seed, DONE, run.folder)
    elsewhere = []
    for defect in defects:
        place = place_of(defect.folder)
        if place is None:
            elsewhere.append(defect)
            continue
        key = _row_of(place, defect.folder, runs, names)
        column = (_dataset_of(place, runs), place.split, place.shots)
        own = found.setdefault((key, column), {})
        if place.seed in own:  # a copy of a run that is there
            elsewhere.append(defect)
        else:
            own[place.seed] = Mark(place.seed, BROKEN, defect.folder, defect.why)
    rows = tuple(sorted({key for key, _ in found}))
    differs = {names[series]: own[0].differs for series, own in by_series(runs).items()}
    columns = tuple(sorted({column for _, column in found}, key=lambda c: (PROTOCOL[c[1]], c[0], SPLIT_ORDER[c[1]], c[2])))
    return Coverage(rows, columns, _filled(rows, columns, found), tuple(elsewhere), _labels(rows, differs))


def _labels(rows: Sequence[Key], differs: Mapping[Key, str]) -> dict[Key, str]:
    """Short names of rows; of one without a finished run it is not known what differs, so it goes by its variant."""
    many = len({row[1] for row in rows}) > 1
    named = [(cut_inside(f"{row[0]}, {row[1]}" if many else row[0], 34), differs.get(row, row[2])) for row in rows]
    return dict(zip(rows, short_labels(named), strict=True))


def _filled(
    rows: Sequence[Key], columns: Sequence[Column], found: Mapping[tuple[Key, Column], Mapping[int, Mark]]
) -> dict[tuple[Key, Column], tuple[Mark, ...]]:
    """Missing runs put in, protocol by protocol."""
    marks: dict[tuple[Key, Column], tuple[Mark, ...]] = {}
    for protocol in sorted(set(PROTOCOL.values())):
        own = {key: seeds for key, seeds in found.items() if PROTOCOL[key[1][1]] == protocol}
        seeds = sorted({seed for by_seed in own.values() for seed in by_seed})
        for row in rows:
            if any(key[0] == row for key in own):
                for column in (c for c in columns if PROTOCOL[c[1]] == protocol):
                    there = own.get((row, column), {})
                    marks[row, column] = tuple(there.get(seed, Mark(seed, MISSING)) for seed in seeds)
    return marks


def _row_of(place: Place, folder: Path, runs: Sequence[Run], names: Mapping[Key, Key]) -> Key:
    """The row of finished runs that a folder's names point to, else one of its own."""
    variant = folder.parent.name
    alike = [run for run in runs if f"{run.method}_{_as_folder(run.backbone)}" == place.method]
    same = {run.series for run in alike if run.variant == variant} or {run.series for run in alike}
    if len(same) == 1:
        return names[same.pop()]
    method, _, backbone = place.method.partition("_")
    return method, backbone, variant


def _dataset_of(place: Place, runs: Sequence[Run]) -> str:
    """The name of the dataset whose runs lie in a folder of this name, or that is called so."""
    key = place.dataset_key
    return next((run.dataset for run in runs if key in (run.dataset_key, run.dataset.lower())), key)


def _as_folder(backbone: str) -> str:
    return backbone.replace("/", "-").replace(":", "-")
