"""CoOp: learned context for the class prompts (Zhou et al., IJCV 2022)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from backbones import TokenBatch
from dassl.engine import TRAINER_REGISTRY
from trainers.base import VLTrainer, unit
from trainers.prompt_learner import PromptLearner, fill

log = logging.getLogger(__name__)


@TRAINER_REGISTRY.register()
class CoOp(VLTrainer):
    """Cross-entropy on ``s * v t^T``; ``ctx`` is learned (section 3.1 of the paper)."""

    section = "COOP"
    told_apart: tuple[tuple[str, str], ...] = (("NAME_LEN", "name"), ("TEXT_DROPOUT", "drop"))  # keys, and their short names
    encoded_classes: Tensor | None = None  # (C, D) of class_prompts(), during a step for which runs.seed_batch encodes them

    @classmethod
    def defaults(cls) -> CfgNode:
        return CfgNode(
            {
                "N_CTX": 16,  # M
                "CSC": False,  # one context per class
                "CTX_INIT": "",  # words to start from
                "PREC": "fp32",  # fp32, amp, bf16
                "CLASS_TOKEN_POSITION": "end",  # end, middle, front
                "NAME_LEN": "published",  # or "exact"
                "TEXT_DROPOUT": False,  # the released code registers only the learner: dropout stays off
            }
        )

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        own, published = cfg.TRAINER[cls.section], cls.defaults()
        name = f"nctx{own.N_CTX}_csc{own.CSC}_ctp{own.CLASS_TOKEN_POSITION}"
        return name + "".join(f"_{short}{own[key]}" for key, short in cls.told_apart if own[key] != published[key])

    @classmethod
    def departures(cls, cfg: CfgNode) -> list[str]:
        own, said = cfg.TRAINER[cls.section], super().departures(cfg)
        if own.get("CSC", False) and own.CTX_INIT:
            said.append("CSC True with CTX_INIT: a context per class from the same words (published: CSC is ignored there)")
        return said

    @property
    def n_ctx(self) -> int:
        """M."""
        return self.own.N_CTX

    def words(self) -> str:
        """What the context starts from: CTX_INIT, or nothing for a start at random.

        MaPLe and PromptSRC start a context of more than CTX_INIT_MAX tokens at random, as released.
        """
        longest = self.own.get("CTX_INIT_MAX", self.n_ctx)
        return self.own.CTX_INIT if self.n_ctx <= longest else ""

    def template(self) -> str:
        """The words in front of the class name, or placeholders for a context drawn at random."""
        if self.own.CTX_INIT and not self.words():
            log.warning(
                "%d context tokens are more than CTX_INIT_MAX %d: they start at random, not from CTX_INIT (as released)",
                *(self.n_ctx, self.own.CTX_INIT_MAX),
            )
        return (self.words() or " ".join(["X"] * self.n_ctx)) + " {}."

    def build_learner(self, classnames: Sequence[str]) -> PromptLearner:
        own = self.own
        prompts = fill(self.template(), classnames)
        return PromptLearner(
            self.backbone,
            prompts,
            classnames,
            n_ctx=self.n_ctx,
            ctx_init=self.words(),
            csc=own.CSC,
            position=own.CLASS_TOKEN_POSITION,
            name_len=own.NAME_LEN,
        )

    def class_prompts(self) -> tuple[Tensor, TokenBatch]:
        """(C, L, W) embeddings of the class prompts with the learned context, and their tokens."""
        learner = self.prompt_learner
        return learner(), learner.token_batch()

    def encode_classes(self) -> Tensor:
        if self.encoded_classes is not None:
            return self.encoded_classes
        return self.backbone.encode_embeddings(*self.class_prompts())

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.logit_scale * self.image_features(images) @ unit(self.encode_classes()).T
        return {"ce": F.cross_entropy(logits, labels)}, logits
