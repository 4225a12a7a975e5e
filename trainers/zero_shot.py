"""Zero-shot classification with hand-written prompts: one template, or an ensemble of LLM-written ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError
from datasets.prompts import load_prompts
from trainers.base import VLTrainer
from trainers.biomed_dpt import prompt_ensemble
from trainers.prompt_learner import fill

SOURCES = ("template", "ensemble")


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

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        if self.source(cfg) not in SOURCES:
            raise UserError(f'TRAINER.{self.section}.PROMPTS is "{self.source(cfg)}", must be {" or ".join(SOURCES)}')

    def build_learner(self, classnames: Sequence[str]) -> nn.Module:
        with torch.no_grad():
            if self.source(self.cfg) == "template":
                encoded = [self.backbone.encode_text([text]) for text in fill(self.dm.dataset.template, classnames)]
            else:
                count = self.own.N_PROMPTS
                self.prompts = load_prompts(self.cfg.DATASET.PROMPTS or self.dm.dataset.key, classnames, count)
                encoded = [self.backbone.encode_text(self.prompts.texts[name][:count]) for name in classnames]
        self._ensemble = prompt_ensemble(encoded)
        return nn.Module()

    def encode_classes(self) -> Tensor:
        return self._ensemble

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
