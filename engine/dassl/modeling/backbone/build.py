"""Backbones by name."""

from typing import Any

from torch import nn

from dassl.utils import Registry, build_from

BACKBONE_REGISTRY = Registry("BACKBONE")


def build_backbone(name: str, verbose: bool = True, **kwargs: Any) -> nn.Module:
    """The backbone registered as ``name``, built with ``kwargs``."""
    return build_from(BACKBONE_REGISTRY, "Backbone", name, verbose, **kwargs)
