"""Heads by name."""

from typing import Any

from torch import nn

from dassl.utils import Registry, build_from

HEAD_REGISTRY = Registry("HEAD")


def build_head(name: str, verbose: bool = True, **kwargs: Any) -> nn.Module:
    """The head registered as ``name``, built with ``kwargs``."""
    return build_from(HEAD_REGISTRY, "Head", name, verbose, **kwargs)
