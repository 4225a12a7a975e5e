"""Frozen linear layers on x86 CPUs through oneDNN.

PyTorch gives float32 products to MKL, which on processors that are not Intel's may be much slower than oneDNN, which PyTorch
carries too (docs/PERFORMANCE.md has both rates). It reads the layers' own weights, so nothing is held twice.
"""

from __future__ import annotations

import platform
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

X86 = ("x86_64", "AMD64")
AVAILABLE = (  # whether this PyTorch and this machine have the product
    platform.machine() in X86 and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W^T + b``: x (…, K), weight (N, K), bias (N,) -> (…, N), all float32 on the CPU; without gradients."""
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "").view(*x.shape[:-1], -1)


class FrozenLinear(torch.autograd.Function):
    """The product, with a gradient for ``x`` alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return linear(grad, weight.t()), None, None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``; by oneDNN where it is ``AVAILABLE`` and all is frozen, float32, on the CPU, and not being compiled."""
    plain = (
        not AVAILABLE
        or x.dtype != torch.float32
        or weight.dtype != torch.float32
        or x.device.type != "cpu"
        or weight.requires_grad
        or (bias is not None and bias.requires_grad)
        or not x.numel()
        or torch.is_autocast_enabled("cpu")
        or torch.compiler.is_compiling()
    )
    if plain:
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and x.requires_grad:
        return FrozenLinear.apply(x, weight, bias)
    return product(x, weight, bias)


def quicken(model: nn.Module) -> None:
    """Let the linear layers of a frozen ``model`` use :func:`linear`."""
    for layer in model.modules():
        if type(layer) is nn.Linear:
            layer.forward = partial(_forward, layer)


def _forward(layer: nn.Linear, x: Tensor) -> Tensor:
    return linear(x, layer.weight, layer.bias)
