"""KgCoOp: learned context held near the hand-written prompts (Yao et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.base import unit
from trainers.coop import CoOp
from trainers.zero_shot import template_features

PUBLISHED_TEMPLATE = "a photo of a {}."


class HandWrittenCoOp(CoOp):
    """CoOp beside the frozen zero-shot classifier of hand-written prompts, which its loss refers to.

    The papers give each natural-image dataset a template of its own. Here that is the dataset's clinical template; the
    published runs on the biomedical datasets had ``a photo of a {}.`` for all of them: ``DATASET.TEMPLATE`` sets it.

    Attributes:
        fixed_features: (C, D) F, the normalised features of the hand-written prompts.
    """

    @classmethod
    def defaults(cls) -> CfgNode:
        return CfgNode(super().defaults() | {"N_CTX": 4, "CTX_INIT": "a photo of a"})

    @classmethod
    def departures(cls, cfg: CfgNode) -> list[str]:
        said, template = super().departures(cfg), cfg.DATASET.TEMPLATE
        if template != PUBLISHED_TEMPLATE:
            used = f'"{template}"' if template else "the dataset's clinical template"
            said.append(f'hand-written prompts from {used} (published: "{PUBLISHED_TEMPLATE}")')
        return said

    def build_teacher(self, classnames: Sequence[str]) -> None:
        self.fixed_features = template_features(self.backbone, self.facts.template, classnames)


@TRAINER_REGISTRY.register()
class KgCoOp(HandWrittenCoOp):
    """``L = CE(s v t^T, y) + W (1 - mean_c cos(t_c, F_c))``; ``ctx`` is learned.

    Section 3.2 of the paper writes the second term as the mean squared distance of t and F; on unit vectors that is twice
    this one, and the released code has the cosine.
    """

    section = "KGCOOP"

    @classmethod
    def defaults(cls) -> CfgNode:
        return CfgNode(super().defaults() | {"W": 1.0})  # weight of the knowledge-guided term

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        t = unit(self.encode_classes())  # (C, D)
        logits = self.logit_scale * self.image_features(images) @ t.T
        return {
            "ce": F.cross_entropy(logits, labels),
            "kg": self.own.W * (1 - F.cosine_similarity(t, self.fixed_features, dim=1).mean()),
        }, logits
