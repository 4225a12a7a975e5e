"""Learned vectors put before the deeper layers of a text transformer (MaPLe, Khattak et al., CVPR 2023, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def deep_text_prompts(layers: Sequence[nn.Module], prompts: Tensor | None, batch_first: bool = True) -> Iterator[None]:
    """While open, layers 1..J of a text transformer read ``prompts`` at positions 1..M of their hidden states.

    Layer 0 is left alone: its input already holds the learned context. Layers behind J read what their
    predecessor made of the prompts.

    Args:
        layers: the transformer's layers in order; each takes its hidden states first, or as ``hidden_states``.
        prompts: (J, M, W) the same vectors for all N texts, or (J, N, M, W); ``None`` changes nothing.
        batch_first: hidden states are (N, L, W); otherwise (L, N, W).

    Raises:
        ValueError: another shape, or more sets of vectors than there are layers behind the first.
    """
    if prompts is None:
        yield
        return
    if prompts.ndim not in (3, 4):
        raise ValueError(f"deep prompts must be (J, M, W) or (J, N, M, W), got {tuple(prompts.shape)}")
    if len(prompts) >= len(layers):
        raise ValueError(f"{len(prompts)} deep prompts need {len(prompts) + 1} text layers, the tower has {len(layers)}")
    with ExitStack() as hooks:
        for layer, vectors in zip(layers[1:], prompts, strict=False):
            hook = partial(_before_layer, vectors=vectors, batch_first=batch_first)
            hooks.callback(layer.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


def _before_layer(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, vectors: Tensor, batch_first: bool
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Forward pre-hook: the layer's arguments with its hidden states overwritten."""
    if args:
        return (_overwritten(args[0], vectors, batch_first), *args[1:]), kwargs
    return args, kwargs | {"hidden_states": _overwritten(kwargs["hidden_states"], vectors, batch_first)}


def _overwritten(hidden: Tensor, vectors: Tensor, batch_first: bool) -> Tensor:
    """``hidden`` with positions 1..M set to ``vectors`` (M, W) or (N, M, W)."""
    if not batch_first:
        return _overwritten(hidden.transpose(0, 1), vectors, True).transpose(0, 1)
    count = vectors.shape[-2]
    if count + 1 > hidden.shape[1]:
        raise ValueError(f"{count} deep prompts do not fit behind the first of {hidden.shape[1]} text positions")
    written = vectors.to(hidden).expand(len(hidden), -1, -1)
    return torch.cat([hidden[:, :1], written, hidden[:, 1 + count :]], dim=1)
