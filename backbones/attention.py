"""Reading what a Vision Transformer's blocks attend to; nothing is computed otherwise than in an ordinary pass.

The towers fuse attention into one kernel that never holds the weights. It is switched to the plain form only while the
weights are read, and back again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from backbones.base import VisionLanguageBackbone
from backbones.visual_prompts import VisualPrompt
from dassl.utils import UserError

FIRST_NORMS = ("norm1", "ln_1", "layer_norm1")  # timm, open_clip, transformers


def require_patches(backbone: VisionLanguageBackbone) -> None:
    """Raise a :class:`UserError` for an image tower without patch tokens and a class token."""
    trunk = _timm_trunk(backbone)
    if not backbone.supports_visual_prompts or (trunk is not None and getattr(trunk, "cls_token", None) is None):
        raise UserError(
            f"the image tower of {backbone.name} has no class token that attends to patches: maps of where it looks need "
            "a vision transformer (BiomedCLIP, CLIP, PubMedCLIP, PhantomCLIP)"
        )


def num_prefix_tokens(backbone: VisionLanguageBackbone) -> int:
    """Class and register tokens in front of the patches."""
    return int(getattr(_timm_trunk(backbone), "num_prefix_tokens", 1))


def first_norm(block: nn.Module) -> nn.Module:
    """The norm whose output a block's attention reads."""
    return next(getattr(block, name) for name in FIRST_NORMS if hasattr(block, name))


@torch.no_grad()
def image_attention(
    backbone: VisionLanguageBackbone, images: Tensor, visual_prompt: VisualPrompt | None = None
) -> list[Tensor]:
    """(B, heads, N, N) of each block on ``images`` (B, 3, H, W): rows attend to columns and sum to 1.

    Raises:
        UserError: a tower without patch tokens, or of an attention that cannot be read.
    """
    require_patches(backbone)
    with recorded_attention(backbone.visual_layers) as maps:
        backbone.encode_image(images, visual_prompt)
    return maps


@contextmanager
def recorded_attention(blocks: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """While open, each pass through one of ``blocks`` appends its attention (B, heads, N, N) to the list."""
    maps: list[Tensor] = []
    with ExitStack() as stack:
        for block in blocks:
            _record(block, maps, stack)
        yield maps


def _record(block: nn.Module, maps: list[Tensor], stack: ExitStack) -> None:
    attention = getattr(block, "attn", None) or getattr(block, "self_attn", None)
    if isinstance(attention, nn.MultiheadAttention):  # open_clip
        stack.enter_context(attention.register_forward_pre_hook(_ask_for_weights, with_kwargs=True))
        stack.enter_context(attention.register_forward_hook(lambda _, __, out: maps.append(out[1])))
    elif hasattr(attention, "fused_attn") and hasattr(attention, "attn_drop"):  # timm
        stack.enter_context(_set(attention, "fused_attn", False))
        stack.enter_context(attention.attn_drop.register_forward_hook(lambda _, __, out: maps.append(out)))
    elif hasattr(getattr(attention, "config", None), "_attn_implementation"):  # transformers
        stack.enter_context(_set(attention.config, "_attn_implementation", "eager"))
        stack.enter_context(attention.register_forward_hook(lambda _, __, out: maps.append(out[1])))
    else:
        raise UserError(f"the attention of a {type(block).__name__} cannot be read: no such block is known here")


def _ask_for_weights(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs | {"need_weights": True, "average_attn_weights": False}


@contextmanager
def _set(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _timm_trunk(backbone: VisionLanguageBackbone) -> nn.Module | None:
    return getattr(getattr(getattr(backbone, "model", None), "visual", None), "trunk", None)
