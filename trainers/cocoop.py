"""CoCoOp: context shifted by each image (Zhou et al., CVPR 2022)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from backbones import VisionLanguageBackbone
from dassl.engine import TRAINER_REGISTRY
from trainers.base import unit
from trainers.coop import CoOp
from trainers.prompt_learner import PromptLearner, fill


class ConditionalPromptLearner(PromptLearner):
    """``ctx + meta_net(v)``: the meta-net maps D -> D/16 -> W (section 3.2 of the paper)."""

    def __init__(self, backbone: VisionLanguageBackbone, *args: object, **kwargs: object) -> None:
        super().__init__(backbone, *args, **kwargs)
        hidden = max(1, backbone.embed_dim // 16)
        self.meta_net = nn.Sequential(
            OrderedDict(
                linear1=nn.Linear(backbone.embed_dim, hidden),
                relu=nn.ReLU(inplace=True),
                linear2=nn.Linear(hidden, backbone.text_width),
            )
        )

    def conditional(self, features: Tensor) -> Tensor:
        """(B, D) normalised image features -> (B, C, L, W) one set of prompts per image."""
        shift = self.meta_net(features)  # (B, W)
        return torch.stack([self(self.ctx + one) for one in shift])


@TRAINER_REGISTRY.register()
class CoCoOp(CoOp):
    """Cross-entropy on ``s * v t(v)^T``; the text passes of all images of a batch go through the tower as one."""

    section = "COCOOP"
    text_sees_image = True

    @classmethod
    def defaults(cls) -> CfgNode:
        return CfgNode(
            {
                "N_CTX": 16,  # M
                "CTX_INIT": "",  # words to start from
                "PREC": "fp32",  # fp32, amp, bf16
                "TEXT_DROPOUT": False,  # the released code registers only the learner: dropout stays off
                "TEST_CHUNK": 16,  # images whose prompts pass the text tower together at test time
            }
        )

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        own = cfg.TRAINER[cls.section]
        return f"nctx{own.N_CTX}_ctpend"

    def build_learner(self, classnames: Sequence[str]) -> ConditionalPromptLearner:
        prompts = fill(self.template(), classnames)
        return ConditionalPromptLearner(
            self.backbone, prompts, classnames, n_ctx=self.own.N_CTX, ctx_init=self.own.CTX_INIT
        ).to(self.device)

    def scores(self, features: Tensor) -> Tensor:
        """(B, D) normalised image features -> (B, C) logits."""
        learner = self.prompt_learner
        prompts = learner.conditional(features)  # (B, C, L, W)
        tokens = learner.token_batch().repeat(len(features))
        text = unit(self.backbone.encode_embeddings(prompts.flatten(0, 1), tokens)).view(*prompts.shape[:2], -1)
        return self.logit_scale * torch.einsum("bd,bcd->bc", features, text)

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.scores(self.image_features(images))
        return {"ce": F.cross_entropy(logits, labels)}, logits

    @torch.no_grad()
    def model_inference(self, images: Tensor) -> Tensor:
        with self.precision():
            features = self.image_features(images)
            return torch.cat([self.scores(part) for part in features.split(self.own.TEST_CHUNK)])
