"""Zero-shot classification with hand-written prompts: one template, or an ensemble of LLM-written ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from backbones import VisionLanguageBackbone
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError
from trainers.base import VLTrainer, unit
from trainers.biomed_dpt import prompt_ensemble
from trainers.prompt_learner import fill

SOURCES = ("template", "ensemble")


@torch.no_grad()
def template_features(backbone: VisionLanguageBackbone, template: str, classnames: Sequence[str]) -> Tensor:
    """F (C, D), normalised: each class name in one hand-written template, through the frozen text tower."""
    return unit(backbone.encode_text(fill(template, classnames)))


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(VLTrainer):
    """``argmax_c s * v F_c^T`` (Radford et al., 2021, section 3.1); nothing is learned."""

    section = "ZEROSHOTCLIP"
    learns = False

    @classmethod
    def defaults(cls) -> CfgNode:
        return CfgNode(
            {
                "PROMPTS": "template",  # the dataset's clinical template, or "ensemble" of the LLM-written prompts
                "N_PROMPTS": 50,  # K, of the ensemble
                "PREC": "fp32",
            }
        )

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        return cls.source(cfg)

    @classmethod
    def source(cls, cfg: CfgNode) -> str:
        """Where the prompts come from: "template" or "ensemble"."""
        return cfg.TRAINER[cls.section].PROMPTS

    @classmethod
    def uses_prompts(cls, cfg: CfgNode) -> bool:
        return cls.source(cfg) == "ensemble"

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        if self.source(cfg) not in SOURCES:
            raise UserError(f'TRAINER.{self.section}.PROMPTS is "{self.source(cfg)}", must be {" or ".join(SOURCES)}')

    def build_learner(self, classnames: Sequence[str]) -> nn.Module:
        if self.source(self.cfg) == "template":
            self.fixed_features = template_features(self.backbone, self.facts.template, classnames)  # F (C, D)
        else:
            self.prompts = self.load_prompts(classnames)
            self.fixed_features = prompt_ensemble(self.encode_prompts(self.prompts.texts, classnames))
        return nn.Module()

    def encode_classes(self) -> Tensor:
        return self.fixed_features

    def train(self) -> None:
        """Nothing to train: straight to the test."""
        if not self.cfg.TEST.NO_TEST:
            self.test()


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """CoOp's name for the prompt ensemble."""

    @classmethod
    def source(cls, cfg: CfgNode) -> str:
        return "ensemble"
