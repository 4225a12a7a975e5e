"""What the tests of TIMO, ProKeR and SS-Text compute again in NumPy, and a trainer's data for it."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.prompts import load_prompts
from tests.conftest import BTMRI_CLASSES

Array = NDArray[np.float64]
WIDTH, CLASSES = 32, len(BTMRI_CLASSES)


def drawn(*shape: int, seed: int = 0) -> Array:
    """Unit vectors."""
    values = np.random.default_rng(seed).normal(size=shape)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def unit(values: Array) -> Array:
    return values / math.sqrt(sum(float(value) ** 2 for value in values))


def array(tensor: torch.Tensor) -> Array:
    return tensor.double().numpy()


def views_of(trainer) -> tuple[list[Array], list[int]]:
    """Features of each view of the training images, not normalised, and the labels of one view."""
    sets = [trainer.store.views(epoch) for epoch in range(trainer.own.AUGMENT_EPOCH)] or [trainer.store.images("train")]
    return [array(one.features) for one in sets], sets[0].labels.tolist()


def validation_of(trainer) -> tuple[list[Array], list[int]]:
    found = trainer.store.images("val")
    return [unit(v) for v in array(found.features)], found.labels.tolist()


def llm_features(trainer, count: int) -> list[list[Array]]:
    """Unit features of the first ``count`` LLM prompts of each class, encoded here."""
    texts = load_prompts("btmri", BTMRI_CLASSES, count).texts
    with torch.no_grad():
        return [[unit(row) for row in array(trainer.backbone.encode_text(list(texts[name])))] for name in BTMRI_CLASSES]


def right(logits: list[Array], labels: list[int]) -> int:
    return sum(int(np.argmax(row)) == label for row, label in zip(logits, labels, strict=True))
