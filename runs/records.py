"""The results file of a run, written last and whole, and the predictions that it rests on."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from analysis.metrics import metrics
from analysis.predictions import Predictions, write_predictions
from analysis.results import PREDICTIONS, RESULTS, files_of
from dassl.utils import atomic, write_json
from runs.cross import record_of
from runs.departures import departures_of
from runs.identity import config_hash, split_kind, variant_of
from trainers.base import VLTrainer

log = logging.getLogger(__name__)

PACKAGES = ("torch", "torchvision", "dassl", "open_clip_torch", "timm", "transformers", "numpy", "pillow")


def write_results(
    trainer: VLTrainer,
    folder: str | Path,
    train: dict[str, Any],
    timings: dict[str, float],
    source: Mapping[str, Any] | None = None,
) -> Path:
    """Say in the log what was not the published setting, and write ``results.json`` (docs/RESULTS_FILE.md).

    Args:
        trainer: tested.
        train: how it was trained; empty for a run that only tested.
        timings: seconds by name.
        source: of a test on another dataset, what was trained (:func:`runs.cross.source_of`).

    Raises:
        UserError: the scores of the test are not finite.
    """
    cfg, facts = trainer.cfg, trainer.facts
    departures = departures_of(trainer, train)
    for departure in departures.chosen:
        log.info("not the published setting: %s", departure)
    predictions = save_predictions(trainer, folder)
    split = cfg.DATASET.SUBSAMPLE_CLASSES
    prompts = getattr(trainer, "prompts", None)
    record = {
        "schema": 2,
        "complete": True,
        "method": cfg.TRAINER.NAME,
        "backbone": cfg.MODEL.BACKBONE.NAME,
        "dataset": facts.name,
        "dataset_class": cfg.DATASET.NAME,
        "modality": facts.modality,
        "organ": facts.organ,
        "task": "few_shot" if split == "all" else "base2new",
        "split": split,
        "num_shots": cfg.DATASET.NUM_SHOTS,
        "seed": cfg.SEED,
        "variant": variant_of(cfg),
        "split_kind": split_kind(cfg),
        **metrics(predictions.labels, predictions.probabilities, trainer.classnames, facts.ordered),
        "classnames": trainer.classnames,
        "learned": {"parameters": trainer.learned_count, "names": trainer.learned_names},
        "train": train,
        "timings": {key: round(value, 3) for key, value in timings.items()},
        "config_hash": config_hash(cfg),
        "changed": departures.changed,
        "fingerprints": {
            "backbone": trainer.backbone.fingerprint(),
            "data": facts.data_hash,
            "split": facts.split_hash,
            "prompts": prompts.sha256 if prompts else None,
        },
        "prompts": prompts_record(trainer),
        "versions": versions(),
        "git": git_revision(),
        "device": str(trainer.device),
        "features": cfg.FEATURES.MODE if trainer.frozen_images else "direct",
        "departures": departures.chosen + departures.forced,
        "rehearsal": facts.rehearsal,
        "notes": list(facts.notes),
        "warnings": trainer.warnings,
        "files": files_of(folder),
    }
    if source:
        record |= record_of(source)
    path = Path(folder) / RESULTS
    write_json(record, str(path))
    return path


def prompts_record(trainer: VLTrainer) -> dict[str, Any] | None:
    """Name of the LLM prompts' file, and which of them were chosen by a run that chose."""
    prompts, selection = getattr(trainer, "prompts", None), getattr(trainer, "selection", None)
    if prompts is None:
        return None
    return {"file": prompts.path.name, "selection": selection.record(trainer.classnames) if selection else None}


def save_predictions(trainer: VLTrainer, folder: str | Path) -> Predictions:
    """Keep what the last test said of each image; paths count from the dataset's image folder."""
    paths, labels, probabilities = trainer.evaluator.predictions()
    start = trainer.facts.image_folder
    kept = Predictions([Path(os.path.relpath(path, start)).as_posix() for path in paths], labels, probabilities)
    with atomic(Path(folder) / PREDICTIONS) as temporary:
        write_predictions(temporary, kept)
    sys.stdout.flush()  # the log's size is recorded next
    return kept


def versions() -> dict[str, str]:
    """Python and the packages whose version can move a number."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def git_revision() -> dict[str, Any]:
    """The checkout's commit and whether it was changed since; ``None`` outside a checkout."""
    here = Path(__file__).parent

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    revision, status = ask("rev-parse", "HEAD"), ask("status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": None if status is None else bool(status)}
