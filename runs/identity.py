"""Which run a config names: the settings that decide its numbers, their hash, and the folder that they belong into."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from analysis.results import CONFIG, OWN_SPLIT, folder_name
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError, atomic
from datasets.config import read_yaml
from runs.overrides import OWN_IMAGES
from trainers import methods

COLUMNS = ("PATH", "LABEL", "CLASS", "SPLIT", "GROUP")  # keys for the columns of a CSV
# Where a run is kept, how it is fed, how it talks and what it refuses do not change what it computes; the image size is the
# backbone's, the class names and, where none is set, the template are the data's
NOT_IDENTITY = (
    "OUTPUT_DIR",
    "RESUME",
    "VERBOSE",
    "LOGGER",
    "INPUT.SIZE",
    "INPUT.MAX_PIXELS",
    "FEATURES.MODE",
    "FEATURES.ROOT",
    "DATASET.TITLE",
    "DATASET.RUN_CLASSNAMES",
    "DATASET.RUN_TEMPLATE",
    "TEST.EVALUATOR",
    "DATALOADER.NUM_WORKERS",
    "TRAIN.PRINT_FREQ",
    "TRAIN.CHECKPOINT_FREQ",
)


# Keys that came later than the first runs: left out where they say nothing, so that the hash of such a run stays as it was
LATER: dict[str, Any] = {
    **dict.fromkeys(("DATASET.CLASS_FOLDERS", "DATASET.INCLUDE", "DATASET.EXCLUDE"), []),
    **dict.fromkeys(("DATASET.SPLIT", "DATASET.GROUP_BY", "DATASET.TRAINED_ON"), ""),
    "TRAINER.BIOMEDDPT.STAGES": [],
    "TUNED.KEYS": [],
    "TUNED.HOW": "",
    "DATASET.TUNING_FOLD": 0,
    **dict.fromkeys(("DATASET.CSV", *(f"DATASET.CSV_{column}" for column in COLUMNS)), ""),
}


def identity(cfg: CfgNode) -> dict[str, Any]:
    """The settings that decide a run's numbers, flat: what ``config_hash`` covers."""
    cls = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    own = f"TRAINER.{getattr(cls, 'section', '')}."
    flat = {
        key: value
        for key, value in _flat(cfg)
        if key not in NOT_IDENTITY
        and (key not in LATER or value != LATER[key])
        and (not key.startswith("TRAINER.") or key == "TRAINER.NAME" or key.startswith(own))
    }
    if not cfg.DATASET.get("SPLIT"):  # which groups there are decides no other split
        flat.pop("DATASET.GROUP_BY", None)
    flat["DATASET.ROOT"] = str(Path(cfg.DATASET.ROOT).expanduser().resolve())
    return flat


def config_hash(cfg: CfgNode) -> str:
    """SHA-256 of :func:`identity`."""
    return hashlib.sha256(json.dumps(identity(cfg), sort_keys=True, default=str).encode()).hexdigest()


def run_folder(root: str | Path, stage: str, dataset_key: str, cfg: CfgNode) -> Path:
    """``<root>/<stage>/<dataset>/shots_<K>/<Trainer>_<Backbone>/<variant>/seed<S>``; ``stage`` is of :mod:`runs.tasks`."""
    backbone = cfg.MODEL.BACKBONE.NAME.replace("/", "-").replace(":", "-")
    return (
        Path(root)
        / stage
        / dataset_key
        / f"shots_{cfg.DATASET.NUM_SHOTS}"
        / f"{cfg.TRAINER.NAME}_{backbone}"
        / variant_of(cfg)
        / f"seed{cfg.SEED}"
    )


def split_kind(cfg: CfgNode) -> str:
    """Which split a run is on: the dataset's own, or one that DATASET.SPLIT names, with its seed where that is not 1."""
    own = cfg.DATASET
    return f"{own.SPLIT}-seed{own.SPLIT_SEED}" if own.SPLIT and own.SPLIT_SEED != 1 else own.SPLIT or OWN_SPLIT


def variant_of(cfg: CfgNode) -> str:
    """The method's variant: a run's folder, and its name in tables; with "tuned", and a split that is not the dataset's own."""
    variant, kind = methods()[cfg.TRAINER.NAME].variant(cfg), split_kind(cfg)
    variant += "_tuned" if cfg.TUNED.KEYS else ""
    return variant if kind == OWN_SPLIT else f"{variant}_{kind}"


def dataset_key(cfg: CfgNode, named: str) -> str:
    """The dataset's name among the folders: of own images their title's, else ``named`` (its config file's, by custom)."""
    return folder_name(cfg.DATASET.TITLE) if cfg.DATASET.NAME == OWN_IMAGES and cfg.DATASET.TITLE else named


def check_same_images(cfg: CfgNode, folder: Path) -> None:
    """Refuse to put two own datasets under one title.

    Args:
        folder: of a dataset's runs of one protocol.

    Raises:
        UserError: it holds a run on other images, or of a published dataset.
    """
    path = next(iter(sorted(folder.glob(f"*/*/*/*/{CONFIG}"))), None)
    if cfg.DATASET.NAME != OWN_IMAGES or path is None:
        return
    before = read_yaml(path).get("DATASET")
    if not isinstance(before, dict) or not before:  # no run's, and told as such by the tables
        return
    for key in ("NAME", "FOLDER", "CSV"):
        old, new = str(before.get(key) or ""), cfg.DATASET[key]
        if old != new and (key == "NAME" or not same_place(old, str(before.get("ROOT", "")), new, cfg.DATASET.ROOT)):
            raise UserError(
                f'"{cfg.DATASET.TITLE}" has runs on other images in {folder} (DATASET.{key} {old or "none"} -> '
                f"{new or 'none'}): give yours another name, DATASET.TITLE, or choose another output folder"
            )


def same_place(old: str, old_root: str, new: str, new_root: str) -> bool:
    """Whether two paths, each from its root or the working folder, are one place; or what is gone lies elsewhere now."""
    if not old or not new:
        return False
    ends = [
        {place.resolve() for place in (Path(path).expanduser(), Path(root).expanduser() / path) if place.exists()}
        for path, root in ((old, old_root), (new, new_root))
    ]
    return bool(ends[0] & ends[1]) or (not ends[0] and Path(old).name == Path(new).name)


def save_config(cfg: CfgNode, folder: str | Path) -> None:
    """Write the full resolved config."""
    with atomic(Path(folder) / CONFIG) as temporary:
        Path(temporary).write_text(cfg.dump())


def check_same_settings(cfg: CfgNode, folder: Path) -> None:
    """Refuse to mix two settings in one folder: the first differing keys are named."""
    path = folder / CONFIG
    if not os.path.lexists(path):
        return
    try:
        before = LATER | identity(CfgNode(read_yaml(path)))
    except (AttributeError, KeyError, TypeError, ValueError, AssertionError) as error:
        raise UserError(f"{path} is not the config of a run: remove the folder, or choose another output folder") from error
    now = LATER | identity(CfgNode(yaml.safe_load(cfg.dump())))
    before, now = LATER | before, LATER | now
    # another key that only one side knows came with another version of this project, at its default
    changed = [key for key in sorted(set(before) & set(now)) if before[key] != now[key]]
    if changed:
        shown = ", ".join(f"{key} {before[key]} -> {now[key]}" for key in changed[:3])
        raise UserError(f"{folder} holds a run with other settings ({shown}): remove it or choose another output folder")


def _flat(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, list(value) if isinstance(value, tuple) else value
