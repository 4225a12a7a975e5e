"""What of a sweep can be done here: which jobs are done after all, which cannot run, and why."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field

from yacs.config import CfgNode

from dassl.data.datasets import build_dataset
from dassl.utils import UserError
from runs.fitting import missing_prompts
from sweep.done import is_done
from sweep.jobs import Job
from sweep.outcome import Place
from sweep.work import config_of, exact_folders
from trainers import methods


@dataclass
class Fit:
    """Jobs sorted by what can become of them.

    Attributes:
        done: id -> folders of the runs, from the folder of all runs.
        ready: to be run.
        cannot: reason -> jobs.
        left_out: reason -> jobs of methods that "all" named and that do not fit.
        unread: (method, key) of overrides that a method does not read.
    """

    done: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ready: list[Job] = field(default_factory=list)
    cannot: dict[str, list[Job]] = field(default_factory=dict)
    left_out: dict[str, list[Job]] = field(default_factory=dict)
    unread: dict[tuple[str, str], None] = field(default_factory=dict)


def fit(jobs: Sequence[Job], place: Place, drawn_later: bool = False) -> Fit:
    """Look at each job as the engine will: its config, its folders, its dataset and the LLM prompts that it reads.

    Args:
        drawn_later: datasets that are not there are rehearsal ones, and will be.
    """
    found = Fit()
    datasets: dict[str, object] = {}
    reasons: dict[tuple[object, ...], str] = {}
    for job in jobs:
        try:
            cfg, key, without = config_of(job, place)
        except UserError as error:
            kind = found.left_out if job.whole else found.cannot
            kind.setdefault(f"{job.method}: {error}", []).append(job)
            continue
        found.unread |= dict.fromkeys((job.method, name) for name in without)
        try:
            folders = exact_folders(job, place)
            if all(is_done(folder) for folder in folders):
                found.done[job.id] = tuple(str(folder.relative_to(place.output)) for folder in folders)
                continue
            if job.setting not in reasons:
                if job.dataset not in datasets:
                    datasets[job.dataset] = _dataset(cfg)
                unread = drawn_later and isinstance(datasets[job.dataset], UserError)
                reasons[job.setting] = "" if unread else _reason(cfg, datasets[job.dataset])
        except UserError as error:
            found.cannot.setdefault(str(error), []).append(job)
            continue
        why = reasons[job.setting]
        if not why:
            found.ready.append(job)
        elif job.whole and not isinstance(datasets[job.dataset], UserError):
            found.left_out.setdefault(f"{job.method}: {why}", []).append(job)
        else:
            found.cannot.setdefault(why, []).append(job)
    return found


def _dataset(cfg: CfgNode) -> object:
    """The dataset, or why there is none."""
    try:
        aside = io.StringIO()  # what it says of itself belongs into a run's log
        with redirect_stdout(aside), redirect_stderr(aside):
            return build_dataset(cfg)
    except UserError as error:
        return error


def _reason(cfg: CfgNode, dataset: object) -> str:
    if isinstance(dataset, UserError):
        return str(dataset)
    return missing_prompts(cfg, dataset) if methods()[cfg.TRAINER.NAME].uses_prompts(cfg) else ""
