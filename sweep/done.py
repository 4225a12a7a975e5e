"""Which jobs are done, by the files that runs left behind, without building anything.

A run is done when its results file and all that it names are whole. That it is the run of a job is read off its place and
its ``changed`` settings; what cannot be told here counts as not done, and the engine, which knows the exact folder, skips it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from analysis.choice import dataset_of
from analysis.layout import TASK_FOLDERS
from analysis.results import CONFIG, RESULTS, DamagedRun, folder_name, read_whole_record
from sweep.jobs import Job

NOWHERE = object()
LEARNER = "prompt_learner"  # folder of a run's checkpoints
BY_PLACE = ("few_shot", "base2new")  # protocols whose runs' places follow from a job


def done_jobs(
    output: str | Path, jobs: Iterable[Job], known: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, tuple[str, ...]]:
    """Id of every job that is done -> the folders of its runs, from ``output``.

    Args:
        known: folders that the journal has for a job; looked at first.
    """
    found = {}
    for job in jobs:
        told = (known or {}).get(job.id, ())
        if told and all(is_done(Path(output) / folder) for folder in told):
            found[job.id] = told
            continue
        stages = () if job.targets or job.task not in BY_PLACE else TASK_FOLDERS[job.task].values()
        own = [_run_of(Path(output), job, stage) for stage in stages]
        if own and all(own):
            found[job.id] = tuple(str(folder) for folder in own)
    return found


def is_done(folder: Path) -> bool:
    """Whether a run is whole, and, of a test on another dataset, whether its source still holds what was tested."""
    record = _whole(folder)
    if record is None:
        return False
    source = record.get("source")
    if not isinstance(source, dict) or not source.get("checkpoint"):
        return True
    place = Path(os.path.normpath(folder / str(source.get("folder")))) / LEARNER
    kept = sorted(place.glob("model*")) if place.is_dir() else []
    return any(hashlib.sha256(path.read_bytes()).hexdigest() == source["checkpoint"] for path in kept)


def _whole(folder: Path) -> dict[str, Any] | None:
    try:
        return read_whole_record(folder)
    except DamagedRun:
        return None


def _run_of(output: Path, job: Job, stage: str) -> Path | None:
    """The folder, from ``output``, of the whole run of one stage of a job."""
    backbone = job.backbone.replace("/", "-").replace(":", "-")
    place = output / job.label / stage / key_of(job.dataset) / f"shots_{job.shots}" / f"{job.method}_{backbone}"
    try:
        variants = sorted(os.listdir(place))
    except OSError:
        return None
    for variant in variants:
        folder = place / variant / f"seed{job.seed}"
        if (folder / RESULTS).is_file() and _is_of(folder, job):
            return folder.relative_to(output)
    return None


@cache
def key_of(dataset: str) -> str:
    """The dataset's name among the folders of runs (``runs.identity.dataset_key``)."""
    return folder_name(dataset_of(dataset))


def _is_of(folder: Path, job: Job) -> bool:
    """Whether the whole run in ``folder`` has a job's settings."""
    record = _whole(folder)
    if record is None or not isinstance(record.get("changed"), dict):
        return False
    changed = {key: pair.get("run") for key, pair in record["changed"].items() if isinstance(pair, dict)}
    wanted = dict(job.overrides)
    own = _settings_of(job.dataset)
    if any(not _same(wanted.get(key, own.get(key, NOWHERE)), value) for key, value in changed.items()):
        return False
    rest = [key for key in wanted if key not in changed]
    if not rest:
        return True
    config = _flat_file(folder / CONFIG)
    return all(_same(wanted[key], config.get(key, NOWHERE)) for key in rest)


def _same(one: Any, other: Any) -> bool:
    return (list(one) if isinstance(one, tuple) else one) == (list(other) if isinstance(other, tuple) else other)


@cache
def _settings_of(dataset: str) -> dict[str, Any]:
    """The settings of a dataset's YAML file that lies outside the project."""
    return _flat_file(Path(dataset)) if Path(dataset).suffix in (".yaml", ".yml") else {}


def _flat_file(path: Path) -> dict[str, Any]:
    """The dotted keys of a YAML file; empty where it cannot be read."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506  (a safe loader in both cases)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError):
        return {}
    return dict(_flat(content, "")) if isinstance(content, dict) else {}


def _flat(node: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
