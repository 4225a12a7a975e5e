"""BiomedAP: zero vectors among the patches, filled from the text context by attention, and two text anchors (CVPRW 2026)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from backbones import VisualPrompt
from backbones.visual_prompts import PLACEMENTS
from dassl.engine import TRAINER_REGISTRY
from trainers.base import unit
from trainers.biomed_dpt import distillation, prompt_ensemble
from trainers.coop import CoOp
from trainers.prompt_learner import PromptLearner, check_choice, fill
from trainers.visual_prompt_learner import VisualPromptTrainer, check_layers, layers_at_same_share

log = logging.getLogger(__name__)

HEADS, DROPOUT, WIDER = 8, 0.1, 4  # of the fusion, as released: heads, dropout, how much wider its networks are within
PUBLISHED_BLOCKS = 12  # of BiomedCLIP's image tower, before some of which FUSION_LAYERS fuse
# what the low anchors say of a class; "empty" says the same of all classes, as released
LOW_TEMPLATES = {
    "minimal": "{}",
    "article": "a {}",
    "generic": "a photo of {}",
    "medical_minimal": "a medical image of {}",
    "empty": "X",
}


class FusionSide(nn.Module):
    """What the tokens of one modality become by attending to the other's.

    Args:
        width: W of this side's tokens.
        common: the width in which the sides meet.
        heads: of the attention; a divisor of ``common``.
    """

    def __init__(self, width: int, common: int, heads: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, common) if width != common else nn.Identity()
        self.leave = nn.Linear(common, width) if width != common else nn.Identity()
        self.attention = nn.MultiheadAttention(common, heads, dropout=DROPOUT, batch_first=True)
        self.gate = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.network = nn.Sequential(
            nn.Linear(width, WIDER * width),
            nn.GELU(),
            nn.Dropout(DROPOUT),
            nn.Linear(WIDER * width, width),
            nn.Dropout(DROPOUT),
        )

    def forward(self, own: Tensor, query: Tensor, other: Tensor) -> Tensor:
        """(B, N, W) tokens, the same in the common width, and the other side's (B, K, common) -> (B, N, W)."""
        seen, _ = self.attention(query, other, other, need_weights=False)
        gate = self.gate(own).sigmoid()
        mixed = self.norm(own + gate * own + (1 - gate) * self.leave(seen))
        return mixed + self.network(mixed)


