"""Trainers by name."""

from typing import Any

from yacs.config import CfgNode

from dassl.utils import Registry, build_from

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg: CfgNode, name: str | None = None) -> Any:
    """The trainer ``cfg.TRAINER.NAME``, or the one called ``name``; the config stays as it is.

    Raises:
        UnknownNameError: an unknown name, with the nearest registered one.
    """
    return build_from(TRAINER_REGISTRY, "Loading trainer", name or cfg.TRAINER.NAME, cfg.VERBOSE, cfg)
