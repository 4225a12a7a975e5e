"""Evaluators by name."""

import logging
from typing import Any

from yacs.config import CfgNode

from dassl.utils import Registry

log = logging.getLogger(__name__)

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg: CfgNode, **kwargs: Any) -> Any:
    """The evaluator ``cfg.TEST.EVALUATOR``.

    Raises:
        UnknownNameError: an unknown name, with the nearest registered one.
    """
    cls = EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR)
    if cfg.VERBOSE:
        log.info("Loading evaluator: %s", cfg.TEST.EVALUATOR)
    return cls(cfg, **kwargs)
