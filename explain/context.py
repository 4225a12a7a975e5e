"""Vocabulary words nearest to each learned context vector (CoOp, IJCV 2022, section 4.2, "interpreting the prompts")."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from backbones import TokenBatch, VisionLanguageBackbone
from backbones.vocabulary import vocabulary
from dassl.utils import UserError
from trainers.base import LEARNER, VLTrainer
from trainers.prompt_learner import PromptLearner


@dataclass(frozen=True)
class NearestWords:
    """A context vector's nearest words with their Euclidean distances, nearest first.

    Attributes:
        classname: of a class-specific context; empty where all classes share it.
        position: 1 .. M.
        length: the vector's own length.
    """

    classname: str
    position: int
    length: float
    words: list[tuple[str, float]]


@torch.no_grad()
def nearest_words(context: Tensor, backbone: VisionLanguageBackbone, count: int) -> list[list[tuple[str, float]]]:
    """For each of M vectors (M, W) the ``count`` word-pieces whose embeddings are nearest, with their distances."""
    words = vocabulary(backbone)
    ids = torch.tensor([list(words)], device=backbone.device)
    embedded = backbone.embed_tokens(TokenBatch(ids, torch.ones_like(ids)))[0]
    # not by way of a matrix product: small distances would drown in its rounding
    distances = torch.cdist(context.to(embedded), embedded, compute_mode="donot_use_mm_for_euclid_dist")
    near, rows = distances.topk(min(count, len(words)), largest=False)
    names = list(words.values())
    return [
        [(names[index], float(distance)) for index, distance in zip(row.tolist(), found, strict=True)]
        for row, found in zip(rows, near, strict=True)
    ]


def interpret(trainer: VLTrainer, count: int = 5) -> list[NearestWords]:
    """The nearest words of every vector of a run's text context.

    Deep prompts (MaPLe, PromptSRC) stand among hidden states, where no word has a place, and are left out; of CoCoOp it
    is the context before the image's shift.

    Raises:
        UserError: a method without a learned text context, or fewer than one word asked for.
    """
    learner = getattr(trainer, LEARNER, None)
    if not isinstance(learner, PromptLearner):
        raise UserError(f"{type(trainer).__name__} learns no text context that words could be near to")
    if count < 1:
        raise UserError(f"--words is {count}, must be 1 or more")
    contexts = learner.ctx.detach()
    per_class = contexts.ndim == 3
    found = []
    for name, context in zip(trainer.classnames if per_class else [""], contexts if per_class else [contexts], strict=True):
        for position, (vector, words) in enumerate(
            zip(context, nearest_words(context, trainer.backbone, count), strict=True), start=1
        ):
            found.append(NearestWords(name, position, float(vector.norm()), words))
    return found
