"""Checkpoints (tensors and plain values only, never pickled objects) and module tools."""

from __future__ import annotations

import logging
import os
import pickle
import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from dassl.utils.registry import UserError
from dassl.utils.tools import atomic, mkdir_if_missing

log = logging.getLogger(__name__)


def rng_state() -> dict[str, Any]:
    """The state of every random source, as tensors and plain values."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, [int(key) for key in keys], int(position), int(has_gauss), float(cached)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore what :func:`rng_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.asarray(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])


def save_checkpoint(
    state: dict[str, Any],
    save_dir: str,
    is_best: bool = False,
    remove_module_from_keys: bool = True,
    model_name: str = "",
) -> str:
    """Write ``model.pth.tar-<epoch>`` (or ``model_name``) whole or not at all; returns its path.

    Args:
        state: has ``state_dict``, ``epoch`` and, for resuming, ``optimizer``, ``scheduler``, ``val_result``.
        is_best: also keep it as ``model-best.pth.tar``.
    """
    mkdir_if_missing(save_dir)
    if remove_module_from_keys:
        weights = state["state_dict"]
        state["state_dict"] = OrderedDict((key.removeprefix("module."), value) for key, value in weights.items())
    path = os.path.join(save_dir, model_name or f"model.pth.tar-{state['epoch']}")
    with atomic(path) as temporary:
        torch.save(state, temporary)
    if not model_name:  # a run is resumed from its last epoch, not from a model kept for another reason
        with atomic(os.path.join(save_dir, "checkpoint")) as temporary, open(temporary, "w") as file:
            file.write(f"{os.path.basename(path)}\n")
    log.info("Checkpoint saved to %s", path)
    if is_best:
        best = os.path.join(save_dir, "model-best.pth.tar")
        with atomic(best) as temporary:
            torch.save(state, temporary)
        log.info('Best checkpoint saved to "%s"', best)
    return path


def load_checkpoint(fpath: str) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; nothing in it is ever executed.

    Raises:
        UserError: no such file, damaged, or holding pickled objects.
    """
    if not fpath or not os.path.exists(fpath):
        raise UserError(f'no checkpoint file "{fpath}"')
    try:
        return torch.load(fpath, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{fpath} is damaged or holds more than tensors and plain values: {reason}") from error


def resume_from_checkpoint(fdir: str, model: nn.Module, optimizer: Any = None, scheduler: Any = None) -> int:
    """Load the checkpoint that ``fdir/checkpoint`` names into model, optimizer and scheduler.

    Returns:
        The number of finished epochs.
    """
    with open(os.path.join(fdir, "checkpoint")) as file:
        fpath = os.path.join(fdir, file.readlines()[0].strip("\n"))
    log.info('Loading checkpoint from "%s"', fpath)
    state = load_checkpoint(fpath)
    model.load_state_dict(state["state_dict"])
    if optimizer is not None and state.get("optimizer") is not None:
        optimizer.load_state_dict(state["optimizer"])
    if scheduler is not None and state.get("scheduler") is not None:
        scheduler.load_state_dict(state["scheduler"])
    if state.get("rng") is not None:
        set_rng_state(state["rng"])
    log.info("Previous epoch: %s", state["epoch"])
    return int(state["epoch"])


def load_pretrained_weights(model: nn.Module, weight_path: str) -> None:
    """Load the tensors whose name and shape fit; says which were left out."""
    state = load_checkpoint(weight_path)
    weights = state.get("state_dict", state)
    own = model.state_dict()
    matched, discarded = OrderedDict(), []
    for key, value in weights.items():
        key = key.removeprefix("module.")
        if key in own and own[key].shape == value.shape:
            matched[key] = value
        else:
            discarded.append(key)
    if not matched:
        raise UserError(f'no tensor in "{weight_path}" fits the model')
    own.update(matched)
    model.load_state_dict(own)
    log.info('Loaded %d tensors from "%s"', len(matched), weight_path)
    if discarded:
        log.warning("Left out, as name or shape does not fit: %s", discarded)


def adjust_learning_rate(optimizer: Any, base_lr: float, epoch: int, stepsize: int = 20, gamma: float = 0.1) -> None:
    """Set ``base_lr * gamma ** (epoch // stepsize)`` in every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = base_lr * gamma ** (epoch // stepsize)


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
    total = 0
    for item in params:
        total += sum(p.numel() for p in item["params"]) if isinstance(item, dict) else item.numel()
    return total


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
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            nn.init.constant_(module.weight.data, 1.0)
            nn.init.constant_(module.bias.data, 0.0)


def transfer_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy all weights of ``source`` into ``target``."""
    target.load_state_dict(source.state_dict())


def tolist_if_not(x: Any) -> list[Any]:
    """``x`` itself when it is a list, else a list of it."""
    return x if isinstance(x, list) else [x]
