"""Config overrides: ``KEY VALUE`` pairs, of which none is taken that the method would silently not read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yacs.config import CfgNode

from dassl.utils import UserError
from datasets.config import flat_keys, merge_pairs
from trainers import methods

OWN_IMAGES = "ImageFolderSplit"
# Keys below DATASET that only this dataset reads, with those that start like them (CSV_PATH)
OF_OWN_IMAGES = ("TITLE", "CLASSNAMES", "CLASS_FOLDERS", "INCLUDE", "EXCLUDE", "CSV")
# Keys of the engine that only some choice of another key reads: prefix -> (key, values that read it)
READ_ONLY_WITH: dict[str, tuple[str, tuple[Any, ...]]] = {
    "OPTIM.MOMENTUM": ("OPTIM.NAME", ("sgd", "rmsprop")),
    "OPTIM.SGD_": ("OPTIM.NAME", ("sgd",)),
    "OPTIM.RMSPROP_": ("OPTIM.NAME", ("rmsprop",)),
    "OPTIM.ADAM_": ("OPTIM.NAME", ("adam", "amsgrad", "adamw", "radam")),
    "OPTIM.STEPSIZE": ("OPTIM.LR_SCHEDULER", ("single_step", "multi_step")),
    "OPTIM.GAMMA": ("OPTIM.LR_SCHEDULER", ("single_step", "multi_step")),
    "OPTIM.WARMUP_CONS_LR": ("OPTIM.WARMUP_TYPE", ("constant",)),
    "OPTIM.WARMUP_MIN_LR": ("OPTIM.WARMUP_TYPE", ("linear",)),
    "OPTIM.NEW_LAYERS": ("OPTIM.STAGED_LR", (True,)),
    "OPTIM.BASE_LR_MULT": ("OPTIM.STAGED_LR", (True,)),
    "DATASET.GROUP_BY": ("DATASET.SPLIT", ("grouped",)),
    **{f"DATASET.{key}": ("DATASET.NAME", (OWN_IMAGES,)) for key in ("FOLDER", "MODALITY", "ORGAN", *OF_OWN_IMAGES)},
}
TRANSFORM_KEYS = {
    "INPUT.CUTOUT_": "cutout",
    "INPUT.GN_": "gaussian_noise",
    "INPUT.RANDAUGMENT_": "randaugment",
    "INPUT.COLORJITTER_": "colorjitter",
    "INPUT.RGS_": "randomgrayscale",
    "INPUT.GB_": "gaussian_blur",
    "INPUT.RRCROP_": "random_resized_crop",
    "INPUT.CROP_PADDING": "random_crop",
}
# What no method of this project reads: Dassl keeps it for domain adaptation and its own backbones
NEVER_READ = (
    "MODEL.HEAD.",
    "MODEL.INIT_WEIGHTS",
    "DATALOADER.TRAIN_U.",
    "DATASET.STL10_FOLD",
    "DATASET.CIFAR_C_",
    "DATASET.NUM_LABELED",
    "DATASET.VAL_PERCENT",
    "DATASET.ALL_AS_UNLABELED",
    "DATASET.SOURCE_DOMAINS",
    "DATASET.TARGET_DOMAINS",
    "DATASET.RUN_",
    "DATASET.TRAINED_ON",
    "DATASET.TUNING_FOLD",
)
TRAINING_KEYS = ("OPTIM.", "TRAIN.", "DATALOADER.TRAIN_X.")


def merge_overrides(cfg: CfgNode, opts: Sequence[Any], trainer: str) -> None:
    """Merge ``KEY VALUE`` pairs; a value in words is read as Python where it can be.

    Raises:
        UserError: a key without value, an unknown key, one the method does not read, or a value of a wrong type.
    """
    merge_pairs(cfg, opts)
    for key in opts[::2]:
        reason = unread(cfg, key, trainer)
        if reason:
            raise UserError(reason)


def unread(cfg: CfgNode, key: str, trainer: str) -> str:
    """Why this run would not read ``key``, with what to set instead; empty when it would."""
    cls = methods().get(trainer)
    if cls is None:  # a third-party trainer reads what it likes
        return ""
    if key.startswith("TRAINER."):
        section = key.split(".")[1]
        own = f"TRAINER.{cls.section}."
        if section in (cls.section, "NAME"):
            return ""
        twin = own + key.split(".", 2)[-1]
        hint = f' Did you mean "{twin}"?' if twin in flat_keys(cfg) else f" {trainer} reads {own}*"
        return f"{key} is another method's key: {trainer} does not read it.{hint}"
    if key.startswith("FEATURES.") and not cls.frozen_images:
        return f"{key} is not read by {trainer}: it works inside the image tower, so no features of images can be kept"
    if key.startswith(NEVER_READ) or (not (cls.learns and cls.uses_optimizer) and key.startswith(TRAINING_KEYS)):
        return f"{key} is not read by {trainer}; leave it out"
    for prefix, (switch, values) in READ_ONLY_WITH.items():
        if key.startswith(prefix) and _get(cfg, switch) not in values:
            wanted = " or ".join(map(str, values))
            return f'{key} is read only with {switch} {wanted}, but it is "{_get(cfg, switch)}" here'
    for prefix, transform in TRANSFORM_KEYS.items():
        if key.startswith(prefix) and transform not in cfg.INPUT.TRANSFORMS:
            return f"{key} is read only with the transform {transform}, which INPUT.TRANSFORMS does not hold"
    if key == "DATASET.PROMPTS" and "N_PROMPTS" not in cls.defaults():
        return f"DATASET.PROMPTS is not read by {trainer}: it uses no LLM prompts"
    return ""


def _get(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg
