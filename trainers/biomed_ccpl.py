"""BiomedCCPL: class prompts guided by an image's patches, beside a pathway that must not tell classes apart (CVPR 2026)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from backbones import VisionLanguageBackbone
from backbones.between_layers import image_patches, pooled_token_changed
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError
from trainers.base import unit
from trainers.biomed_dpt import prompt_ensemble
from trainers.coop import CoOp
from trainers.prompt_learner import PromptLearner, check_choice, fill
from trainers.visual_prompt_learner import check_layers, layers_at_same_share, require_patch_tokens

NOISE = 0.01  # how far the second context starts from the first
HIDDEN, HEAD = 256, 64  # widths of the prototype networks and of an attention head, as released
PUBLISHED_LAYERS = 12  # of BiomedCLIP's towers, of which CROSS_LAYERS speak
CHOICES = {
    "KL": ("uniform", "prediction"),
    "ORTHO": ("all", "diagonal"),
    "SAR": ("mse", "cosine"),
    "ANCHOR": ("prompt", "ensemble"),
}


class GroundedPromptLearner(PromptLearner):
    """Both contexts, and for each of K depths a prototype network and one cross-attention per pathway.

    ``ctx`` (M, W) is the classifier's, ``ctx_nc`` (M, W) that of the second pathway, which only training reads. The K
    networks of a kind start as copies of one that was drawn, as released.

    Args:
        depths: K.
        count: R, prototypes per depth.
        backbone, and the other arguments: as :class:`PromptLearner` takes them.
    """

    def __init__(self, backbone: VisionLanguageBackbone, *args: object, depths: int, count: int, **kwargs: object) -> None:
        super().__init__(backbone, *args, **kwargs)
        text, visual = backbone.text_width, backbone.visual_width
        self.ctx_nc = nn.Parameter((self.ctx + NOISE * torch.randn(self.ctx.shape).to(self.ctx)).detach())
        network = nn.Sequential(
            nn.Linear(visual, HIDDEN, bias=False), nn.LayerNorm(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, count, bias=False)
        )
        heads = text // HEAD if text % HEAD == 0 else 1
        drawn = nn.MultiheadAttention(text, heads, kdim=visual, vdim=visual, batch_first=True)
        self.prototypes, self.attention, self.attention_nc = (
            nn.ModuleList([copy.deepcopy(one) for _ in range(depths)]) for one in (network, drawn, drawn)
        )

    def gather(self, patches: Sequence[Tensor]) -> list[Tensor]:
        """Patches (B, N, W_visual) of each depth -> R prototypes (B, R, W_visual), weighted means of them."""
        weights = [network(one).softmax(dim=1) for network, one in zip(self.prototypes, patches, strict=True)]
        return [weight.transpose(1, 2) @ one for weight, one in zip(weights, patches, strict=True)]


@TRAINER_REGISTRY.register()
class BiomedCCPL(CoOp):
    """``L = CE(s v·t_c(x), y) + λ1 KL(U || softmax_c(s v·u_c(x))) + λ2 mean (t_c·u_d)² + mean (t - A)²``.

    t_c(x), u_c(x): class features under the contexts ``ctx`` and ``ctx_nc``, guided by the image x (VGAP): behind the
    text layers CROSS_LAYERS the class token h becomes α h + (1 - α) MHA(h, P, P), P: prototypes of x's patches behind
    the block of the same number. The second pathway (SCD) shall say nothing of the class (U: uniform) and share no
    direction with the first; prediction is by the first alone. A: anchors of the class names (SAR).

    The paper's forms, where the released code has others (docs/FIDELITY.md): KL prediction, ORTHO diagonal, SAR cosine,
    ANCHOR ensemble. Where a text tower pools its last token (CLIP), that one is guided.
    """

    section = "BIOMEDCCPL"
    frozen_images = False  # patches are read, which the feature store does not hold
    needs_patch_tokens = True
    text_sees_image = True
    released = {"KL": "uniform", "ORTHO": "all", "SAR": "mse", "ANCHOR": "prompt", "CROSS_LAYERS": [3, 7, 11]}

    @classmethod
    def defaults(cls) -> CfgNode:
        return CfgNode(
            {
                "N_CTX": 4,  # M
                "CTX_INIT": "a photo of a",  # words to start from
                "PREC": "fp32",  # fp32, amp, bf16
                "ALPHA": 0.3,  # how much of the class token stays: 1 leaves the images out
                "N_PROTOTYPES": 14,  # R
                "CROSS_LAYERS": [3, 7, 11],  # layers from 0 behind which images guide
                "NEM_LAMBDA": 10.0,  # λ1
                "ORTHO_LAMBDA": 0.25,  # λ2
                "KL": "uniform",  # KL(U || Q) as released, or "prediction": KL(Q || U)
                "ORTHO": "all",  # every class of one pathway against every of the other, or "diagonal": each against itself
                "SAR": "mse",  # or "cosine": mean of 1 - cos
                "ANCHOR": "prompt",  # A: the prompts that the context starts from, or "ensemble" of the LLM prompts
                "N_PROMPTS": 50,  # K of the ensemble
                "TEXT_DROPOUT": True,  # the released code registers the whole model: its dropout is on in training
                "TEST_CHUNK": 16,  # images whose prompts pass the text tower together at test time
            }
        )

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        own, published = cfg.TRAINER[cls.section], cls.defaults()
        name = f"nctx{own.N_CTX}_alpha{own.ALPHA:g}_nem{own.NEM_LAMBDA:g}_ortho{own.ORTHO_LAMBDA:g}"
        for key, short in (("N_PROTOTYPES", "proto"), *((key, key.lower()) for key in CHOICES), ("TEXT_DROPOUT", "drop")):
            name += f"_{short}{own[key]}" if own[key] != published[key] else ""
        layers = "-".join(map(str, own.CROSS_LAYERS))
        return name if list(own.CROSS_LAYERS) == published.CROSS_LAYERS else f"{name}_layers{layers}"

    @classmethod
    def departures(cls, cfg: CfgNode) -> list[str]:
        said = super().departures(cfg)
        if cfg.DATASET.NUM_SHOTS != 16:
            said.append(f"ALPHA and both lambdas as for 16 shots, here {cfg.DATASET.NUM_SHOTS} (released: others per shot)")
        return said

    @classmethod
    def uses_prompts(cls, cfg: CfgNode) -> bool:
        return cfg.TRAINER[cls.section].ANCHOR == "ensemble"

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        own, where = cfg.TRAINER[self.section], f"TRAINER.{self.section}"
        for key, valid in CHOICES.items():
            check_choice(f"{where}.{key}", own[key], valid)
        for key in ("N_PROTOTYPES", "TEST_CHUNK"):
            if own[key] < 1:
                raise UserError(f"{where}.{key} is {own[key]}, must be at least 1")
        if not 0 <= own.ALPHA <= 1:
            raise UserError(f"{where}.ALPHA is {own.ALPHA}, must be 0 to 1 (1 leaves the images out)")
        if not own.CROSS_LAYERS:
            raise UserError(f"{where}.CROSS_LAYERS is [], must name at least one layer")
        check_layers(f"{where}.CROSS_LAYERS", own.CROSS_LAYERS)

    # -- building -----------------------------------------------------------------------------------------

    def build_model(self) -> None:
        require_patch_tokens(self, "reads image patches")
        self.forced: list[str] = []  # what the backbone forced on the method, for the results file
        super().build_model()

    def cross_layers(self) -> list[int]:
        """CROSS_LAYERS, or those at the same share of the depth where the towers have fewer: then it is said."""
        depth = min(len(self.backbone.text_layers), len(self.backbone.visual_layers))
        return layers_at_same_share(self, "CROSS_LAYERS", PUBLISHED_LAYERS, depth)

    def build_teacher(self, classnames: Sequence[str]) -> None:
        """A (C, D): normalised anchors of the classes."""
        if self.own.ANCHOR == "ensemble":
            self.prompts = self.load_prompts(classnames)
            self.fixed_features = prompt_ensemble(self.encode_prompts(self.prompts.texts, classnames))
            return
        with torch.no_grad():
            self.fixed_features = unit(self.backbone.encode_text(fill(self.template(), classnames)))

    def build_learner(self, classnames: Sequence[str]) -> GroundedPromptLearner:
        self.layers = self.cross_layers()
        return GroundedPromptLearner(
            self.backbone,
            fill(self.template(), classnames),
            classnames,
            n_ctx=self.n_ctx,
            ctx_init=self.words(),
            depths=len(self.layers),
            count=self.own.N_PROTOTYPES,
        )

    # -- images and texts ---------------------------------------------------------------------------------

    @torch.no_grad()
    def look(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, 3, H, W) -> normalised features (B, D), and the patches (B, N, W_visual) behind each of CROSS_LAYERS."""
        features, patches = image_patches(self.backbone, images, self.layers)
        return unit(features.float()), patches

    def guided(self, ctx: Tensor, attention: nn.ModuleList, prototypes: Sequence[Tensor]) -> Tensor:
        """(B, C, D) normalised class features under ``ctx``, guided by each image's prototypes (B, R, W_visual)."""
        count, learner = len(prototypes[0]), self.prompt_learner
        tokens = learner.token_batch().repeat(count)
        changes: dict[int, Callable[[Tensor], Tensor]] = {
            layer: partial(mixed, attention=one, prototypes=seen, alpha=self.own.ALPHA)
            for layer, one, seen in zip(self.layers, attention, prototypes, strict=True)
        }
        with pooled_token_changed(self.backbone, tokens, changes):
            encoded = self.backbone.encode_embeddings(learner(ctx).repeat(count, 1, 1), tokens)
        return unit(encoded).view(count, -1, encoded.shape[1])

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        own, learner = self.own, self.prompt_learner
        v, patches = self.look(images)
        prototypes = learner.gather(patches)
        t = self.guided(learner.ctx, learner.attention, prototypes)  # (B, C, D)
        u = self.guided(learner.ctx_nc, learner.attention_nc, prototypes)
        logits, other = (self.logit_scale * torch.einsum("bd,bcd->bc", v, one) for one in (t, u))
        return {
            "ce": F.cross_entropy(logits, labels),
            "nem": own.NEM_LAMBDA * from_uniform(other, own.KL),
            "ortho": own.ORTHO_LAMBDA * shared_direction(t, u, own.ORTHO),
            "sar": from_anchors(t, self.fixed_features, own.SAR),
        }, logits

    @torch.no_grad()
    def model_inference(self, images: Tensor) -> Tensor:
        learner = self.prompt_learner
        self.backbone.announce_step()
        found = []
        with self.precision():
            for part in images.split(self.own.TEST_CHUNK):
                v, patches = self.look(part)
                t = self.guided(learner.ctx, learner.attention, learner.gather(patches))
                found.append(self.logit_scale * torch.einsum("bd,bcd->bc", v, t))
        return torch.cat(found)


