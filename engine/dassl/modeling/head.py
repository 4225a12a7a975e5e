"""Heads by name."""

from __future__ import annotations

from typing import Any

from torch import nn

from dassl.utils import Registry

HEAD_REGISTRY = Registry("HEAD")

ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}


def build_head(name: str, verbose: bool = True, **kwargs: Any) -> nn.Module:
    """The head registered as ``name``, built with ``kwargs``."""
    return HEAD_REGISTRY.get(name)(**kwargs)


@HEAD_REGISTRY.register()
def mlp(
    in_features: int = 2048,
    hidden_layers: tuple[int, ...] | list[int] = (),
    activation: str = "relu",
    bn: bool = True,
    dropout: float = 0.0,
    **kwargs: Any,
) -> nn.Sequential:
    """Linear layers with optional batch norm and dropout; ``out_features`` tells its width."""
    layers: list[nn.Module] = []
    for width in hidden_layers:
        layers.append(nn.Linear(in_features, width))
        if bn:
            layers.append(nn.BatchNorm1d(width))
        layers.append(ACTIVATIONS[activation]())
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        in_features = width
    head = nn.Sequential(*layers)
    head.out_features = in_features
    return head
