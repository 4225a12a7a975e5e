"""Feature extractors by name."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import Tensor, nn

from dassl.utils import Registry

BACKBONE_REGISTRY = Registry("BACKBONE")


def build_backbone(name: str, verbose: bool = True, **kwargs: Any) -> nn.Module:
    """The backbone registered as ``name``, built with ``kwargs``."""
    return BACKBONE_REGISTRY.get(name)(**kwargs)


class Backbone(nn.Module):
    """A module with ``out_features``."""

    _out_features: int

    @property
    def out_features(self) -> int:
        return self._out_features


class _ResNet(Backbone):
    """torchvision's ResNet without its classifier: (B, 3, H, W) -> (B, out_features)."""

    def __init__(self, name: str, pretrained: bool) -> None:
        super().__init__()
        self.net = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)
        self._out_features = self.net.fc.in_features
        self.net.fc = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


@BACKBONE_REGISTRY.register()
def resnet18(pretrained: bool = True, **kwargs: Any) -> Backbone:
    return _ResNet("resnet18", pretrained)


@BACKBONE_REGISTRY.register()
def resnet50(pretrained: bool = True, **kwargs: Any) -> Backbone:
    return _ResNet("resnet50", pretrained)