def mixed(pooled: Tensor, *, attention: nn.MultiheadAttention, prototypes: Tensor, alpha: float) -> Tensor:
    """α h + (1 - α) MHA(h, P, P): tokens h (B C, W) of all classes for image after image, P (B, R, W_visual)."""
    query = pooled.view(len(prototypes), -1, pooled.shape[-1])
    seen, _ = attention(query, prototypes, prototypes, need_weights=False)
    return (alpha * query + (1 - alpha) * seen).reshape(pooled.shape)


def from_uniform(logits: Tensor, how: str) -> Tensor:
    """Mean over images of KL(U || Q), Q = softmax(logits (B, C)), or of KL(Q || U) with ``how`` "prediction"."""
    log_q = F.log_softmax(logits.float(), dim=1)
    classes = logits.shape[1]
    if how == "uniform":
        return -math.log(classes) - log_q.mean()
    return (log_q.exp() * (log_q + math.log(classes))).sum(dim=1).mean()


def shared_direction(t: Tensor, u: Tensor, how: str) -> Tensor:
    """Mean cos² of unit features t and u (B, C, D): of all C² pairs of an image, or of each class with itself."""
    pairs = "bcd,bed->bce" if how == "all" else "bcd,bcd->bc"
    return torch.einsum(pairs, t, u).square().mean()


def from_anchors(t: Tensor, anchors: Tensor, how: str) -> Tensor:
    """Mean squared difference over all entries of t (B, C, D) and the anchors (C, D), or mean 1 - cos of unit features."""
    target = anchors.to(t).expand_as(t)
    return F.mse_loss(t, target) if how == "mse" else 1 - (t * target).sum(dim=-1).mean()
