"""Biomed-DPT: dual modality prompt tuning (Peng et al., arXiv 2505.05189)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from backbones import zero_vectors
from backbones.visual_prompts import DEPTHS, PLACEMENTS
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError
from datasets.prompts import load_prompts
from trainers.base import unit
from trainers.coop import CoOp
from trainers.prompt_learner import PromptLearner


@torch.no_grad()
def prompt_ensemble(encoded: Sequence[Tensor]) -> Tensor:
    """F (C, D): per class the K encoded prompts (K, D), each normalised, averaged, normalised again (section 2)."""
    return torch.stack([unit(unit(features).mean(dim=0)) for features in encoded])


@TRAINER_REGISTRY.register()
class BiomedDPT(CoOp):
    """``L = CE(s v t^T, y) + λ1 mean|t - F| + λ2 KL(softmax(s v F^T) || softmax(s v t^T)) / (B C)``.

    t: the clinical template prompts with learned context; F: the ensemble of LLM-written prompts, frozen;
    v: image features with P zero vectors among the patch tokens. ``ctx`` is the only parameter.
    """

    section = "BIOMEDDPT"
    writes_visual_prompts = True

    @classmethod
    def defaults(cls) -> CfgNode:
        return CfgNode(
            {
                "CTX_INIT": "a photo of a",  # words to start from; only the first N_CTX word-pieces are used
                "CSC": False,  # one context per class
                "CLASS_TOKEN_POSITION": "middle",  # end, middle, front
                "N_CTX": 4,  # M
                "PREC": "fp32",  # fp32, amp, bf16
                "L1_LAMBDA": 12.5,  # λ1
                "KL_LAMBDA": 0.25,  # λ2
                "N_PROMPTS": 50,  # K
                "NAME_LEN": "published",  # or "exact"
                "TEXT_DROPOUT": True,  # the released code registers the whole model: its dropout is on in training
                "VISUAL": {
                    "N_TOKENS": 4,  # P zero vectors; 0 leaves the image side alone
                    "PLACEMENT": "replace",  # over the first patches, or "insert" behind the class token
                    "DEPTH": "deep",  # before every block, or "shallow"
                },
            }
        )

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        own, visual, published = cfg.TRAINER[cls.section], cfg.TRAINER[cls.section].VISUAL, cls.defaults()
        name = super().variant(cfg)
        if visual != published.VISUAL:
            name += f"_vis{visual.N_TOKENS}{visual.PLACEMENT}{visual.DEPTH}"
        for key, short in (("NAME_LEN", "name"), ("TEXT_DROPOUT", "drop"), ("N_PROMPTS", "K")):
            if own[key] != published[key]:
                name += f"_{short}{own[key]}"
        return name

    @classmethod
    def departures(cls, cfg: CfgNode) -> list[str]:
        visual, published = cfg.TRAINER[cls.section].VISUAL, cls.defaults().VISUAL
        changed = [f"VISUAL.{key} {visual[key]} (published: {published[key]})" for key in published]
        differs = [visual[key] != published[key] for key in published]
        return super().departures(cfg) + [text for text, yes in zip(changed, differs, strict=True) if yes]

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        visual = cfg.TRAINER[self.section].VISUAL
        for key, choices in (("PLACEMENT", PLACEMENTS), ("DEPTH", DEPTHS)):
            if visual[key] not in choices:
                raise UserError(f'TRAINER.BIOMEDDPT.VISUAL.{key} is "{visual[key]}", must be {" or ".join(choices)}')

    def template(self) -> str:
        return self.dm.dataset.template

    def build_learner(self, classnames: Sequence[str]) -> PromptLearner:
        self.prompts = load_prompts(self.cfg.DATASET.PROMPTS or self.dm.dataset.key, classnames, self.own.N_PROMPTS)
        encoded = []
        with torch.no_grad():
            for name in classnames:
                encoded.append(self.backbone.encode_text(self.prompts.texts[name][: self.own.N_PROMPTS]))
        self.fixed_features = prompt_ensemble(encoded)  # F (C, D)
        visual = self.own.VISUAL
        count = visual.N_TOKENS if self.backbone.supports_visual_prompts else 0
        self.visual_prompt = zero_vectors(count, self.backbone.visual_width, visual.PLACEMENT, deep=visual.DEPTH == "deep")
        return super().build_learner(classnames)

    def image_features(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return unit(self.backbone.encode_image(images, self.visual_prompt))

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        v = self.image_features(images)  # (B, D)
        t = unit(self.encode_classes())  # (C, D)
        logits = self.logit_scale * v @ t.T
        z = self.logit_scale * v @ self.fixed_features.T
        return {
            "ce": F.cross_entropy(logits, labels),
            "l1": self.own.L1_LAMBDA * F.l1_loss(t, self.fixed_features),
            "kl": self.own.KL_LAMBDA * distillation(z, logits),
        }, logits


def distillation(z: Tensor, logits: Tensor) -> Tensor:
    """``Σ_{b,c} p_z (log p_z - log p_logits) / (B C)``: the KL sum over all B C entries (section 4)."""
    log_z, log_p = F.log_softmax(z.float(), dim=1), F.log_softmax(logits.float(), dim=1)
    return F.kl_div(log_p, log_z, reduction="sum", log_target=True) / logits.numel()
