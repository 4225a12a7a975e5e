"""Which values a config's numbers may have, told before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.utils import UserError
from dassl.utils.trackers import TRACKERS
from datasets.config import flat_keys

Allowed = tuple[Callable[[Any], bool], str]

AT_LEAST_0: Allowed = (lambda value: value >= 0, "must be 0 or more")
AT_LEAST_1: Allowed = (lambda value: value >= 1, "must be 1 or more")
SHARE: Allowed = (lambda value: 0 <= value < 1, "must be from 0 to below 1")
CHANNELS: Allowed = (lambda value: len(value) == 3 and all(_number(one) for one in value), "must be three numbers")
# torch.manual_seed takes 64 bits, and below 0 stands for no seed
SEED: Allowed = (lambda value: -(2**63) <= value < 2**63, "must be below 2**63")
RANGES: dict[str, Allowed] = {
    "SEED": SEED,
    "LOGGER": (lambda value: value in TRACKERS, f"must be {', '.join(TRACKERS[:-1])} or {TRACKERS[-1]}"),
    "DATASET.SPLIT_SEED": SEED,
    "DATALOADER.NUM_WORKERS": AT_LEAST_0,
    "DATALOADER.TRAIN_X.BATCH_SIZE": AT_LEAST_1,
    "DATALOADER.TEST.BATCH_SIZE": AT_LEAST_1,
    "OPTIM.LR": (lambda value: value > 0, "must be more than 0"),
    "OPTIM.WEIGHT_DECAY": AT_LEAST_0,
    "OPTIM.MOMENTUM": SHARE,
    "OPTIM.ADAM_BETA1": SHARE,
    "OPTIM.ADAM_BETA2": SHARE,
    "OPTIM.RMSPROP_ALPHA": AT_LEAST_0,
    "OPTIM.WARMUP_CONS_LR": AT_LEAST_0,
    "OPTIM.WARMUP_MIN_LR": AT_LEAST_0,
    "OPTIM.BASE_LR_MULT": AT_LEAST_0,
    "TRAIN.PRINT_FREQ": AT_LEAST_1,
    "INPUT.MAX_PIXELS": AT_LEAST_1,
    "INPUT.PIXEL_MEAN": CHANNELS,
    "INPUT.PIXEL_STD": (lambda value: CHANNELS[0](value) and all(one > 0 for one in value), "must be three numbers above 0"),
}
OF_PREDICTION = ("INPUT.", "DATASET.", "DATALOADER.NUM_WORKERS")


def check_values(cfg: CfgNode, method: str = "", predicts: bool = False) -> None:
    """Refuse numbers that are infinite, NaN or out of range, and nothing (``~``) where a number or text belongs.

    Args:
        method: the section below TRAINER that is read too.
        predicts: look only at what decides predictions.

    Raises:
        UserError: the first such key, with its value.
    """
    plain = get_cfg_default()
    for key in flat_keys(cfg):
        if key.startswith("TRAINER.") and not key.startswith(f"TRAINER.{method}."):
            continue
        if predicts and not key.startswith(OF_PREDICTION):
            continue
        value = _at(cfg, key)
        if value is None and _at(plain, key) is not None:
            raise UserError(f"{key} has no value")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{key} is {value}, must be a finite number")
        allowed, words = AT_LEAST_1 if key == f"TRAINER.{method}.N_CTX" else RANGES.get(key, (None, ""))
        if allowed and not _holds(allowed, value):
            raise UserError(f"{key} is {_short(value)}, {words}")
    _check_words(cfg)


def _check_words(cfg: CfgNode) -> None:
    """Lists of names hold text, and a title or a path is one that a file can be called by."""
    own = cfg.DATASET
    for key in ("CLASSNAMES", "RUN_CLASSNAMES"):
        for name in own.get(key, ()):
            if not isinstance(name, (str, int)) or isinstance(name, bool) or (key == "RUN_CLASSNAMES" and type(name) is int):
                raise UserError(f"DATASET.{key} must be names, got {_short(name)}")
    for key in ("TITLE", "FOLDER", "CSV", "ROOT", "PROMPTS", "GROUP_BY"):
        if "\0" in str(own.get(key, "")):
            raise UserError(f"DATASET.{key} has a NUL character in it: {_short(own[key])}")


def _at(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg.get(part) if isinstance(cfg, dict) else None
    return cfg


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _holds(allowed: Callable[[Any], bool], value: Any) -> bool:
    try:
        return bool(allowed(value))
    except (TypeError, OverflowError):
        return False


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:40]}… ({len(text)} characters)"
