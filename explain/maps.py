"""The arithmetic of maps: from attention to one number per patch, and from there to how much lies on a lesion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones import VisualPrompt
from dassl.utils import UserError


@dataclass(frozen=True)
class Layout:
    """Where things stand in a ViT's sequence: class and register tokens, P prompts, patches row by row.

    Attributes:
        prefix: class and register tokens.
        prompts: P, at positions prefix .. prefix+P-1.
        inserted: the prompts stand before the patches; otherwise they stand on the first P of them.
        side: patches along each side of the image.
    """

    prefix: int
    prompts: int
    inserted: bool
    side: int

    @property
    def prompt_positions(self) -> slice:
        return slice(self.prefix, self.prefix + self.prompts)

    @property
    def patch_positions(self) -> slice:
        return slice(self.prefix + (self.prompts if self.inserted else 0), None)

    def on_patches(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) non-negative values per token -> (B, side, side) on the patches, and the prompts' share (B,).

        The share is of what lies on patches and prompts together. Patches that prompts overwrote have 0.
        """
        on_prompts = values[:, self.prompt_positions].sum(dim=1)
        patches = values[:, self.patch_positions].clone()
        if not self.inserted:
            patches[:, : self.prompts] = 0
        total = patches.sum(dim=1) + on_prompts
        return patches.unflatten(1, (self.side, self.side)), on_prompts / total


def layout_of(length: int, prefix: int, prompt: VisualPrompt | None) -> Layout:
    """The layout of a sequence of ``length`` tokens.

    Raises:
        UserError: its patches make no square.
    """
    prompts = prompt.num_tokens if prompt else 0
    inserted = prompt is not None and prompt.placement == "insert"
    patches = length - prefix - (prompts if inserted else 0)
    side = math.isqrt(patches)
    if side * side != patches:
        raise UserError(f"{patches} patches make no square: maps are drawn for square images only")
    return Layout(prefix, prompts, inserted, side)


def class_attention(attention: Sequence[Tensor]) -> Tensor:
    """(B, N): what the class token of the last block attends to, mean over heads."""
    return attention[-1].mean(dim=1)[:, 0]


def rollout(attention: Sequence[Tensor], layout: Layout, prompt: VisualPrompt | None) -> Tensor:
    """(B, N): how much of each token reaches the class token through all blocks (Abnar and Zuidema, ACL 2020, eq. 1).

    ``R_l = (A_l + I) / 2 · R_{l-1}``, A the mean over heads, R_0 = I. A prompt that is written anew before a block holds
    nothing of what its place held before: there R's row starts again as the identity's.

    Args:
        attention: (B, heads, N, N) of each block, the first block first.
    """
    count = attention[0].shape[-1]
    identity = torch.eye(count, device=attention[0].device)
    reached = identity.expand(len(attention[0]), -1, -1)
    for block, weights in enumerate(attention):
        if prompt is not None and prompt.writes(block):
            reached = reached.clone()
            reached[:, layout.prompt_positions] = identity[layout.prompt_positions]
        reached = (weights.mean(dim=1) + identity) / 2 @ reached
    return reached[:, 0]


def gradient_map(activation: Tensor, gradient: Tensor, layout: Layout) -> Tensor:
    """(B, N): ``relu(Σ_k w_k A_k)``, w_k the mean gradient of channel k over patches (Grad-CAM, ICCV 2017, eq. 1 and 2).

    Args:
        activation, gradient: (B, N, W) what the last block's attention reads, and the class score's gradient in it.
    """
    untouched = slice(layout.prefix + layout.prompts, None)  # patches that no prompt overwrote
    weights = gradient[:, untouched].mean(dim=1, keepdim=True)  # (B, 1, W)
    return F.relu((activation * weights).sum(dim=-1))


def mass_inside(grid: Tensor, coverage: Tensor) -> Tensor:
    """(B,): the share of a map (B, side, side) that lies on a mask; NaN for a map of zeros.

    Args:
        coverage: (B, side, side) or (side, side), the fraction of each patch that the mask covers.
    """
    return (grid * coverage).sum(dim=(1, 2)) / grid.sum(dim=(1, 2))


def shift(before: Tensor, after: Tensor) -> Tensor:
    """(B,): the share of a map's mass that moved to other patches, ``Σ|a - b| / 2`` of the two, each with sum 1."""
    before, after = (grid / grid.sum(dim=(1, 2), keepdim=True) for grid in (before, after))
    return (before - after).abs().sum(dim=(1, 2)) / 2
