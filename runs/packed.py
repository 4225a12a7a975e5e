"""A run as it is shared: a folder of plain files, believed no more than a stranger's. ``share`` writes such folders.

What was learned is in a safetensors file, which holds numbers and names and nothing that could run. Of the config only what
prediction needs is taken over; where it names a place, that is a place on another machine, and is refused or left alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from torch import Tensor
from yacs.config import CfgNode

from analysis.results import CONFIG, RESULTS
from dassl.utils import UserError, read_text, regular
from datasets.config import flat_keys, merge_file
from runs.config import default_config, section_of
from trainers.checkpoints import LEARNER, take_over

if TYPE_CHECKING:
    from trainers.base import VLTrainer

TENSORS, CARD = "prompt.safetensors", "README.md"
LIMITS = {CONFIG: 1 << 18, TENSORS: 1 << 28, RESULTS: 1 << 24}  # bytes at most of each file that is read
# keys that decide a prediction; of all others a shared run has this machine's defaults
NEEDED = (
    "INPUT.",
    "DATASET.NAME",
    "DATASET.TITLE",
    "DATASET.MODALITY",
    "DATASET.ORGAN",
    "DATASET.TEMPLATE",
    "DATASET.RUN_",
    "DATASET.SUBSAMPLE_CLASSES",
    "DATASET.NUM_SHOTS",
    "MODEL.BACKBONE.NAME",
    "MODEL.BACKBONE.PRETRAINED",
    "TRAINER.NAME",
    "SEED",
)
LOCAL = "local-dir:"  # schema of a backbone that is a folder


def is_packed(folder: Path) -> bool:
    """Whether a folder holds a run as it is shared, not as it was trained."""
    return (folder / TENSORS).exists() and not (folder / LEARNER).exists()


def packed_config(folder: Path, backbone_path: str = "") -> CfgNode:
    """The config of a shared run: what prediction needs of its file, defaults else.

    Args:
        backbone_path: where the backbone's weights lie here, if the caller says so.

    Raises:
        UserError: a file that is too large or repeats itself, an unknown key, a wrong type, a backbone in a folder of
            whoever packed the run.
    """
    path = folder / CONFIG
    _require_plain(path)
    given, cfg = default_config(), default_config()
    merge_file(given, str(path))
    name, place = given.MODEL.BACKBONE.NAME, given.MODEL.BACKBONE.PATH
    if (place or name.startswith(LOCAL)) and not backbone_path:
        raise UserError(
            f"{path}: the run's backbone lay in a folder of the machine that it was trained on ({place or name}), which is not "
            "looked for here: name yours with --backbone-path FOLDER"
        )
    needed = (*NEEDED, f"TRAINER.{section_of(given.TRAINER.NAME)}.")
    for key in flat_keys(given):
        if key.startswith(needed):
            *sections, leaf = key.split(".")
            source, target = given, cfg
            for section in sections:
                source, target = source[section], target[section]
            target[leaf] = source[leaf]
    return cfg


def _require_plain(path: Path) -> None:
    """Refuse a YAML file that a few lines could blow up to gigabytes."""
    _require_size(path, LIMITS[CONFIG])
    try:
        repeats = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(read_text(path), Loader=yaml.SafeLoader))
    except (yaml.YAMLError, ValueError):
        return  # told by whoever reads it
    if repeats:
        raise UserError(f"{path} repeats parts of itself (YAML aliases), which the config of a shared run does not")


def _require_size(path: Path, most: int) -> None:
    regular(path)
    if path.stat().st_size > most:
        raise UserError(f"{path} has {path.stat().st_size} bytes: more than {most} are not read of a shared run")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name.

    Raises:
        UserError: too large, cut, or something else, such as a pickle under that name.
    """
    from safetensors.torch import load

    _require_size(path, LIMITS[TENSORS])
    try:
        # read and not mapped: a file that changes later changes nothing here
        return load(path.read_bytes())
    except Exception as error:  # safetensors raises a type of its own, written in Rust, and whatever Python does of odd headers
        said = " ".join(str(error).split())[:120]
        raise UserError(f"{path} is no whole safetensors file ({said}): nothing of it was used") from error


def load_packed(trainer: VLTrainer, folder: Path) -> None:
    """Give a trainer what a shared run learned.

    Raises:
        UserError: tensors of other names, shapes or types than this method, backbone and these classes have.
    """
    path, method = folder / TENSORS, type(trainer).__name__
    if not trainer.learns:
        raise UserError(f"{path}: {method} learns nothing, so there is nothing that could have been shared")
    stored = read_tensors(path)
    learner = getattr(trainer, LEARNER)
    wanted: dict[str, Any] = learner.state_dict()
    absent, extra = sorted(set(wanted) - set(stored)), sorted(set(stored) - set(wanted))
    if absent or extra:
        said = [f"lacks {', '.join(absent)[:80]}"] if absent else []
        said += [f"has {', '.join(extra)[:80]}"] if extra else []
        raise UserError(f"{path} {' and '.join(said)}: it was not learned by {method} with this config")
    for name, value in stored.items():
        if value.dtype != wanted[name].dtype or value.ndim != wanted[name].ndim:
            raise UserError(
                f"{path}: {name} is {value.dtype} of {value.ndim} dimensions, {method} has {wanted[name].dtype} of "
                f"{wanted[name].ndim} there"
            )
    trainer.make_room(stored)
    take_over(learner, stored, path, method)
    trainer.set_model_mode("eval")  # which forgets class features of before
