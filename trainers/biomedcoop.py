"""BiomedCoOp: context learned from an ensemble and a selection of LLM prompts (Koleilat et al., CVPR 2025)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError
from trainers.base import unit
from trainers.biomed_dpt import distillation, prompt_ensemble
from trainers.coop import CoOp


def is_selected(scores: Tensor, tau: float) -> Tensor:
    """(K,) bool: which prompts are no outliers by their scores (K,).

    The robust z-score ``(score - median) / median|score - median|`` is itself standardised by its mean and standard
    deviation (with K - 1), and a prompt stays where the result is at most ``tau`` in absolute value.

    Standardising undoes any shift and scale, so the robust z-score's own scale cannot change the outcome: where more than
    half of the scores are equal its median deviation is 0, and the division is left out (the released code divides by 0
    and trains on NaN). Where all scores are equal, a single one included, there is no outlier and all prompts stay.
    """
    if bool((scores == scores[0]).all()):
        return torch.ones_like(scores, dtype=torch.bool)
    shifted = scores - scores.median()
    deviation = shifted.abs().median()
    z = shifted / deviation if deviation > 0 else shifted
    return ((z - z.mean()) / z.std()).abs() <= tau


@TRAINER_REGISTRY.register()
class BiomedCoOp(CoOp):
    """``L = CE(s v t^T, y) + λ_SCCM mean (t - F)^2 + λ_KDSP KL(softmax(s v F_sel^T) || softmax(s v t^T)) / (B C)``.

    t: the prompts with learned context (``ctx``, the only parameter); F: the ensemble of all K LLM prompts; F_sel: the
    ensemble of those that :func:`is_selected` keeps for this batch, by how well they match its images. In the paper's words:
    semantic consistency by contextual mapping (SCCM) and knowledge distillation with selective prompting (KDSP).
    """

    section = "BIOMEDCOOP"
    told_apart = (*CoOp.told_apart, ("N_PROMPTS", "K"))

    @classmethod
    def defaults(cls) -> CfgNode:
        own = {
            "N_CTX": 4,  # M
            "CTX_INIT": "a photo of a",
            "SCCM_LAMBDA": 1.0,
            "KDSP_LAMBDA": 1.0,
            "TAU": 1.5,  # standard deviations beyond which a prompt's score is an outlier
            "N_PROMPTS": 50,  # K
            "TEXT_DROPOUT": True,  # the released code registers the whole model: its dropout is on in training
        }
        return CfgNode(super().defaults() | own)

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        tau = cfg.TRAINER[self.section].TAU
        if tau <= 0:
            raise UserError(f"TRAINER.{self.section}.TAU is {tau}, must be above 0 (published: 1.25 to 2)")

    def build_teacher(self, classnames: Sequence[str]) -> None:
        self.prompts = self.load_prompts(classnames)
        encoded = self.encode_prompts(self.prompts.texts, classnames)
        self.prompt_features = unit(encoded)  # F_k (C, K, D)
        self.fixed_features = prompt_ensemble(encoded)  # F (C, D)

    @torch.no_grad()
    def selected_features(self, v: Tensor) -> Tensor:
        """(C, D) normalised mean of the prompts kept for the images v (B, D).

        Prompt k scores the logit of the class that it finds likeliest, averaged over the images: ``mean_b max_c s v_b F_ck``.

        Raises:
            UserError: TAU keeps no prompt (possible below 1 only: some score always lies within one standard deviation).
        """
        logits = self.logit_scale * torch.einsum("bd,ckd->bck", v, self.prompt_features)
        kept = is_selected(logits.amax(dim=1).mean(dim=0).float(), self.own.TAU)
        if self.own.TAU < 1 and not bool(kept.any()):
            raise UserError(f"TRAINER.{self.section}.TAU {self.own.TAU} keeps none of {len(kept)} prompts: set it to 1 or more")
        return prompt_ensemble(self.prompt_features[:, kept])

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        v = self.image_features(images)  # (B, D)
        t = unit(self.encode_classes())  # (C, D)
        logits = self.logit_scale * v @ t.T
        z = self.logit_scale * v @ self.selected_features(v).T
        return {
            "ce": F.cross_entropy(logits, labels),
            "sccm": self.own.SCCM_LAMBDA * F.mse_loss(t, self.fixed_features),
            "kdsp": self.own.KDSP_LAMBDA * distillation(z, logits),
        }, logits
