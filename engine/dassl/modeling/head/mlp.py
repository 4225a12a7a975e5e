"""A multi-layer perceptron."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from dassl.modeling.head.build import HEAD_REGISTRY
from dassl.utils import check_availability

ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}


class MLP(nn.Module):
    """(B, in_features) -> (B, out_features): linear layers, each with optional batch norm, activation and dropout.

    Args:
        hidden_layers: width of each layer, the last of which is ``out_features``.
        activation: "relu" or "leaky_relu".

    Raises:
        UnknownNameError: another activation.
        ValueError: no layer.
    """

    def __init__(
        self,
        in_features: int = 2048,
        hidden_layers: tuple[int, ...] | list[int] | int = (),
        activation: str = "relu",
        bn: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [hidden_layers] if isinstance(hidden_layers, int) else list(hidden_layers)
        if not widths:
            raise ValueError("an MLP needs the width of one hidden layer at least")
        check_availability(activation, ACTIVATIONS)
        layers: list[nn.Module] = []
        for before, width in zip([in_features, *widths], widths, strict=False):
            layers.append(nn.Linear(before, width))
            if bn:
                layers.append(nn.BatchNorm1d(width))
            layers.append(ACTIVATIONS[activation]())
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
        self.mlp = nn.Sequential(*layers)
        self.out_features = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


@HEAD_REGISTRY.register()
def mlp(**kwargs: Any) -> MLP:
    return MLP(**kwargs)
