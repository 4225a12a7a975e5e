"""Loading a checkpoint without drawing weights first and without holding them twice."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from open_clip.factory import load_checkpoint
from torch import nn
from torch.overrides import TorchFunctionMode

DRAWS = {"uniform_", "normal_", "erfinv_", "mul_", "add_", "clamp_", "fill_", "zero_"}  # what initialisers do in place


class Undrawn(TorchFunctionMode):
    """Parameters built inside stay as they were allocated: no initial value is drawn for what a checkpoint replaces.

    Buffers get their values, since no checkpoint holds some of them (position ids, causal masks).
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        target = args[0] if args else kwargs.get("tensor")  # torch.nn.init passes it by name
        draws = getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in DRAWS
        return target if draws and isinstance(target, nn.Parameter) else func(*args, **kwargs)


def fill(model: nn.Module, path: Path) -> None:
    """Give an open_clip model built under :class:`Undrawn` the weights in ``path``, in float32.

    A safetensors file is memory-mapped and its pages become the weights: read when used, held once, shared by processes.

    Raises:
        RuntimeError: weights missing in the file, or of other shapes.
    """
    model.load_state_dict = partial(model.load_state_dict, assign=True)
    try:
        load_checkpoint(model, str(path))
    finally:
        del model.load_state_dict
    model.to(torch.float32)
