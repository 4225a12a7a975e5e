"""Layers between backbone and classifier, by name."""

from dassl.modeling.head.build import HEAD_REGISTRY, build_head
from dassl.modeling.head.mlp import MLP, mlp

__all__ = ["HEAD_REGISTRY", "MLP", "build_head", "mlp"]
