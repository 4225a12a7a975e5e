"""Biomed-DPT: dual modality prompt tuning (Peng et al., arXiv 2505.05189)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from backbones import VisualPrompt, zero_vectors
from backbones.visual_prompts import DEPTHS, PLACEMENTS
from dassl.engine import TRAINER_REGISTRY
from dassl.optim import build_optimizer
from dassl.utils import UserError
from trainers.base import unit
from trainers.coop import CoOp
from trainers.prompt_learner import check_choice
from trainers.prompt_selection import SELECTIONS, Selection, cosines, select, weighted_ensemble
from trainers.stages import LossStage, StagedSchedule, read_stages, short_name, stage_at

log = logging.getLogger(__name__)


@torch.no_grad()
def prompt_ensemble(encoded: Tensor) -> Tensor:
    """F (C, D) from encoded prompts (C, K, D): each normalised, averaged over K, normalised again (section 2)."""
    return unit(unit(encoded).mean(dim=1))


@TRAINER_REGISTRY.register()
class BiomedDPT(CoOp):
    """``L = CE(s v t^T, y) + λ1 mean|t - F| + λ2 KL(softmax(s v F^T) || softmax(s v t^T)) / (B C)``.

    t: the clinical template prompts with learned context; F: the ensemble of LLM-written prompts, frozen;
    v: image features with P zero vectors among the patch tokens. ``ctx`` is the only parameter.
    """

    section = "BIOMEDDPT"
    told_apart = (
        *CoOp.told_apart,
        ("N_PROMPTS", "K"),
        ("PROMPT_SELECTION", "sel"),
        ("PROMPT_TOPK", "top"),
        ("PROMPT_PULL", "pull"),
    )
    writes_visual_prompts = True
    tunable = {"L1_LAMBDA": (1.0, 100.0), "KL_LAMBDA": (0.05, 25.0)}  # the config files have 9.5 to 65, and 0.25 to 20
    stages: Sequence[LossStage] = ()  # none: one joint stage

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
                "PROMPT_SELECTION": "all",  # which of the K make up F: all (as published), topk, greedy, learned
                "PROMPT_TOPK": 10,  # prompts per class that topk keeps
                "STAGES": [],  # {name, epochs, ce, l1, kl, lr} each; none: one joint stage, as published
                "PROMPT_PULL": 0.1,  # of learned: weight of the KL divergence from equal parts
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
        visual, name = cfg.TRAINER[cls.section].VISUAL, super().variant(cfg)
        if visual != cls.defaults().VISUAL:
            name += f"_vis{visual.N_TOKENS}{visual.PLACEMENT}{visual.DEPTH}"
        return name + short_name(cls.stages_of(cfg))

    @classmethod
    def stages_of(cls, cfg: CfgNode) -> list[LossStage]:
        """The stages of TRAINER.<section>.STAGES; none for one joint stage (:func:`trainers.stages.read_stages`)."""
        own = cfg.TRAINER[cls.section]
        weights = {"ce": 1.0, "l1": own.L1_LAMBDA, "kl": own.KL_LAMBDA}
        return read_stages(own.STAGES, f"TRAINER.{cls.section}.STAGES", weights, cfg.OPTIM)

    @classmethod
    def departures(cls, cfg: CfgNode) -> list[str]:
        visual, published = cfg.TRAINER[cls.section].VISUAL, cls.defaults().VISUAL
        changed = [f"VISUAL.{key} {visual[key]} (published: {published[key]})" for key in published]
        differs = [visual[key] != published[key] for key in published]
        said = super().departures(cfg) + [text for text, yes in zip(changed, differs, strict=True) if yes]
        selection = cfg.TRAINER[cls.section].PROMPT_SELECTION
        said += [] if selection == "all" else [f"PROMPT_SELECTION {selection} (published: all)"]
        stages = "; ".join(stage.told() for stage in cls.stages_of(cfg))
        return said + ([f"STAGES {stages} (published: one joint stage)"] if stages else [])

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        visual = cfg.TRAINER[self.section].VISUAL
        for key, choices in (("PLACEMENT", PLACEMENTS), ("DEPTH", DEPTHS)):
            if visual[key] not in choices:
                raise UserError(f'TRAINER.BIOMEDDPT.VISUAL.{key} is "{visual[key]}", must be {" or ".join(choices)}')
        self._check_selection(cfg.TRAINER[self.section])
        self.stages = self.stages_of(cfg)

    def _check_selection(self, own: CfgNode) -> None:
        how, published = own.PROMPT_SELECTION, self.defaults()
        check_choice("PROMPT_SELECTION", how, SELECTIONS)
        for key, reader in (("PROMPT_TOPK", "topk"), ("PROMPT_PULL", "learned")):
            if how != reader and own[key] != published[key]:
                raise UserError(f"{key} is read only with PROMPT_SELECTION {reader}, but it is {how} here")
        if how == "topk" and not 1 <= own.PROMPT_TOPK <= own.N_PROMPTS:
            raise UserError(f"PROMPT_TOPK is {own.PROMPT_TOPK}, must be 1 to N_PROMPTS ({own.N_PROMPTS})")
        if own.PROMPT_PULL < 0:
            raise UserError(f"PROMPT_PULL is {own.PROMPT_PULL}, must be 0 or more")

    def template(self) -> str:
        return self.facts.template

    def build_teacher(self, classnames: Sequence[str]) -> None:
        self.prompts = self.load_prompts(classnames)
        self.encoded_prompts = self.encode_prompts(self.prompts.texts, classnames)  # (C, K, D)
        self.fixed_features = prompt_ensemble(self.encoded_prompts)  # F (C, D)
        self.selection: Selection | None = None

    def visual_prompt(self) -> VisualPrompt | None:
        visual, width = self.own.VISUAL, self.backbone.visual_width
        count = visual.N_TOKENS if self.backbone.supports_visual_prompts else 0
        return zero_vectors(count, width, visual.PLACEMENT, deep=visual.DEPTH == "deep")

    def optimizer_and_schedule(self, learner: nn.Module) -> tuple[Any, Any]:
        if not self.stages:
            return super().optimizer_and_schedule(learner)
        optim = build_optimizer(learner, self.cfg.OPTIM)
        return optim, StagedSchedule(optim, self.cfg.OPTIM, self.stages)

    def begin_steps(self) -> None:
        """Before an epoch's first step: where a stage begins, or a resumed run goes on in one, the log says so."""
        super().begin_steps()
        at = stage_at(self.stages, self.epoch)
        if at is None:
            return
        self.write_scalar("train/stage", at + 1, self.epoch * self.num_batches)
        if self.epoch in (self.stages[at].first, self.start_epoch):
            stage, begins = self.stages[at], self.epoch == self.stages[at].first
            words = "begins" if begins else "goes on"
            log.info("stage [%d/%d] %s with epoch %d; %s", at + 1, len(self.stages), words, self.epoch + 1, stage.told())

    def before_train(self) -> None:
        if self.stages:
            log.info("training in %d stages: %s", len(self.stages), "; ".join(stage.told() for stage in self.stages))
        self.select_prompts()
        super().before_train()

    def select_prompts(self) -> None:
        """Make F of the prompts that PROMPT_SELECTION chooses on the training images (test transform, frozen features)."""
        own = self.own
        if own.PROMPT_SELECTION == "all":
            return
        training = self.store.images("train")
        given = cosines(training.features, training.labels, self.encoded_prompts, float(self.logit_scale))
        self.selection = select(own.PROMPT_SELECTION, given, top=own.PROMPT_TOPK, pull=own.PROMPT_PULL)
        self.fixed_features = weighted_ensemble(self.encoded_prompts, self.selection.weights)
        used = (self.selection.weights > 0).sum(dim=1)
        log.info(
            "prompt selection %s: %d to %d of %d prompts per class, training cross-entropy %.4f -> %.4f",
            *(self.selection.how, used.min(), used.max(), own.N_PROMPTS, *self.selection.train_ce),
        )

    def loss_weights(self) -> tuple[float, float, float]:
        """Those of cross-entropy, L1 and KL in this epoch."""
        at = stage_at(self.stages, self.epoch) if self.stages else None
        if at is None:
            return 1.0, self.own.L1_LAMBDA, self.own.KL_LAMBDA
        stage = self.stages[at]
        return stage.ce, stage.l1, stage.kl

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        v = self.image_features(images)  # (B, D)
        t = unit(self.encode_classes())  # (C, D)
        logits = self.logit_scale * v @ t.T
        z = self.logit_scale * v @ self.fixed_features.T
        ce, l1, kl = self.loss_weights()
        return {
            "ce": ce * F.cross_entropy(logits, labels),
            "l1": l1 * F.l1_loss(t, self.fixed_features),
            "kl": kl * distillation(z, logits),
        }, logits


def distillation(z: Tensor, logits: Tensor) -> Tensor:
    """``Σ_{b,c} p_z (log p_z - log p_logits) / (B C)``: the KL sum over all B C entries (section 4)."""
    log_z, log_p = F.log_softmax(z.float(), dim=1), F.log_softmax(logits.float(), dim=1)
    return F.kl_div(log_p, log_z, reduction="sum", log_target=True) / logits.numel()
