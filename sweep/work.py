"""Doing a job in this process: the config that it names, the runs of its protocol, and what became of them."""

from __future__ import annotations

import gc
import io
import resource
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import lru_cache
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from analysis.results import read_record
from dassl.utils import UserError
from datasets.config import merge_pairs
from entry import told
from runs.config import altered, configured
from runs.overrides import unread
from runs.protocols import check_fits, run_task, stage_configs
from runs.settings import CONFIGS, config_file
from runs.tasks import TASKS
from sweep.done import is_done
from sweep.jobs import Job, Unit
from sweep.outcome import Outcome, Place

TAIL = 12  # lines of a failed run's output that are shown


def files_of(dataset: str) -> tuple[Path, str]:
    """A dataset's config file, and its name among the config files."""
    path = Path(dataset)
    if path.suffix not in (".yaml", ".yml"):
        path = CONFIGS / "datasets" / f"{dataset}.yaml"
    return path, path.stem


@lru_cache(maxsize=64)
def _configured(setting: tuple[Any, ...], place: Place) -> tuple[CfgNode, str, tuple[str, ...]]:
    task, method, dataset, backbone, overrides, _, _ = setting
    if task not in TASKS:
        raise UserError(f'no protocol "{task}"; there are: {", ".join(TASKS)}')
    check_fits(method, task)
    file, key = files_of(dataset)
    own = config_file(method, TASKS[task][0].split, key)
    files = [file, own] if own else [file]
    settings = {"DATASET.ROOT": place.root}
    if place.backbone_path:
        settings["MODEL.BACKBONE.PATH"] = place.backbone_path
    words = [word for pair in overrides for word in pair]
    plain = configured(method, backbone, files=files, settings=settings)
    if not words:
        return plain, key, ()
    trial = plain.clone()
    trial.defrost()
    merge_pairs(trial, words)
    without = {name: unread(trial, name, method) for name, _ in overrides}
    kept = [word for name, value in overrides if not without[name] for word in (name, value)]
    return (
        configured(method, backbone, files=files, settings=settings, overrides=kept),
        key,
        tuple(name for name, why in without.items() if why),
    )


def config_of(job: Job, place: Place) -> tuple[CfgNode, str, tuple[str, ...]]:
    """The frozen config of a job, its dataset's name among the folders, and the overrides that its method does not read.

    Raises:
        UserError: it cannot be configured, or its method does not fit the protocol.
    """
    cfg, key, without = _configured(job.setting, place)
    return altered(cfg, {"DATASET.NUM_SHOTS": job.shots, "SEED": job.seed}), key, without


def root_of(job: Job, place: Place) -> Path:
    """The folder of all runs of the job's setting."""
    return Path(place.output) / job.label


def exact_folders(job: Job, place: Place) -> list[Path]:
    """The folders of a job's runs, as the engine will name them.

    Raises:
        UserError: it cannot be configured, or one of them holds a run with other settings.
    """
    cfg, key, _ = config_of(job, place)
    return [Path(one.OUTPUT_DIR) for one in stage_configs(cfg, job.task, root_of(job, place), key, job.targets)]


def perform(unit: Unit, place: Place) -> Outcome:
    """Run what of a unit is not done. Whatever goes wrong is in the outcome; only the end of the process is not.

    What the runs print goes into their logs.
    """
    _settle()
    said = io.StringIO()
    started = time.perf_counter()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            before = all(is_done(folder) for job in unit for folder in exact_folders(job, place))
            folders = _run(unit, place)
        missing = [folder for own in folders.values() for folder in own if not is_done(Path(place.output) / folder)]
        error = f"{missing[0]} is not whole after the run" if missing else ""
        reached = "" if error or before else "; ".join(_accuracy(job, folders[job.id], place) for job in unit)
        return Outcome(folders, error, "", time.perf_counter() - started, _peak_mb(), before, reached)
    except Exception as error:
        line = told(error) or f"{type(error).__name__}: {error}"
        lines = [*said.getvalue().splitlines(), *([] if told(error) else traceback.format_exc().splitlines())]
        return Outcome({}, " ".join(line.split()), "\n".join(lines[-TAIL:]), time.perf_counter() - started, _peak_mb())
    finally:
        _release()


def _run(unit: Sequence[Job], place: Place) -> dict[str, tuple[str, ...]]:
    job = unit[0]
    cfg, key, _ = config_of(job, place)
    seeds = [one.seed for one in unit]
    paths = run_task(
        cfg,
        job.task,
        root_of(job, place),
        key,
        shots=[job.shots],
        seeds=seeds,
        together=len(unit) > 1,
        restart=place.restart,
        targets=job.targets,
        verbose=True,  # what it said last is shown where it fails
    )
    each = len(paths) // len(unit)
    relative = [str(path.relative_to(place.output)) for path in paths]
    return {one.id: tuple(relative[index * each : (index + 1) * each]) for index, one in enumerate(unit)}


def _accuracy(job: Job, folders: Sequence[str], place: Place) -> str:
    """What a job's runs reached: ``81.67 %``, or ``base 90.00 %, new 75.00 %``."""
    records = [read_record(Path(place.output) / folder) for folder in folders]
    named = [f"{record['dataset'] if job.targets else record['split']} " * (len(records) > 1) for record in records]
    return ", ".join(f"{name}{one['metrics']['accuracy']:.2f} %" for name, one in zip(named, records, strict=True))


def _peak_mb() -> float:
    """The most memory that this process held so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


@lru_cache(maxsize=1)
def _settle() -> None:
    """Load what every run will need, and take it out of what the collector goes through: 0.2 s less after each run."""
    import open_clip  # noqa: F401  (with torch and transformers half a million objects)

    gc.collect()
    gc.freeze()


def _release() -> None:
    """Give back what a run held, on the GPU too, before the next one."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
