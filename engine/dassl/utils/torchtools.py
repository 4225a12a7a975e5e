"""Checkpoints (tensors and plain values only, never pickled objects) and module tools."""

from __future__ import annotations

import logging
import os
import pickle
import random
import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from dassl.utils.errors import MissingFileError, UserError
from dassl.utils.tools import atomic, mkdir_if_missing

log = logging.getLogger(__name__)

# What reading a damaged file can raise, depending on PyTorch's version and on where the damage is
DAMAGE = (
    *(RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError),
    *(pickle.UnpicklingError, struct.error),
)


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
        remove_module_from_keys: drop ``nn.DataParallel``'s prefix from the names of the tensors.
    """
    mkdir_if_missing(save_dir)
    if remove_module_from_keys:
        weights = state["state_dict"]
        state["state_dict"] = OrderedDict((key.removeprefix("module."), value) for key, value in weights.items())
    path = os.path.join(save_dir, model_name or f"model.pth.tar-{state['epoch']}")
    _save(state, path)
    with atomic(os.path.join(save_dir, "checkpoint")) as temporary, open(temporary, "w") as file:
        file.write(f"{os.path.basename(path)}\n")  # what a run is resumed from: whatever was saved last
    log.info("Checkpoint saved to %s", path)
    if is_best:
        best = os.path.join(save_dir, "model-best.pth.tar")
        _save(state, best)
        log.info('Best checkpoint saved to "%s"', best)
    return path


def _save(state: dict[str, Any], path: str) -> None:
    with atomic(path) as temporary:
        torch.save(plain(state), temporary)


def plain(value: Any) -> Any:
    """``value`` with NumPy's scalars as Python's, which a checkpoint may hold, in nested dictionaries and lists too."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (dict, OrderedDict):
        return type(value)((key, plain(item)) for key, item in value.items())
    return type(value)(plain(item) for item in value) if type(value) in (list, tuple) else value


def load_checkpoint(fpath: str) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; nothing in it is ever executed.

    Raises:
        MissingFileError: no such file.
        UserError: damaged, or holding pickled objects.
    """
    if not fpath or not os.path.exists(fpath):
        raise MissingFileError(f'no checkpoint file "{fpath}"')
    try:
        return torch.load(fpath, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{fpath} is damaged or holds more than tensors and plain values: {reason}") from error


def last_checkpoint(fdir: str) -> str:
    """Path of the checkpoint that ``fdir/checkpoint`` names.

    Raises:
        MissingFileError: nothing was saved there.
    """
    pointer = os.path.join(fdir, "checkpoint")
    if not os.path.exists(pointer):
        raise MissingFileError(f'no model was saved in "{fdir}"')
    with open(pointer) as file:
        return os.path.join(fdir, file.readline().strip())


def resume_from_checkpoint(fdir: str, model: nn.Module, optimizer: Any = None, scheduler: Any = None) -> int:
    """Load the last checkpoint of ``fdir`` as :func:`restore` does; returns the number of finished epochs."""
    return int(restore(fdir, model, optimizer, scheduler)["epoch"])


def restore(fdir: str, model: nn.Module, optimizer: Any = None, scheduler: Any = None) -> dict[str, Any]:
    """Load the last checkpoint of ``fdir`` into model, optimizer, scheduler and the random sources; returns it."""
    fpath = last_checkpoint(fdir)
    log.info('Loading checkpoint from "%s"', fpath)
    state = load_checkpoint(fpath)
    model.load_state_dict(state["state_dict"])
    log.info("Loaded model weights")
    if optimizer is not None and state.get("optimizer") is not None:
        optimizer.load_state_dict(state["optimizer"])
        log.info("Loaded optimizer")
    if scheduler is not None and state.get("scheduler") is not None:
        scheduler.load_state_dict(state["scheduler"])
        log.info("Loaded scheduler")
    if state.get("rng") is not None:
        set_rng_state(state["rng"])
    log.info("Previous epoch: %s", state["epoch"])
    return state


def load_pretrained_weights(model: nn.Module, weight_path: str) -> None:
    """Load the tensors whose name and shape fit; says which were left out.

    Raises:
        UserError: no tensor fits (upstream warns, and trains on the model's random weights).
    """
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
    log.info("Successfully loaded pretrained weights from %s", weight_path)
    if discarded:
        log.info("Layers discarded due to unmatched keys or size: %s", discarded)


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
