"""Evaluators by name."""

from typing import Any

from yacs.config import CfgNode

from dassl.utils import Registry, build_from

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg: CfgNode, **kwargs: Any) -> Any:
    """The evaluator ``cfg.TEST.EVALUATOR``.

    Raises:
        UnknownNameError: an unknown name, with the nearest registered one.
    """
    return build_from(EVALUATOR_REGISTRY, "Loading evaluator", cfg.TEST.EVALUATOR, cfg.VERBOSE, cfg, **kwargs)
