"""Where runs lie below the folder of all runs: by protocol, split, dataset, shots, method, variant and seed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

TARGET = "target"  # the split of a test on another dataset than the one that was trained on: never one of its own
CROSS = "cross_dataset"
# protocol -> split -> its folder below that of all runs
TASK_FOLDERS = {
    "few_shot": {"all": "few_shot"},
    "base2new": {"base": "base2new/train_base", "new": "base2new/test_new"},
    CROSS: {"all": "few_shot", TARGET: CROSS},
}
LAYOUT_SPLITS = {folder: split for own in TASK_FOLDERS.values() for split, folder in own.items()}
LAYOUT = re.compile(
    rf"(?:(?P<folder>{'|'.join(folder for folder in LAYOUT_SPLITS if folder != CROSS)})|{CROSS}/(?P<source>[^/]+))"
    r"/(?P<dataset>[^/]+)/shots_(?P<shots>-?\d+)/(?P<method>[^/]+)/[^/]+/seed(?P<seed>-?\d+)$"
)


@dataclass(frozen=True)
class Place:
    """What the layout of runs says of a folder; ``method`` is ``<Trainer>_<Backbone>``, ``datasets`` the source and target."""

    split: str
    dataset_key: str
    shots: int
    method: str
    seed: int
    datasets: tuple[str, ...] = ()


def pair_key(source: str, target: str) -> str:
    """What a test on another dataset is called in the names of files."""
    return f"{source}_to_{target}"


def place_of(folder: Path) -> Place | None:
    """``…/<task>/<split>/<dataset>/shots_<K>/<Trainer>_<Backbone>/<variant>/seed<S>``; ``None`` for another place."""
    found = LAYOUT.search(folder.as_posix())
    if not found:
        return None
    source, dataset = found["source"], found["dataset"]
    numbers = int(found["shots"]), found["method"], int(found["seed"])
    if source:
        return Place(TARGET, pair_key(source, dataset), *numbers, (source, dataset))
    return Place(LAYOUT_SPLITS[found["folder"]], dataset, *numbers, (dataset,))
