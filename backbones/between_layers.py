"""Between the layers of both towers: patches read behind blocks of the image tower, one token changed behind text layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from backbones.attention import num_prefix_tokens
from backbones.base import TokenBatch, VisionLanguageBackbone


def image_patches(backbone: VisionLanguageBackbone, images: Tensor, blocks: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """Features (B, D) of images (B, 3, H, W), not normalised, and the patches (B, N, W) that come out of ``blocks``.

    Args:
        blocks: numbers of blocks, from 0, in rising order.
    """
    found: list[Tensor] = []
    prefix, layers = num_prefix_tokens(backbone), backbone.visual_layers
    with ExitStack() as stack:
        stack.enter_context(_whole(layers[-1]))
        for number in blocks:
            hook = layers[number].register_forward_hook(lambda _, __, out: found.append(_hidden(out)[:, prefix:]))
            stack.callback(hook.remove)
        features = backbone.encode_image(images)
    return features, found


@contextmanager
def pooled_token_changed(
    backbone: VisionLanguageBackbone, tokens: TokenBatch, changes: Mapping[int, Callable[[Tensor], Tensor]]
) -> Iterator[None]:
    """While open, behind text layer k the token that is pooled, (N, W), becomes ``changes[k]`` of it.

    Args:
        tokens: the N texts that pass the tower meanwhile.
    """
    places = backbone.pooled_places(tokens)
    batch_first = getattr(backbone.text_tower, "batch_first", True)
    with ExitStack() as stack:
        for number, change in changes.items():
            hook = partial(_behind_layer, change=change, places=places, batch_first=batch_first)
            stack.callback(backbone.text_layers[number].register_forward_hook(hook).remove)
        yield


@contextmanager
def _whole(block: nn.Module) -> Iterator[None]:
    """While open, ``block`` gives all tokens, not only the one that is pooled (:mod:`backbones.pooled_only`)."""
    short = block.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if short is not None:
            block.forward = short


def _hidden(out: Any) -> Tensor:
    """A layer's hidden states: older transformers wrap them in a tuple."""
    return out[0] if isinstance(out, tuple) else out


def _behind_layer(
    layer: nn.Module, args: tuple[Any, ...], out: Any, *, change: Callable[[Tensor], Tensor], places: Tensor, batch_first: bool
) -> Any:
    """Forward hook: the layer's output with the token at ``places`` (N,) changed."""
    hidden = _hidden(out) if batch_first else _hidden(out).transpose(0, 1)
    pooled = hidden[torch.arange(len(hidden), device=hidden.device), places]
    here = torch.arange(hidden.shape[1], device=hidden.device) == places[:, None]  # (N, L)
    changed = torch.where(here[:, :, None], change(pooled).to(hidden)[:, None], hidden)
    changed = changed if batch_first else changed.transpose(0, 1)
    return (changed, *out[1:]) if isinstance(out, tuple) else changed
