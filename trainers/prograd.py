"""ProGrad: gradients of the task that do not contradict the zero-shot classifier (Zhu et al., ICCV 2023)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from dassl.engine.gradients import project
from dassl.utils import UserError, nearest
from trainers.base import unit
from trainers.biomed_dpt import distillation
from trainers.kgcoop import HandWrittenCoOp

TEACHERS = ("zero_shot", "published")


@TRAINER_REGISTRY.register()
class ProGrad(HandWrittenCoOp):
    """A step along the gradient of ``CE(s v t^T, y)``, less its component against the gradient of the KL term.

    ``KL = T^2 / B Σ_b KL(softmax(z_b / T) || softmax(logits_b / T))``, z from the teacher; it gives only the direction. The
    released loss is the cross-entropy of the same two distributions times T^2, averaged over the batch: it differs from
    this one by the teacher's entropy, which has no gradient. ``ctx`` is learned.

    TEACHER: ``zero_shot`` is the paper's, ``z = s v F^T``. ``published`` is what the runs on the biomedical datasets had: the
    model that is learning teaches itself, so that its KL gradient is rounding noise.
    """

    section = "PROGRAD"
    told_apart = (*HandWrittenCoOp.told_apart, ("TEACHER", "teacher"), ("LAMBDA", "lambda"))

    @classmethod
    def defaults(cls) -> CfgNode:
        own = {
            "T": 1.0,  # temperature of the KL term
            "LAMBDA": 1.0,  # how much of the contradicting component is removed: 0 is CoOp
            "TEACHER": "zero_shot",  # or "published"
        }
        return CfgNode(super().defaults() | own)

    @classmethod
    def departures(cls, cfg: CfgNode) -> list[str]:
        own, said = cfg.TRAINER[cls.section], super().departures(cfg)
        if own.TEACHER != "published":
            said.append(f"TEACHER {own.TEACHER}, as in the paper (published runs: the learning model itself)")
        if own.LAMBDA != cls.defaults().LAMBDA:
            said.append(f"LAMBDA {own.LAMBDA} (published: {cls.defaults().LAMBDA})")
        return said

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        own, here = cfg.TRAINER[self.section], f"TRAINER.{self.section}"
        if own.TEACHER not in TEACHERS:
            hint = nearest(own.TEACHER, TEACHERS)
            raise UserError(f'{here}.TEACHER is "{own.TEACHER}", must be {" or ".join(TEACHERS)}.{hint}')
        if own.T <= 0:
            raise UserError(f"{here}.T is {own.T}, a temperature must be above 0")

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        v = self.image_features(images)  # (B, D)
        logits = self.logit_scale * v @ unit(self.encode_classes()).T
        zero_shot = self.own.TEACHER == "zero_shot"
        z = self.logit_scale * v @ self.fixed_features.T if zero_shot else logits.detach()
        temperature, classes = self.own.T, logits.shape[1]
        return {
            "ce": F.cross_entropy(logits, labels),
            "kl": temperature**2 * classes * distillation(z / temperature, logits / temperature),
        }, logits

    def backward(self, loss: Tensor, terms: dict[str, Tensor]) -> None:
        """Projected gradients, parameter by parameter. A GradScaler's factor on both terms passes through to them."""
        learned = [p for p in self.prompt_learner.parameters() if p.requires_grad]
        of_ce = torch.autograd.grad(self.scaled(terms["ce"]), learned, retain_graph=True)
        of_kl = torch.autograd.grad(self.scaled(terms["kl"]), learned)
        for parameter, g_ce, g_kl in zip(learned, of_ce, of_kl, strict=True):
            parameter.grad = project(g_ce, g_kl, self.own.LAMBDA)
