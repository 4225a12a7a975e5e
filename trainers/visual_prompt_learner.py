"""Learned prompt tokens among the patches of a ViT (VPT, Jia et al., ECCV 2022), and what methods with them share."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from backbones import VisualPrompt
from backbones.visual_prompts import DEPTHS, PLACEMENTS
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError
from trainers.base import VLTrainer, unit
from trainers.prompt_learner import INIT_STD, check_choice

log = logging.getLogger(__name__)


class VisualPromptLearner(nn.Module):
    """P learned vectors before each of the first ``depth`` blocks of a ViT (VPT, section 3.2).

    ``ctx`` is the only parameter: (P, W), or (depth, P, W) with ``depth`` > 1. It starts from N(0, 0.02), as the
    CLIP prompt learners start theirs (VPT itself draws from a uniform of similar width).

    Args:
        width: W of the ViT.
        num_tokens: P.
        depth: how many blocks get vectors of their own.
        placement: "insert" behind the class token, or "replace" the first P patches.
    """

    def __init__(self, width: int, num_tokens: int, depth: int, placement: str) -> None:
        super().__init__()
        shape = (num_tokens, width) if depth == 1 else (depth, num_tokens, width)
        self.ctx = nn.Parameter(nn.init.normal_(torch.empty(shape), std=INIT_STD))
        self.placement = placement

    def forward(self) -> VisualPrompt:
        return VisualPrompt(self.ctx, self.placement, deep=self.ctx.ndim == 3)


def visual_defaults() -> dict[str, Any]:
    """The config keys of learned visual prompts."""
    return {
        "N_TOKENS": 4,  # P
        "PLACEMENT": "insert",  # behind the class token (VPT's paper), or "replace" the first patches
        "DEPTH": "deep",  # tokens of their own before every block, or "shallow": only before the first
    }


class VisualPromptTrainer(VLTrainer):
    """The image side of a method that learns visual prompt tokens: its image features carry gradients.

    On a ViT with a norm before its first block (CLIP's ``ln_pre``) the tokens are put in behind it, as
    Biomed-DPT's are; the CLIP code of MaPLe and PromptSRC puts the first ones in before it. BiomedCLIP has none.
    """

    writes_visual_prompts = True
    frozen_images = False
    needs_patch_tokens = True
    # keys of the method's section: counts that must be positive, and words with their valid values
    counts: Sequence[str] = ("VISUAL.N_TOKENS",)
    choices: Mapping[str, Sequence[str]] = {"VISUAL.PLACEMENT": PLACEMENTS, "VISUAL.DEPTH": DEPTHS}

    @classmethod
    def departures(cls, cfg: CfgNode) -> list[str]:
        published = cls.defaults()
        said = super().departures(cfg)
        for key in cls.choices:
            now, before = _get(cfg.TRAINER[cls.section], key), _get(published, key)
            if now != before:
                said.append(f"{key} {now} (paper: {before})")
        return said

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        own = cfg.TRAINER[self.section]
        for key in self.counts:
            if _get(own, key) < 1:
                raise UserError(f"TRAINER.{self.section}.{key} is {_get(own, key)}, must be at least 1")
        for key, valid in self.choices.items():
            check_choice(f"TRAINER.{self.section}.{key}", _get(own, key), valid)

    def build_model(self) -> None:
        require_patch_tokens(self, "learns tokens among image patches")
        self.forced: list[str] = []  # what the backbone forced on the method, for the results file
        super().build_model()

    def within(self, key: str, available: int) -> int:
        """The depth that the config key asks for, or ``available`` where the towers are shallower: then it is said."""
        asked = self.own[key]
        if asked > available:
            self.forced.append(f"{key} is {available}, not {asked}: {self.backbone.name} has no more layers")
            log.info(self.forced[-1])
        return min(asked, available)

    def new_visual_learner(self) -> VisualPromptLearner:
        """Fresh tokens as the method's VISUAL keys describe them."""
        visual = self.own.VISUAL
        depth = len(self.backbone.visual_layers) if visual.DEPTH == "deep" else 1
        return VisualPromptLearner(self.backbone.visual_width, visual.N_TOKENS, depth, visual.PLACEMENT)

    def visual_prompt(self) -> VisualPrompt:
        """The learned tokens."""
        raise NotImplementedError

    def image_features(self, images: Tensor) -> Tensor:
        """(B, D) normalised features of the prompted image tower, with gradients to the tokens."""
        return unit(self.backbone.encode_image(images, self.visual_prompt()))


def require_patch_tokens(trainer: VLTrainer, what: str) -> None:
    """Raise a :class:`UserError` where ``trainer``, which does ``what``, has a backbone without patch tokens."""
    if trainer.backbone.supports_visual_prompts:
        return
    raise UserError(
        f"{type(trainer).__name__} {what}, and {trainer.backbone.name} has none: take a "
        f"backbone with a vision transformer, or a method that needs no patches ({', '.join(_without_patches())})"
    )


def layers_at_same_share(trainer: VLTrainer, key: str, whole: int, depth: int) -> list[int]:
    """The layers, from 0, that the config key asks for, or those at the same share of the depth where towers have fewer.

    Then it is said: in the log, and in ``trainer.forced`` for the results file.

    Args:
        key: of the method's section, layers of towers with ``whole`` of them, in rising order.
        depth: how many the backbone's towers have.
    """
    asked = list(trainer.own[key])
    if not asked or asked[-1] < depth:
        return asked
    whole = max(whole, asked[-1] + 1)
    taken = sorted({math.ceil((layer + 1) * depth / whole) - 1 for layer in asked})
    trainer.forced.append(f"{key} are {taken}, not {asked}: {trainer.backbone.name} has {depth} layers")
    log.info(trainer.forced[-1])
    return taken


def check_layers(where: str, layers: Sequence[int]) -> None:
    """Raise a :class:`UserError` unless ``layers`` of the config key ``where`` are layers from 0, rising, each once."""
    layers = list(layers)
    if layers != sorted(set(layers)) or (layers and layers[0] < 0):
        raise UserError(f"{where} is {layers}, must be layers from 0 in rising order, each once")


def visual_variant(own: CfgNode) -> str:
    """The VISUAL keys as part of a folder's name."""
    return f"vis{own.VISUAL.N_TOKENS}{own.VISUAL.PLACEMENT}{own.VISUAL.DEPTH}"


def _without_patches() -> list[str]:
    found = {name: TRAINER_REGISTRY.get(name) for name in TRAINER_REGISTRY.registered_names()}
    ours = {name: cls for name, cls in found.items() if isinstance(cls, type) and issubclass(cls, VLTrainer)}
    return [name for name, cls in ours.items() if not getattr(cls, "needs_patch_tokens", False)]


def _get(node: CfgNode, key: str) -> Any:
    return reduce(lambda inner, part: inner[part], key.split("."), node)
