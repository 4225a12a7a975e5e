"""Which runs are asked for: the choice that tables, figures and the report share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from analysis.files import read_text
from analysis.layout import CROSS, LAYOUT_SPLITS, TASK_FOLDERS, place_of
from analysis.results import Defect, Run, folder_name

SPLITS = {task: tuple(folders) for task, folders in TASK_FOLDERS.items()}


@dataclass(frozen=True)
class Choice:
    """Runs by protocol, names and numbers; what is empty leaves all in. A dataset goes by its name or its key.

    ``datasets`` takes a test on another dataset by either of the two; ``sources`` only what was trained on one of these.
    """

    task: str = ""
    datasets: Sequence[str] = ()
    methods: Sequence[str] = ()
    backbones: Sequence[str] = ()
    shots: Sequence[int] = ()
    seeds: Sequence[int] = ()
    sources: Sequence[str] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits of the protocol, or of all."""
        return SPLITS[self.task] if self.task else tuple(LAYOUT_SPLITS.values())


def add_filters(parser: argparse.ArgumentParser, missing: str = "") -> None:
    """The arguments that choose runs; ``missing`` says what becomes of a name that no run has."""
    parser.add_argument("--task", choices=sorted(SPLITS), help="only this protocol")
    parser.add_argument("--sources", nargs="+", help="only what was trained on these datasets (cross_dataset)")
    for name in ("datasets", "methods", "backbones"):
        parser.add_argument(f"--{name}", nargs="+", help=f"only these {name}{missing}")
    parser.add_argument("--shots", nargs="+", type=int)
    parser.add_argument("--seeds", nargs="+", type=int)


def chosen(args: argparse.Namespace) -> Choice:
    """The choice that the arguments of :func:`add_filters` make."""
    names = ("datasets", "methods", "backbones", "shots", "seeds", "sources")
    own = {name: tuple(getattr(args, name) or ()) for name in names}
    return Choice(args.task or "", **own | {name: tuple(map(dataset_of, own[name])) for name in ("datasets", "sources")})


def dataset_of(name: str) -> str:
    """The name of the dataset that a YAML file describes: its title, or the file's own; any other ``name`` as it is."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        return name
    try:
        return str(yaml.safe_load(read_text(path))["DATASET"].get("TITLE") or "").strip() or path.stem
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, ValueError, AttributeError, RecursionError):
        return path.stem


def _wanted(choice: Choice, **facts: object) -> bool:
    """Whether something with these facts (datasets: any of its names; methods, backbones, shots, seeds) is asked for."""
    for name, value in facts.items():
        asked = getattr(choice, name)
        values = value if isinstance(value, set) else {value}
        if asked and not values & set(asked):
            return False
    return True


def select(runs: Sequence[Run], choice: Choice) -> list[Run]:
    """The runs that are asked for: of cross_dataset its tests on targets, and what their sources were tested on themselves."""
    found = [
        run
        for run in runs
        if run.split in choice.splits
        and _wanted(
            choice,
            datasets=run.names,
            sources=run.source_names,
            methods=run.method,
            backbones=run.backbone,
            shots=run.shots,
            seeds=run.seed,
        )
    ]
    if choice.task != CROSS:
        return found
    sources = {run.source for run in found}
    return [run for run in found if run.source or run.dataset in sources]


def concerns(defect: Defect, choice: Choice) -> bool:
    """Whether an unusable run would have been asked for, as far as its folder's name tells."""
    place = place_of(defect.folder)
    if place is None:
        return True
    methods = {name for name in choice.methods if place.method.startswith(f"{name}_")}
    backbones = {name for name in choice.backbones if place.method.endswith("_" + name.replace("/", "-").replace(":", "-"))}
    datasets = {place.dataset_key, *place.datasets}
    datasets |= {name for name in choice.datasets if folder_name(name) in place.datasets}
    sources = {place.datasets[0], *(name for name in choice.sources if folder_name(name) == place.datasets[0])}
    return place.split in choice.splits and _wanted(
        choice, datasets=datasets, sources=sources, methods=methods, backbones=backbones, shots=place.shots, seeds=place.seed
    )
