"""MaPLe: deep prompts of both towers, the visual ones projected from the textual ones (Khattak et al., CVPR 2023)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from backbones import VisionLanguageBackbone, VisualPrompt
from backbones.visual_prompts import PLACEMENTS
from dassl.engine import TRAINER_REGISTRY
from trainers.coop import CoOp
from trainers.prompt_learner import INIT_STD, PromptLearner, check_choice, fill
from trainers.visual_prompt_learner import VisualPromptTrainer

PROJ_INITS = ("independent", "copies")


class MultimodalPromptLearner(PromptLearner):
    """Text prompts P_0 .. P_{J-1} (M, W_text) and their couplings F_k: W_text -> W_visual (section 3.2.3).

    ``ctx`` is P_0, coupled by ``proj``; ``compound_prompts_text[k-1]`` is P_k, coupled by
    ``compound_prompt_projections[k-1]``. The names are those of the published checkpoints.

    Args:
        depth: J.
        copies: F_1, F_2, … start as copies of one drawn layer (the released code); else each is drawn.
        backbone, and the other arguments: as :class:`PromptLearner` takes them.
    """

    def __init__(
        self, backbone: VisionLanguageBackbone, *args: object, depth: int, copies: bool = False, **kwargs: object
    ) -> None:
        super().__init__(backbone, *args, **kwargs)
        widths = backbone.text_width, backbone.visual_width
        drawn = [nn.init.normal_(torch.empty(self.n_ctx, widths[0]), std=INIT_STD) for _ in range(depth - 1)]
        self.compound_prompts_text = nn.ParameterList([nn.Parameter(one) for one in drawn])
        self.proj = nn.Linear(*widths)
        deeper = [nn.Linear(*widths) for _ in range(depth - 1)]
        self.compound_prompt_projections = nn.ModuleList([copy.deepcopy(deeper[0]) for _ in deeper] if copies else deeper)

    def deep_text(self) -> Tensor | None:
        """(J - 1, M, W_text) prompts of the text layers behind the first; ``None`` when J is 1."""
        return torch.stack(list(self.compound_prompts_text)) if len(self.compound_prompts_text) else None

    def visual_tokens(self) -> Tensor:
        """(J, M, W_visual): ``F_k(P_k)``."""
        deeper = zip(self.compound_prompt_projections, self.compound_prompts_text, strict=True)
        return torch.stack([self.proj(self.ctx), *(project(prompt) for project, prompt in deeper)])


@TRAINER_REGISTRY.register()
class MaPLe(VisualPromptTrainer, CoOp):
    """Cross-entropy on ``s * v(F(P)) t(P)^T``: prompts P of the first J text layers and couplings F are learned.

    Layers behind J read what their predecessor made of the prompts (sections 3.2.1 and 3.2.2 of the paper). The released
    Biomed-DPT file of this name makes deep prompts but never uses them, and writes F_0(P_0) over the first patches:
    PROMPT_DEPTH 1 with PLACEMENT replace. Where a token stands among the patches does not matter to a ViT. MaPLe's own code
    starts all couplings behind the first as copies of one layer (PROJ_INIT copies), of which the paper does not speak.
    """

    section = "MAPLE"
    counts = ("PROMPT_DEPTH",)
    choices = {"PLACEMENT": PLACEMENTS}
    released = {"PROJ_INIT": "copies", "CTX_INIT_MAX": 4}

    @classmethod
    def defaults(cls) -> CfgNode:
        return CfgNode(
            {
                "N_CTX": 4,  # M, on both sides
                "CTX_INIT": "a photo of a",  # words to start from
                "CTX_INIT_MAX": 4,  # the largest M that starts from them; a longer context starts at random
                "PREC": "fp32",  # fp32, amp, bf16
                "PROMPT_DEPTH": 9,  # J, on both sides
                "PLACEMENT": "insert",  # of the visual prompts: behind the class token, or "replace" the first patches
                "PROJ_INIT": "independent",  # start of the couplings behind the first: each drawn, or "copies" of one
                "TEXT_DROPOUT": True,  # the released code registers the whole model: its dropout is on in training
            }
        )

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        own = cfg.TRAINER[cls.section]
        name = f"nctx{own.N_CTX}_depth{own.PROMPT_DEPTH}_{own.PLACEMENT}"
        told_apart = (("TEXT_DROPOUT", "drop"), ("PROJ_INIT", "proj"), ("CTX_INIT_MAX", "initmax"))
        return name + "".join(f"_{short}{own[key]}" for key, short in told_apart if own[key] != cls.defaults()[key])

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        check_choice("TRAINER.MAPLE.PROJ_INIT", cfg.TRAINER.MAPLE.PROJ_INIT, PROJ_INITS)

    def build_learner(self, classnames: Sequence[str]) -> MultimodalPromptLearner:
        available = min(len(self.backbone.text_layers), len(self.backbone.visual_layers))
        return MultimodalPromptLearner(
            self.backbone,
            fill(self.template(), classnames),
            classnames,
            n_ctx=self.own.N_CTX,
            ctx_init=self.words(),
            depth=self.within("PROMPT_DEPTH", available),
            copies=self.own.PROJ_INIT == "copies",
        )

    def visual_prompt(self) -> VisualPrompt:
        return VisualPrompt(self.prompt_learner.visual_tokens(), self.own.PLACEMENT)

    def encode_classes(self) -> Tensor:
        learner = self.prompt_learner
        return self.backbone.encode_embeddings(learner(), learner.token_batch(), learner.deep_text())