class GatedFusion(nn.Module):
    """Visual and text tokens, each changed by what it sees in the other."""

    def __init__(self, visual_width: int, text_width: int, heads: int) -> None:
        super().__init__()
        common = max(visual_width, text_width)
        self.visual, self.text = (FusionSide(width, common, heads) for width in (visual_width, text_width))

    def forward(self, visual: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P, W_visual) and (B, M, W_text), both changed."""
        v, t = self.visual.enter(visual), self.text.enter(text)
        return self.visual(visual, v, t), self.text(text, t, v)


@TRAINER_REGISTRY.register()
class BiomedAP(VisualPromptTrainer, CoOp):
    """``L = CE(s v t^T, y) + λ1 mean|t - F| + λ2 KL(softmax(s v F^T) || softmax(s v t^T)) / (B C) + λ3 mean|t - G| + λ4 A``.

    t, F as in Biomed-DPT; G (C, D): frozen features of sentences that say little, by default the class name alone. v: image
    features with P zero vectors written over the first patches before every block, as in Biomed-DPT, but before the blocks
    FUSION_LAYERS a gated cross-attention makes them of the words r (M, W) at the context's places in a class's prompt:
    in training those of the image's own class, at test their mean over the classes. It changes r as well, which nothing but A
    reads: the mean of 1 - cos(changed r, r), each the mean of its M vectors.

    What is learned on the image side are the fusions; the zero vectors stay zero, as released.
    """

    section = "BIOMEDAP"
    counts = ("N_TOKENS", "N_PROMPTS")
    choices = {}
    told_apart = (
        *CoOp.told_apart,
        ("N_PROMPTS", "K"),
        ("N_TOKENS", "vis"),
        ("PLACEMENT", ""),
        ("LOW_TEMPLATE_TYPE", "low"),
    )
    released = {"N_TOKENS": 4, "PLACEMENT": "replace", "LOW_TEMPLATE_TYPE": "minimal", "FUSION_LAYERS": [5, 8]}

    @classmethod
    def defaults(cls) -> CfgNode:
        own = CoOp.defaults()
        own.N_CTX, own.CTX_INIT, own.CLASS_TOKEN_POSITION = 4, "a photo of a", "middle"
        own.TEXT_DROPOUT = True  # the released code registers the whole model: its dropout is on in training
        own.update(
            {
                "L1_LAMBDA_HIGH": 12.5,  # λ1
                "KL_LAMBDA": 0.25,  # λ2
                "L1_LAMBDA_LOW": 0.3,  # λ3
                "ALIGNMENT_LAMBDA": 0.1,  # λ4
                "N_PROMPTS": 50,  # K of F
                "LOW_TEMPLATE_TYPE": "minimal",  # of G: minimal, article, generic, medical_minimal, empty
                "N_TOKENS": 4,  # P
                "PLACEMENT": "replace",  # over the first patches, or "insert" behind the class token
                "FUSION_LAYERS": [5, 8],  # blocks from 0 before which the words come in; none: zero vectors everywhere
            }
        )
        return own

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        layers = list(cfg.TRAINER[cls.section].FUSION_LAYERS)
        same = layers == cls.defaults().FUSION_LAYERS
        return super().variant(cfg) + ("" if same else f"_layers{'-'.join(map(str, layers)) or 'none'}")

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        own, where = cfg.TRAINER[self.section], f"TRAINER.{self.section}"
        check_choice(f"{where}.PLACEMENT", own.PLACEMENT, PLACEMENTS)
        check_choice(f"{where}.LOW_TEMPLATE_TYPE", own.LOW_TEMPLATE_TYPE, tuple(LOW_TEMPLATES))
        check_layers(f"{where}.FUSION_LAYERS", own.FUSION_LAYERS)

    def template(self) -> str:
        return self.facts.template

    def build_teacher(self, classnames: Sequence[str]) -> None:
        """F and G (C, D): normalised anchors of the classes."""
        self.prompts = self.load_prompts(classnames)
        self.high_anchors = prompt_ensemble(self.encode_prompts(self.prompts.texts, classnames))
        with torch.no_grad():
            low = fill(LOW_TEMPLATES[self.own.LOW_TEMPLATE_TYPE], classnames)
            self.low_anchors = unit(self.backbone.encode_text(low))

    def build_learner(self, classnames: Sequence[str]) -> PromptLearner:
        """``ctx``, and ``fusion``: a :class:`GatedFusion` for each of the blocks, by its number."""
        learner = super().build_learner(classnames)
        widths = self.backbone.visual_width, self.backbone.text_width
        layers = layers_at_same_share(self, "FUSION_LAYERS", PUBLISHED_BLOCKS, len(self.backbone.visual_layers))
        heads = math.gcd(HEADS, max(widths))
        if layers and heads != HEADS:
            self.forced.append(f"the fusions have {heads} heads, not {HEADS}: {self.backbone.name} is {max(widths)} wide")
            log.info(self.forced[-1])
        learner.add_module("fusion", nn.ModuleDict({str(layer): GatedFusion(*widths, heads) for layer in layers}))
        return learner

    # -- images -------------------------------------------------------------------------------------------

    def words_of_classes(self) -> Tensor:
        """r (C, M, W_text): with the class name at the end they are ``ctx``, else part of a name is among them."""
        return self.prompt_learner()[:, 1 : 1 + self.n_ctx]

    def fused(self, words: Tensor) -> tuple[VisualPrompt, list[Tensor]]:
        """Words (B, M, W_text) of B images -> the images' visual prompts, and the words as each fusion changed them."""
        depth, shape = len(self.backbone.visual_layers), (len(words), self.own.N_TOKENS, self.backbone.visual_width)
        zero = words.new_zeros(shape)
        tokens, heard = [zero] * depth, []
        for layer, fusion in self.prompt_learner.fusion.items():
            tokens[int(layer)], changed = fusion(zero, words)
            heard.append(changed)
        return VisualPrompt(torch.stack([one.float() for one in tokens]), self.own.PLACEMENT), heard

    def visual_prompt(self) -> VisualPrompt:
        """That of any image at test: of the mean words of all classes."""
        prompt, _ = self.fused(self.words_of_classes().mean(dim=0, keepdim=True))
        return VisualPrompt(prompt.tokens[:, 0], prompt.placement)

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        own, words = self.own, self.words_of_classes()[labels]
        prompt, heard = self.fused(words)
        v = unit(self.backbone.encode_image(images, prompt))  # (B, D)
        t = unit(self.encode_classes())  # (C, D)
        logits = self.logit_scale * v @ t.T
        z = self.logit_scale * v @ self.high_anchors.T
        terms = {
            "ce": F.cross_entropy(logits, labels),
            "l1_high": own.L1_LAMBDA_HIGH * F.l1_loss(t, self.high_anchors),
            "kl": own.KL_LAMBDA * distillation(z, logits),
            "l1_low": own.L1_LAMBDA_LOW * F.l1_loss(t, self.low_anchors),
        }
        if heard:
            terms["align"] = own.ALIGNMENT_LAMBDA * turned_away(heard, words)
        return terms, logits


def turned_away(changed: Sequence[Tensor], words: Tensor) -> Tensor:
    """Mean of 1 - cos between the mean vectors of each of ``changed`` and of ``words``, all (B, M, W)."""
    before = words.mean(dim=1)
    return torch.stack([1 - F.cosine_similarity(one.mean(dim=1), before, dim=-1).mean() for one in changed]).mean()
