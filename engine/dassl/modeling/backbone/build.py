"""Backbones by name."""

from typing import Any

from torch import nn

from dassl.modeling.build import build
from dassl.utils import Registry

BACKBONE_REGISTRY = Registry("BACKBONE")


def build_backbone(name: str, verbose: bool = True, **kwargs: Any) -> nn.Module:
    """The backbone registered as ``name``, built with ``kwargs``."""
    return build(BACKBONE_REGISTRY, "Backbone", name, verbose, **kwargs)
