"""What a run leaves behind: its folder's name, the resolved config, and the results file (written last and whole)."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from analysis.metrics import metrics
from analysis.predictions import Predictions, write_predictions
from analysis.results import CONFIG, PREDICTIONS, RESULTS, DamagedRun, files_of, read_whole_record
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError, atomic, write_json
from trainers import seed_batch
from trainers.base import VLTrainer
from trainers.settings import as_configured, changed

PACKAGES = ("torch", "torchvision", "dassl", "open_clip_torch", "timm", "transformers", "numpy", "pillow")
# Where a run is kept, how it is fed and how it talks do not change what it computes; the image size is the backbone's, the
# class names and, where none is set, the template are the data's
NOT_IDENTITY = (
    "OUTPUT_DIR",
    "RESUME",
    "VERBOSE",
    "INPUT.SIZE",
    "FEATURES.MODE",
    "FEATURES.ROOT",
    "DATASET.RUN_CLASSNAMES",
    "DATASET.RUN_TEMPLATE",
    "TEST.EVALUATOR",
    "DATALOADER.NUM_WORKERS",
    "TRAIN.PRINT_FREQ",
    "TRAIN.CHECKPOINT_FREQ",
)
SPLIT_FOLDERS = {"base": "base2new/train_base", "new": "base2new/test_new", "all": "few_shot"}


def run_folder(root: str | Path, cfg: CfgNode, dataset_key: str, trainer_cls: type[VLTrainer]) -> Path:
    """``<root>/<task>/<split>/<dataset>/shots_<K>/<Trainer>_<Backbone>/<variant>/seed<S>``."""
    backbone = cfg.MODEL.BACKBONE.NAME.replace("/", "-").replace(":", "-")
    return (
        Path(root)
        / SPLIT_FOLDERS[cfg.DATASET.SUBSAMPLE_CLASSES]
        / dataset_key
        / f"shots_{cfg.DATASET.NUM_SHOTS}"
        / f"{cfg.TRAINER.NAME}_{backbone}"
        / trainer_cls.variant(cfg)
        / f"seed{cfg.SEED}"
    )


def identity(cfg: CfgNode) -> dict[str, Any]:
    """The settings that decide a run's numbers, flat: what ``config_hash`` covers."""
    cls = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    own = f"TRAINER.{getattr(cls, 'section', '')}."
    flat = {
        key: value
        for key, value in _flat(cfg)
        if key not in NOT_IDENTITY and (not key.startswith("TRAINER.") or key == "TRAINER.NAME" or key.startswith(own))
    }
    flat["DATASET.ROOT"] = str(Path(cfg.DATASET.ROOT).expanduser().resolve())
    return flat


def config_hash(cfg: CfgNode) -> str:
    """SHA-256 of :func:`identity`."""
    return hashlib.sha256(json.dumps(identity(cfg), sort_keys=True, default=str).encode()).hexdigest()


def save_config(cfg: CfgNode, folder: str | Path) -> None:
    """Write the full resolved config."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{CONFIG}.{os.getpid()}"
    temporary.write_text(cfg.dump())
    os.replace(temporary, folder / CONFIG)


def discard_unbuilt(folder: str | Path, log_file: str | Path) -> None:
    """Remove ``log_file`` of a run that ended before anything was built, and the folders that it leaves empty."""
    folder = Path(folder)
    if (folder / CONFIG).is_file() or not folder.is_dir():
        return
    Path(log_file).unlink(missing_ok=True)
    for place in (folder, *folder.parents):
        try:
            place.rmdir()
        except OSError:  # not empty
            return


def check_same_settings(cfg: CfgNode, folder: Path) -> None:
    """Refuse to mix two settings in one folder: the first differing keys are named."""
    path = folder / CONFIG
    if not path.is_file():
        return
    before = identity(CfgNode(yaml.safe_load(path.read_text())))
    now = identity(CfgNode(yaml.safe_load(cfg.dump())))
    # a key that only one side knows came with another version of this project, at its default
    changed = [key for key in sorted(set(before) & set(now)) if before[key] != now[key]]
    if changed:
        shown = ", ".join(f"{key} {before[key]} -> {now[key]}" for key in changed[:3])
        raise UserError(f"{folder} holds a run with other settings ({shown}): remove it or choose another output folder")


def is_complete(folder: str | Path) -> bool:
    """Whether the run's results file is there and whole, and with it every file that it names."""
    try:
        read_whole_record(folder)
    except DamagedRun:
        return False
    return True


