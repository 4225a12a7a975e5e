"""The pieces of a sweep: a job is one method on one dataset by one protocol, with one number of shots and one seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

DEFAULT_BACKBONE = "BiomedCLIP"


@dataclass(frozen=True)
class Job:
    """What :func:`runs.protocols.run_task` is called for, as plain data that a file, a database or a wire can hold.

    Attributes:
        task: a protocol, ``few_shot`` or ``base2new``, …
        dataset: key of a file in configs/datasets, or the path of a YAML file.
        shots, seed: training images per class, and the seed of their draw and of training.
        overrides: ``(key, value)`` pairs over the config files, each taken by the methods that read it.
        label: names a setting of its own; its runs lie in a folder of this name below that of all runs.
        targets: datasets to test on, of a protocol that has some.
        whole: the method comes from "all": where it does not fit, it is left out instead of missing.
    """

    task: str
    method: str
    dataset: str
    shots: int
    seed: int
    backbone: str = DEFAULT_BACKBONE
    overrides: tuple[tuple[str, Any], ...] = ()
    label: str = ""
    targets: tuple[str, ...] = ()
    whole: bool = False

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits that follow from all that decides the job's numbers."""
        facts = {**vars(self), "overrides": sorted(self.overrides)}
        facts.pop("whole")
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]

    @property
    def setting(self) -> tuple[Any, ...]:
        """What the jobs of different seeds and shots share: they are configured alike."""
        return self.task, self.method, self.dataset, self.backbone, self.overrides, self.label, self.targets

    @property
    def title(self) -> str:
        """For people: ``few_shot btmri CoOp, 16 shots, seed 1``."""
        label = f" ({self.label})" if self.label else ""
        return f"{self.task} {self.dataset} {self.method}{label}, {self.shots} shots, seed {self.seed}"

    def as_data(self) -> dict[str, Any]:
        """For JSON; :func:`job_of` reads it back."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


def job_of(data: dict[str, Any]) -> Job:
    """The job that :meth:`Job.as_data` gave.

    Raises:
        TypeError, KeyError: it is none.
    """
    pairs = tuple((str(key), _plain(value)) for key, value in data["overrides"])
    return Job(**{**data, "overrides": pairs, "targets": tuple(data["targets"])})


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, list) else value


Unit = tuple[Job, ...]  # what one call does: a job, or the seeds of a setting that are trained as one batch


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """Jobs without twins, those beside each other that train on the same images seen by the same tower.

    The crops of a dataset, seed and number of shots are encoded by the first job that needs them and read by the rest.
    """
    first = {job.id: job for job in reversed(list(jobs))}
    places = {name: index for index, name in enumerate(dict.fromkeys(job.dataset for job in reversed(first.values())))}
    return sorted(reversed(first.values()), key=lambda job: (job.backbone, places[job.dataset], job.task, job.seed, job.shots))


def units_of(jobs: Sequence[Job], together: Iterable[str] = ()) -> list[Unit]:
    """The calls that do ``jobs``; the seeds of methods in ``together`` share one."""
    stacked = set(together)
    groups: dict[Any, list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.setting, job.shots) if job.method in stacked else job.id, []).append(job)
    return [tuple(group) for group in groups.values()]


def narrowed(jobs: Iterable[Job], **only: Sequence[Any]) -> list[Job]:
    """The jobs whose ``method``, ``dataset``, ``label``, … is among the given; what is empty leaves all in."""
    return [job for job in jobs if all(getattr(job, name) in values for name, values in only.items() if values)]


def with_settings(jobs: Iterable[Job], overrides: Sequence[tuple[str, Any]], backbone: str = "") -> list[Job]:
    """The jobs with further overrides, which win, and another backbone."""
    return [
        replace(job, overrides=tuple({**dict(job.overrides), **dict(overrides)}.items()), backbone=backbone or job.backbone)
        for job in jobs
    ]
