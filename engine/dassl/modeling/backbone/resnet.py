"""torchvision's ResNets without their classifier. The parameters' names are those of upstream's own ResNets."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import Tensor

from dassl.modeling.backbone.backbone import Backbone
from dassl.modeling.backbone.build import BACKBONE_REGISTRY


class ResNet(Backbone):
    """(B, 3, H, W) -> (B, out_features).

    Args:
        name: of torchvision's model.
        pretrained: with the first ImageNet weights, which upstream loads (torchvision's default may be newer ones).
    """

    def __init__(self, name: str, pretrained: bool) -> None:
        super().__init__()
        net = torchvision.models.get_model(name, weights="IMAGENET1K_V1" if pretrained else None)
        for part, module in net.named_children():
            if part != "fc":
                self.add_module(part, module)
        self._out_features = net.fc.in_features

    def forward(self, x: Tensor) -> Tensor:
        for module in self.children():
            x = module(x)
        return x.flatten(1)


@BACKBONE_REGISTRY.register()
def resnet18(pretrained: bool = True, **kwargs: Any) -> Backbone:
    return ResNet("resnet18", pretrained)


@BACKBONE_REGISTRY.register()
def resnet34(pretrained: bool = True, **kwargs: Any) -> Backbone:
    return ResNet("resnet34", pretrained)


@BACKBONE_REGISTRY.register()
def resnet50(pretrained: bool = True, **kwargs: Any) -> Backbone:
    return ResNet("resnet50", pretrained)


@BACKBONE_REGISTRY.register()
def resnet101(pretrained: bool = True, **kwargs: Any) -> Backbone:
    return ResNet("resnet101", pretrained)


@BACKBONE_REGISTRY.register()
def resnet152(pretrained: bool = True, **kwargs: Any) -> Backbone:
    return ResNet("resnet152", pretrained)
