"""Two runs side by side: what was set otherwise, their metrics, and the images that they classify otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from analysis.files import read_text
from analysis.metrics import METRICS
from analysis.predictions import Predictions, read_predictions
from analysis.results import CONFIG, PREDICTIONS, DamagedRun, read_whole_record
from analysis.stats import Difference, paired_bootstrap

FACTS = ("method", "backbone", "dataset", "split", "num_shots", "seed", "variant", "split_kind", "device", "num_test")
NESTED = ("git", "fingerprints", "versions")
PLACES = {"OUTPUT_DIR"}  # two runs never have the same
LEFT, RIGHT, BOTH, NEITHER = "only A", "only B", "both", "neither"  # which of them are right


@dataclass(frozen=True)
class Side:
    """One of the two runs."""

    folder: Path
    record: Mapping[str, Any]
    settings: Mapping[str, str]

    @property
    def name(self) -> str:
        """``CoOp on BTMRI, all classes, 16 shots, seed 1``."""
        r, shots = self.record, self.record["num_shots"]
        images = "all images" if shots < 0 else f"{shots} shot{'' if shots == 1 else 's'}"
        return f"{r['method']} on {r['dataset']}, {r['split']} classes, {images}, seed {r['seed']}"


@dataclass(frozen=True)
class Case:
    """An image that the two classify otherwise: class names, and probabilities in 0 … 1 of the true and of the chosen class."""

    path: str
    truth: str
    first: tuple[str, float, float]
    second: tuple[str, float, float]
    right: str


@dataclass(frozen=True)
class TwoRuns:
    """The comparison.

    Attributes:
        sides: A and B.
        settings: key and both values, "–" where one has none, of all that differs.
        metrics: title, both values (``None``: not defined) and digits.
        counts: images by which of the two is right.
        difference: of the accuracies of A and B on the shared images, in %; ``None`` where they share none.
        cases: images that they classify otherwise; first those that one of them gets right, the surest first.
        told: what a reader must know of the images, "" for nothing.
    """

    sides: tuple[Side, Side]
    settings: tuple[tuple[str, str, str], ...]
    metrics: tuple[tuple[str, float | None, float | None, int], ...]
    counts: Mapping[str, int]
    difference: Difference | None
    cases: tuple[Case, ...]
    told: str


def compared(first: Path, second: Path) -> TwoRuns:
    """The comparison of two run folders.

    Raises:
        DamagedRun: one of them is no finished run, or a file of it cannot be read.
    """
    sides = side_of(first), side_of(second)
    a, b = (side.settings for side in sides)
    settings = tuple((key, a.get(key, "–"), b.get(key, "–")) for key in _ordered(a, b) if a.get(key) != b.get(key))
    values = [side.record["metrics"] for side in sides]
    metrics = tuple(
        (METRICS[n].title, values[0].get(n), values[1].get(n), METRICS[n].digits) for n in METRICS if n in values[0]
    )
    cases, told = _cases(sides)
    counts = {kind: sum(case.right == kind for case in cases) for kind in (BOTH, LEFT, RIGHT, NEITHER)}
    hits = [100.0 * ((case.right in (BOTH, LEFT)) - (case.right in (BOTH, RIGHT))) for case in cases]
    other = [case for case in cases if case.first[0] != case.second[0]]
    other.sort(key=lambda case: (case.right == NEITHER, -abs(case.first[1] - case.second[1]), case.path))
    return TwoRuns(sides, settings, metrics, counts, paired_bootstrap(hits) if hits else None, tuple(other), told)


def side_of(folder: Path) -> Side:
    """A run's record and all its settings and facts as text.

    Raises:
        DamagedRun: it is no finished run.
    """
    try:
        record = read_whole_record(folder)
        names = record["classnames"]
        if not all(isinstance(name, str) for name in names) or not all(isinstance(record[key], str) for key in FACTS[:4]):
            raise DamagedRun("results.json lacks or garbles classnames, method, backbone, dataset or split")
        if not isinstance(record["metrics"], dict) or not isinstance(record["num_shots"], int):
            raise DamagedRun("results.json lacks or garbles metrics or num_shots")
        config = yaml.safe_load(read_text(folder / CONFIG))
    except (DamagedRun, KeyError, TypeError, OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        said = (
            str(error).splitlines()[0] if isinstance(error, (DamagedRun, OSError)) else f"{CONFIG} or results.json: {error!r}"
        )
        raise DamagedRun(f"{folder}: {said}") from error
    settings = {key: str(record[key]) for key in FACTS if record.get(key) is not None}
    for name in NESTED:
        settings |= dict(_flat(record.get(name) or {}, name))
    return Side(folder, record, settings | {key: value for key, value in _flat(config or {}) if key not in PLACES})


def _flat(values: Any, above: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings as dotted keys with their values as text."""
    if not isinstance(values, dict):
        yield above, str(values)
        return
    for key, value in values.items():
        yield from _flat(value, f"{above}.{key}" if above else str(key))


def _ordered(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """Facts first, as they stand above, then settings in their order."""
    return list(dict.fromkeys([*first, *second]))


# -- images -----------------------------------------------------------------------------------------------


def _cases(sides: tuple[Side, Side]) -> tuple[list[Case], str]:
    """Every image that both were tested on, and what is to be said of the others."""
    kept = [read_predictions(side.folder / PREDICTIONS) for side in sides]
    names = [side.record["classnames"] for side in sides]
    for side, own, classes in zip(sides, kept, names, strict=True):
        if own.probabilities.shape[1] != len(classes) or not 0 <= own.labels.min() <= own.labels.max() < len(classes):
            raise DamagedRun(
                f"{side.folder}: {PREDICTIONS} has {own.probabilities.shape[1]} classes, its record {len(classes)}"
            )
    places = [_places(own, classes) for own, classes in zip(kept, names, strict=True)]
    shared = [key for key in places[0] if key in places[1]]
    found = [
        _case(key, [(own, classes, place[key]) for own, classes, place in zip(kept, names, places, strict=True)])
        for key in shared
    ]
    told = []
    if len(shared) < max(len(places[0]), len(places[1])):
        told.append(
            f"{len(shared)} images with the same class are in both tests, of {len(places[0])} of A and {len(places[1])} of B"
        )
    if names[0] != names[1]:
        told.append("the two chose among other classes")
    return found, "; ".join(told)


def _places(kept: Predictions, classes: list[str]) -> dict[tuple[str, str], int]:
    """The row of each image, by its path and true class."""
    return {(path, classes[label]): row for row, (path, label) in enumerate(zip(kept.paths, kept.labels, strict=True))}


def _case(key: tuple[str, str], rows: list[tuple[Predictions, list[str], int]]) -> Case:
    chosen = []
    for kept, classes, row in rows:
        p = kept.probabilities[row]
        best = int(np.argmax(p))
        chosen.append((classes[best], float(p[kept.labels[row]]), float(p[best])))
    hits = tuple(name == key[1] for name, _, _ in chosen)
    right = {(True, True): BOTH, (True, False): LEFT, (False, True): RIGHT, (False, False): NEITHER}[hits]
    return Case(key[0], key[1], chosen[0], chosen[1], right)
