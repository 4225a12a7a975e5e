"""Module tools; the functions on checkpoints are imported from here too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from dassl.utils.checkpoints import load_checkpoint, load_pretrained_weights, save_checkpoint
from dassl.utils.resuming import resume_from_checkpoint


def adjust_learning_rate(
    optimizer: Any,
    base_lr: float,
    epoch: int,
    stepsize: int = 20,
    gamma: float = 0.1,
    linear_decay: bool = False,
    final_lr: float = 0,
    max_epoch: int = 100,
) -> None:
    """Set ``base_lr * gamma ** (epoch // stepsize)`` in every parameter group.

    With ``linear_decay``, the point that lies ``epoch / max_epoch`` of the way from ``base_lr`` to ``final_lr``.
    """
    done = epoch / max_epoch
    rate = done * final_lr + (1 - done) * base_lr if linear_decay else base_lr * gamma ** (epoch // stepsize)
    for group in optimizer.param_groups:
        group["lr"] = rate


def set_bn_to_eval(module: nn.Module) -> None:
    """For ``model.apply``: batch norms use their running statistics."""
    if "BatchNorm" in type(module).__name__:
        module.eval()


def open_all_layers(model: nn.Module) -> None:
    """Train every layer."""
    model.train().requires_grad_(True)


def open_specified_layers(model: nn.Module, open_layers: str | list[str]) -> None:
    """Train the named children, freeze the others.

    Raises:
        AttributeError: no such child.
    """
    model = model.module if isinstance(model, nn.DataParallel) else model
    names = [open_layers] if isinstance(open_layers, str) else open_layers
    for name in names:
        if not hasattr(model, name):
            raise AttributeError(f'"{name}" is not an attribute of the model')
    for name, module in model.named_children():
        module.train(name in names).requires_grad_(name in names)


def count_num_param(model: nn.Module | None = None, params: Any = None) -> int:
    """Number of values in a module's parameters, or in ``params`` (tensors or parameter groups)."""
    if model is not None:
        return sum(parameter.numel() for parameter in model.parameters())
    if params is None:
        raise ValueError("model and params must provide at least one")
    groups = [item["params"] if isinstance(item, dict) else item for item in params]
    return sum(one.numel() for group in groups for one in ([group] if isinstance(group, torch.Tensor) else group))


def init_network_weights(model: nn.Module, init_type: str = "normal", gain: float = 0.02) -> None:
    """Draw linear and convolution weights: "normal", "xavier", "kaiming" or "orthogonal"; biases 0, norms 1."""
    draw: dict[str, Callable[[torch.Tensor], Any]] = {
        "normal": lambda weight: nn.init.normal_(weight, 0.0, gain),
        "xavier": lambda weight: nn.init.xavier_normal_(weight, gain=gain),
        "kaiming": lambda weight: nn.init.kaiming_normal_(weight, a=0, mode="fan_in"),
        "orthogonal": lambda weight: nn.init.orthogonal_(weight, gain=gain),
    }
    if init_type not in draw:
        raise NotImplementedError(f"initialization method {init_type} is not implemented")
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            draw[init_type](module.weight.data)
            if module.bias is not None:
                nn.init.constant_(module.bias.data, 0.0)
        elif isinstance(module, nn.modules.batchnorm._NormBase) and module.affine:  # batch and instance norms
            nn.init.constant_(module.weight.data, 1.0)
            nn.init.constant_(module.bias.data, 0.0)


def transfer_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy all weights of ``source`` into ``target``."""
    target.load_state_dict(source.state_dict())


__all__ = [
    "adjust_learning_rate",
    "count_num_param",
    "init_network_weights",
    "load_checkpoint",
    "load_pretrained_weights",
    "open_all_layers",
    "open_specified_layers",
    "resume_from_checkpoint",
    "save_checkpoint",
    "set_bn_to_eval",
    "transfer_weights",
]
