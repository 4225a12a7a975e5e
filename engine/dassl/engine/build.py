"""Trainers by name."""

from typing import Any

from yacs.config import CfgNode

from dassl.utils import Registry

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg: CfgNode) -> Any:
    """The trainer ``cfg.TRAINER.NAME``.

    Raises:
        UserError: an unknown name, with the nearest registered one.
    """
    return TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)
