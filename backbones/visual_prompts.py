"""Prompt tokens put into a Vision Transformer (Biomed-DPT, section "vision prompt"; VPT, Jia et al. 2022)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from dassl.utils import UserError

PLACEMENTS = ("replace", "insert")
DEPTHS = ("deep", "shallow")


@dataclass(frozen=True)
class VisualPrompt:
    """P prompt tokens for a ViT of width W.

    Attributes:
        tokens: (P, W) the same tokens for every block, or (depth, P, W) one set for each of the first ``depth``
            blocks; the blocks behind them read what their predecessor made of the tokens (MaPLe, section 3.2).
            (depth, B, P, W): a set of its own for each image of a batch of B.
        placement: ``"replace"`` overwrites patch tokens 1..P (the published runs: the sequence keeps its
            length); ``"insert"`` adds P tokens behind the class token (the paper's text).
        deep: write tokens again before every block that has some; otherwise only before the first.
    """

    tokens: Tensor
    placement: str = "replace"
    deep: bool = True

    def __post_init__(self) -> None:
        if self.placement not in PLACEMENTS:
            raise ValueError(f"placement is {self.placement!r}, must be one of {PLACEMENTS}")
        if self.tokens.ndim not in (2, 3, 4):
            raise ValueError(f"tokens must be (P, W), (depth, P, W) or (depth, B, P, W), got {tuple(self.tokens.shape)}")

    @property
    def num_tokens(self) -> int:
        return self.tokens.shape[-2]

    def describe(self) -> str:
        """What a frozen prompt does to an image, as a cache key: placement, depth, and the tokens' hash unless all are 0."""
        tokens = self.tokens.detach().float().cpu()
        what = "zeros" if not tokens.any() else hashlib.sha256(tokens.numpy().tobytes()).hexdigest()[:16]
        return f"{tuple(tokens.shape)} {what} {self.placement} {'deep' if self.deep else 'shallow'}"

    def at_block(self, block: int) -> Tensor:
        """(P, W), or (B, P, W) one set per image: the tokens that block number ``block`` sees."""
        return self.tokens if self.tokens.ndim == 2 else self.tokens[block]

    def start(self, sequence: Tensor, num_prefix: int = 1) -> Tensor:
        """Make room in ``sequence`` (B, N, W), which begins with ``num_prefix`` class tokens.

        Raises:
            UserError: more tokens than patches to replace.
        """
        patches = sequence.shape[1] - num_prefix
        if self.placement == "insert":
            tokens = self._expanded(0, sequence)
            return torch.cat([sequence[:, :num_prefix], tokens, sequence[:, num_prefix:]], dim=1)
        if self.num_tokens > patches:
            raise UserError(f"{self.num_tokens} visual prompt tokens cannot replace {patches} patches: take fewer tokens")
        return sequence

    def writes(self, block: int) -> bool:
        """Whether tokens are written before block number ``block``, rather than left to what became of them."""
        if block == 0:
            return True
        return self.deep and (self.tokens.ndim == 2 or block < len(self.tokens))

    def before_block(self, block: int, sequence: Tensor, num_prefix: int = 1) -> Tensor:
        """(B, N, W) the sequence with positions num_prefix..num_prefix+P-1 set to this block's tokens."""
        if not self.writes(block):
            return sequence
        end = num_prefix + self.num_tokens
        return torch.cat([sequence[:, :num_prefix], self._expanded(block, sequence), sequence[:, end:]], dim=1)

    def _expanded(self, block: int, sequence: Tensor) -> Tensor:
        return self.at_block(block).to(sequence).expand(sequence.shape[0], -1, -1)


def zero_vectors(num_tokens: int, width: int, placement: str = "replace", deep: bool = True) -> VisualPrompt | None:
    """Biomed-DPT's visual prompt: P zero vectors, nothing learned. ``None`` when ``num_tokens`` is 0."""
    if num_tokens == 0:
        return None
    return VisualPrompt(torch.zeros(num_tokens, width), placement, deep)
