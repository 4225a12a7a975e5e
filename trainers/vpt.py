"""VPT: learned tokens among the image patches, frozen class features (Jia et al., ECCV 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from backbones import VisualPrompt
from dassl.engine import TRAINER_REGISTRY
from trainers.visual_prompt_learner import VisualPromptLearner, VisualPromptTrainer, visual_defaults, visual_variant
from trainers.zero_shot import template_features


@TRAINER_REGISTRY.register()
class VPT(VisualPromptTrainer):
    """Cross-entropy on ``s * v(p) F^T``; the visual tokens p are learned (section 3.2 of the paper).

    F: the frozen features of the dataset's clinical template, in place of the paper's linear head (the CLIP form of
    VPT, as in MaPLe and in the released Biomed-DPT code). That code's file of this name calls itself deep, but
    overwrites the first patches once: VISUAL.DEPTH shallow with VISUAL.PLACEMENT replace.
    """

    section = "VPT"

    @classmethod
    def defaults(cls) -> CfgNode:
        return CfgNode({"PREC": "fp32", "VISUAL": visual_defaults()})  # fp32, amp, bf16

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        return visual_variant(cfg.TRAINER[cls.section])

    def build_learner(self, classnames: Sequence[str]) -> VisualPromptLearner:
        self.fixed_features = template_features(self.backbone, self.facts.template, classnames)  # F (C, D)
        return self.new_visual_learner()

    def visual_prompt(self) -> VisualPrompt:
        return self.prompt_learner()

    def encode_classes(self) -> Tensor:
        return self.fixed_features

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.logit_scale * self.image_features(images) @ self.fixed_features.T
        return {"ce": F.cross_entropy(logits, labels)}, logits
