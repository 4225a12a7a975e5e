"""Grids: YAML files that say which runs a table needs, in blocks whose lists are multiplied out.

about: what it is for, in a line
include:                      # other grids, by name or path; what is set here replaces what they have
  - paper_few_shot
  - {grid: paper_base2new, seeds: [1], overrides: {OPTIM.MAX_EPOCH: 4}}
phantom: {per_class: 60}      # the rehearsal images are drawn first, where they are not there
blocks:
  - task: few_shot            # a protocol
    methods: [CoOp, BiomedDPT]  # or all: those that fit
    datasets: [btmri, busi]   # keys of configs/datasets, paths of YAML files, or all
    shots: [1, 16]
    seeds: [1, 2, 3]
    backbone: BiomedCLIP      # the default
    overrides: {KEY: value}   # each taken by the methods that read it
    label: mine               # a setting of its own, beside the unlabelled one
    settings:                 # several: label -> overrides
      no-kl: {TRAINER.BIOMEDDPT.W_KL: 0.0}
    targets: [busi]           # of a protocol that tests on other datasets
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from sweep.jobs import DEFAULT_BACKBONE, Job

CONFIGS = Path(__file__).parents[1] / "configs"
SWEEPS = CONFIGS / "sweeps"
LISTS = ("methods", "datasets", "shots", "seeds", "targets")
BLOCK = {"task", "backbone", "overrides", "label", "settings", *LISTS}
REPLACED = {"backbone", "overrides", "methods", "datasets", "shots", "seeds"}  # of an included grid
NUMBERS = {"shots": range(1, 100_001), "seeds": range(0, 2**63)}
NAME = re.compile(r"[\w.+-]*(?<!\.)")  # of a folder below that of all runs; may be empty
DEEPEST = 8  # grids that include grids


class GridError(ValueError):
    """A grid that cannot be read, in one line that names the file and the key."""

    told = True  # to the user, in a line (entry.py)


@dataclass(frozen=True)
class Grid:
    """The jobs of one or several grids.

    Attributes:
        names: as given.
        phantom: how the rehearsal images are drawn, where the grid asks for them.
    """

    names: tuple[str, ...]
    jobs: tuple[Job, ...]
    about: str = ""
    phantom: Mapping[str, int] = field(default_factory=dict)


def all_methods() -> list[str]:
    """Every method that has config files."""
    return sorted(folder.name for folder in (CONFIGS / "trainers").iterdir() if folder.is_dir())


def published_datasets() -> list[str]:
    """The keys of the published datasets."""
    return sorted(path.stem for path in (CONFIGS / "datasets").glob("*.yaml") if not path.stem.startswith("example_"))


def known_grids() -> dict[str, str]:
    """Name of each grid of the project -> what it is for."""
    return {path.stem: str(_mapping(path).get("about", "")) for path in sorted(SWEEPS.glob("*.yaml"))}


def read_grids(names: Sequence[str]) -> Grid:
    """The jobs of several grids, each once.

    Args:
        names: of files in configs/sweeps, or paths of YAML files.

    Raises:
        GridError: a file that is not there or no grid; with its name and the key at fault.
    """
    jobs: dict[str, Job] = {}
    phantom: dict[str, int] = {}
    about = []
    for name in names:
        path = _path(name, Path())
        found = _read(path, 0)
        jobs |= {job.id: job for job in found.jobs if job.id not in jobs}
        phantom |= found.phantom
        about.append(found.about)
    return Grid(tuple(names), tuple(jobs.values()), "; ".join(filter(None, about)), phantom)


def _path(name: str, beside: Path) -> Path:
    if Path(name).suffix in (".yaml", ".yml"):
        return next((path for path in (beside / name, Path(name)) if path.is_file()), beside / name)
    path = SWEEPS / f"{name}.yaml"
    if not path.is_file():
        raise GridError(f'no grid "{name}".{near(name, known_grids())} Grids: {", ".join(known_grids())} (or a YAML file)')
    return path


def near(name: object, known: Iterable[str]) -> str:
    """`` Did you mean "…"?`` where a known name is close; else nothing."""
    close = difflib.get_close_matches(str(name), list(known), 1)
    return f' Did you mean "{close[0]}"?' if close else ""


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise GridError(f"{path} cannot be read as a grid: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise GridError(f"{path} is no grid: it must hold keys such as blocks or include")
    return content


def _read(path: Path, depth: int) -> Grid:
    content = _mapping(path)
    known = ("about", "include", "phantom", "blocks")
    for key in content:
        if key not in known:
            raise GridError(f'{path}: unknown key "{key}".{near(key, known)} A grid has {", ".join(known)}')
    if depth > DEEPEST:
        raise GridError(f"{path}: grids that include each other, or more than {DEEPEST} deep")
    jobs: list[Job] = []
    phantom: dict[str, int] = {}
    for entry in _list(content.get("include", []), path, "include"):
        included = _included(entry, path, depth)
        jobs += included.jobs
        phantom |= included.phantom
    for number, block in enumerate(_list(content.get("blocks", []), path, "blocks"), start=1):
        jobs += _block(block, f"{path}, block {number}")
    if not jobs:
        raise GridError(f"{path} holds no runs: give it blocks, or include other grids")
    own = content.get("phantom") or {}
    if not isinstance(own, dict) or not all(key == "per_class" and _is_int(value) and value > 0 for key, value in own.items()):
        raise GridError(f"{path}: phantom must be like {{per_class: 60}}, got {own}")
    return Grid((path.stem,), tuple(jobs), str(content.get("about", "")), phantom | own)


def _included(entry: Any, path: Path, depth: int) -> Grid:
    entry = {"grid": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or not isinstance(entry.get("grid"), str):
        raise GridError(f"{path}: include must name grids, or be like {{grid: NAME, seeds: [1]}}, got {entry}")
    where = f"{path}, include {entry['grid']}"
    changes = {key: value for key, value in entry.items() if key != "grid"}
    _known_keys(changes, REPLACED, where)
    grid = _read(_path(entry["grid"], path.parent), depth + 1)
    if not isinstance(changes.get("backbone", ""), str):
        raise GridError(f"{where}: backbone must be a name, got {changes['backbone']!r}")
    overrides = _overrides(changes.get("overrides", {}), where)
    chosen = {key: _values(changes[key], key, where) for key in LISTS if key in changes}
    jobs: dict[str, Job] = {}
    for job in grid.jobs:
        if ("methods" in chosen and job.method not in chosen["methods"]) or (
            "datasets" in chosen and job.dataset not in chosen["datasets"]
        ):
            continue
        for shots, seed in product(chosen.get("shots", [job.shots]), chosen.get("seeds", [job.seed])):
            merged = tuple({**dict(job.overrides), **dict(overrides)}.items())
            backbone = changes.get("backbone", job.backbone)
            one = replace(job, shots=shots, seed=seed, overrides=merged, backbone=backbone)
            jobs[one.id] = one
    return Grid(grid.names, tuple(jobs.values()), grid.about, grid.phantom)


def _block(block: Any, where: str) -> list[Job]:
    if not isinstance(block, dict):
        raise GridError(f"{where} must hold keys such as task and methods, got {str(block)[:60]}")
    _known_keys(block, BLOCK, where)
    for key in ("task", "methods", "datasets", "shots", "seeds"):
        if key not in block:
            raise GridError(f"{where} names no {key}")
    lists = {key: _values(block[key], key, where) for key in LISTS if key in block}
    backbone, label = block.get("backbone", DEFAULT_BACKBONE), block.get("label", "")
    common = dict(_overrides(block.get("overrides", {}), where))
    settings = block.get("settings") or {label: {}}
    if not isinstance(settings, dict):
        raise GridError(f"{where}: settings must be label: {{KEY: value}}, got {str(settings)[:60]}")
    for key, value in [("task", block["task"]), ("backbone", backbone), *(("label", name) for name in settings)]:
        if not isinstance(value, str) or (key != "backbone" and not NAME.fullmatch(value)):
            raise GridError(f"{where}: {key} must be a name, got {value!r}")
    whole = block["methods"] == "all"
    return [
        Job(block["task"], method, dataset, shots, seed, backbone, pairs, str(name), tuple(lists.get("targets", ())), whole)
        for name, changes in settings.items()
        for pairs in [tuple({**common, **dict(_overrides(changes or {}, where))}.items())]
        for dataset, seed, shots, method in product(lists["datasets"], lists["seeds"], lists["shots"], lists["methods"])
    ]


def _values(given: Any, key: str, where: str) -> list[Any]:
    """The values of one of the lists of a block, checked."""
    if key in ("methods", "datasets", "targets"):
        known = all_methods() if key == "methods" else published_datasets()
        if given == "all":
            return known
        for value in _list(given, where, key):
            own = key != "methods" and isinstance(value, str) and Path(value).suffix in (".yaml", ".yml")
            if not own and value not in known:
                raise GridError(f'{where}: {key} has no "{value}".{near(value, known)} There are: {", ".join(known)}')
        return list(dict.fromkeys(given))
    for value in _list(given, where, key):
        if not _is_int(value) or value not in NUMBERS[key]:
            raise GridError(f"{where}: {key} must be whole numbers from {NUMBERS[key].start} up, got {value!r}")
    return list(dict.fromkeys(given))


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _list(given: Any, where: object, key: str) -> list[Any]:
    if not isinstance(given, list):
        raise GridError(f"{where}: {key} must be a list, got {str(given)[:60]!r}")
    return given


def _known_keys(given: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise GridError(f'{where}: unknown key "{key}".{near(key, known)} There are: {", ".join(sorted(known))}')


def _overrides(given: Any, where: str) -> tuple[tuple[str, Any], ...]:
    if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
        raise GridError(f"{where}: overrides must be like {{OPTIM.MAX_EPOCH: 4}}, got {str(given)[:60]}")
    return tuple((key, _frozen(value)) for key, value in given.items())


def _frozen(value: Any) -> Any:
    """A list as a tuple; one that holds mappings (STAGES) as the text that a config reads: jobs are compared and looked up."""
    if not isinstance(value, list):
        return value
    return repr(value) if any(isinstance(one, dict) for one in value) else tuple(value)
