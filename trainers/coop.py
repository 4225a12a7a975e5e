"""CoOp: learned context for the class prompts (Zhou et al., IJCV 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from backbones import TokenBatch
from dassl.engine import TRAINER_REGISTRY
from trainers.base import VLTrainer, unit
from trainers.prompt_learner import PromptLearner, fill


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

    def template(self) -> str:
        """CTX_INIT in front of the class name, or placeholders for a context drawn at random."""
        return (self.own.CTX_INIT or " ".join(["X"] * self.own.N_CTX)) + " {}."

    def build_learner(self, classnames: Sequence[str]) -> PromptLearner:
        own = self.own
        prompts = fill(self.template(), classnames)
        return PromptLearner(
            self.backbone,
            prompts,
            classnames,
            n_ctx=own.N_CTX,
            ctx_init=own.CTX_INIT,
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
