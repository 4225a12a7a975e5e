"""Trainers by name."""

import logging
from typing import Any

from yacs.config import CfgNode

from dassl.utils import Registry

log = logging.getLogger(__name__)

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg: CfgNode) -> Any:
    """The trainer ``cfg.TRAINER.NAME``.

    Raises:
        UnknownNameError: an unknown name, with the nearest registered one.
    """
    cls = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    if cfg.VERBOSE:
        log.info("Loading trainer: %s", cfg.TRAINER.NAME)
    return cls(cfg)
