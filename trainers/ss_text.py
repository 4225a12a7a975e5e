"""SS-Text: class prototypes of images and text in one sum, without a search (Silva-Rodríguez et al., IPMI 2025)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.base import unit
from trainers.biomed_dpt import prompt_ensemble
from trainers.feature_trainer import FeatureTrainer, Fitted


def prototypes(text: Tensor, features: Tensor, labels: Tensor, scale: Tensor | float) -> Tensor:
    """``unit(t_c + s Σ_{i in c} v_i)`` (C, D) of text t (C, D), unit features (N, D) and labels (N,).

    A class without images keeps its text.
    """
    one_hot = F.one_hot(labels, len(text)).to(features)
    return unit(text + scale * one_hot.T @ features)


@TRAINER_REGISTRY.register()
class SSText(FeatureTrainer):
    """``s v W^T`` with ``W_c = unit(t_c + s Σ_{i in c} v_i)``: no gradient step, nothing chosen, no validation image read.

    v: unit image features; t_c: the unit mean of the unit features of class c's LLM prompts; s = exp(logit_scale). The
    released solver has it as ``t_c + Σ_{i in c} v_i / (λ N τ)`` with λ = 1/N and τ = 1/s. Each of AUGMENT_EPOCH views counts
    as an image of its own.
    """

    section = "SSTEXT"
    least = {**FeatureTrainer.least, "N_PROMPTS": 1}

    @classmethod
    def defaults(cls) -> CfgNode:
        return CfgNode(
            {
                "AUGMENT_EPOCH": 0,  # views of every training image; 0: the image under the test transform
                "N_PROMPTS": 50,  # K, whose mean is t_c
                "PREC": "fp32",  # of the image tower: fp32, amp, bf16
            }
        )

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        own = cfg.TRAINER[cls.section]
        return f"views{own.AUGMENT_EPOCH}_K{own.N_PROMPTS}"

    def build_teacher(self, classnames: Sequence[str]) -> None:
        self.prompts = self.load_prompts(classnames)
        self.class_texts = prompt_ensemble(self.encode_prompts(self.prompts.texts, classnames))  # t (C, D)

    def build_learner(self, classnames: Sequence[str]) -> Fitted:
        return Fitted(weight=torch.zeros(len(classnames), self.backbone.embed_dim))

    def encode_classes(self) -> Tensor:
        return self.prompt_learner.weight

    def scores(self, features: Tensor) -> Tensor:
        return self.logit_scale * features @ self.prompt_learner.weight.T

    def fit(self) -> None:
        features, labels = self.normalised(self.training_sets())
        self.prompt_learner.fill(weight=prototypes(self.class_texts, features, labels, self.logit_scale))