def write_results(trainer: VLTrainer, folder: str | Path, train: dict[str, Any], timings: dict[str, float]) -> Path:
    """Write ``results.json`` of a tested trainer; a field is documented in docs/RESULTS_FILE.md."""
    cfg, facts = trainer.cfg, trainer.facts
    predictions = save_predictions(trainer, folder)
    split = cfg.DATASET.SUBSAMPLE_CLASSES
    prompts = getattr(trainer, "prompts", None)
    record = {
        "schema": 2,
        "complete": True,
        "method": cfg.TRAINER.NAME,
        "backbone": cfg.MODEL.BACKBONE.NAME,
        "dataset": cfg.DATASET.NAME,
        "modality": facts.modality,
        "organ": facts.organ,
        "task": "few_shot" if split == "all" else "base2new",
        "split": split,
        "num_shots": cfg.DATASET.NUM_SHOTS,
        "seed": cfg.SEED,
        "variant": type(trainer).variant(cfg),
        **metrics(predictions.labels, predictions.probabilities, trainer.classnames, facts.ordered),
        "classnames": trainer.classnames,
        "learned": {"parameters": trainer.learned_count, "names": trainer.learned_names},
        "train": train,
        "timings": {key: round(value, 3) for key, value in timings.items()},
        "config_hash": config_hash(cfg),
        "changed": changed_settings(cfg, facts.key),
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
        "departures": departures(trainer, train) + trainer_departures(trainer),
        "rehearsal": facts.rehearsal,
        "notes": list(facts.notes),
        "files": files_of(folder),
    }
    path = Path(folder) / RESULTS
    write_json(record, str(path))
    return path


def prompts_record(trainer: VLTrainer) -> dict[str, Any] | None:
    """Name of the LLM prompts' file, and which of them were chosen by a run that chose."""
    prompts, selection = getattr(trainer, "prompts", None), getattr(trainer, "selection", None)
    if prompts is None:
        return None
    return {"file": prompts.path.name, "selection": selection.record(trainer.classnames) if selection else None}


def departures(trainer: VLTrainer, train: dict[str, Any]) -> list[str]:
    """Settings that are not the published ones, and what training several seeds together changed."""
    return type(trainer).departures(trainer.cfg) + seed_batch.departures(trainer.cfg, train.get("seeds_together", []))


def trainer_departures(trainer: VLTrainer) -> list[str]:
    """What the backbone forced on the method."""
    if trainer.writes_visual_prompts and not trainer.backbone.supports_visual_prompts:
        return ["text side only: this image tower has no patch tokens for visual prompts"]
    return list(getattr(trainer, "forced", []))


def save_predictions(trainer: VLTrainer, folder: str | Path) -> Predictions:
    """Keep what the last test said of each image; paths count from the dataset's image folder."""
    kept = trainer.evaluator.predictions()
    paths = [Path(os.path.relpath(path, trainer.facts.image_folder)).as_posix() for path in kept.paths]
    kept = Predictions(paths, kept.labels, kept.probabilities)
    with atomic(Path(folder) / PREDICTIONS) as temporary:
        write_predictions(temporary, kept)
    sys.stdout.flush()  # the log's size is recorded next
    return kept


def changed_settings(cfg: CfgNode, dataset_key: str) -> dict[str, Any] | None:
    """What differs from the config files of this method, task and dataset; ``None`` for a method without any."""
    files = as_configured(cfg, dataset_key)
    # by way of YAML, as two files that say the same may differ in lists and tuples
    return None if files is None else changed(*(identity(CfgNode(yaml.safe_load(c.dump()))) for c in (cfg, files)))


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


def _flat(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, list(value) if isinstance(value, tuple) else value
