"""CLIP-Adapter: a bottleneck on the image features (Gao et al., IJCV 2024, arXiv 2110.04544)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.base import unit
from trainers.feature_trainer import FeatureTrainer

REDUCTION = 4  # of the bottleneck's width (section 4.1 of the paper)


class Adapter(nn.Module):
    """D -> D/4 -> D, linear without bias, ReLU behind each (section 3.2; the second ReLU is the released code's)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, width // REDUCTION, bias=False)
        self.up = nn.Linear(width // REDUCTION, width, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        return F.relu(self.up(F.relu(self.down(features))))


@TRAINER_REGISTRY.register()
class CLIPAdapter(FeatureTrainer):
    """Cross-entropy on ``s (alpha A(v) + (1 - alpha) v) F^T``; the adapter A is learned (section 3.2).

    The published few-shot runs mix with alpha 0.5 and leave the mixture's length as it is; the paper's own code mixes
    with 0.2 and normalises again (RENORMALISE).
    """

    section = "CLIPADAPTER"
    uses_optimizer = True

    @classmethod
    def defaults(cls) -> CfgNode:
        return CfgNode(
            {
                "ALPHA": 0.5,  # share of the adapter's output
                "RENORMALISE": False,  # the mixture to length 1
                "PREC": "fp32",  # fp32, amp, bf16
            }
        )

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        own = cfg.TRAINER[cls.section]
        return f"alpha{own.ALPHA}" + ("_renormalised" if own.RENORMALISE else "")

    def build_learner(self, classnames: Sequence[str]) -> Adapter:
        return Adapter(self.backbone.embed_dim)

    def scores(self, features: Tensor) -> Tensor:
        alpha = self.own.ALPHA
        mixed = alpha * self.prompt_learner(features) + (1 - alpha) * features
        return self.zero_shot(unit(mixed) if self.own.RENORMALISE else mixed)
