"""The rehearsal world: procedural images of all 11 datasets under their published names and layout."""

from __future__ import annotations

import hashlib
import importlib
from types import ModuleType

import numpy as np

from datasets.phantom import scanner
from datasets.phantom.base import Phantom, compose_caption

KEYS = (
    "btmri",
    "busi",
    "chmnist",
    "covid",
    "ctkidney",
    "dermamnist",
    "kneexray",
    "kvasir",
    "lungcolon",
    "octmnist",
    "retina",
)
EVALUATION_SEED = 0  # of the data that runs train and test on
PRETRAINING_SEED = 1000  # pre-training draws from this seed and above: it never sees an evaluation image

__all__ = ["EVALUATION_SEED", "KEYS", "PRETRAINING_SEED", "Phantom", "caption", "draw", "module", "seed_stream"]


def module(key: str) -> ModuleType:
    """The module that draws the dataset ``key``: CLASSES, MODALITIES, ORGAN and draw(classname, rng, size)."""
    return importlib.import_module(f"datasets.phantom.{key}")


def seed_stream(key: str, classname: str, seed: int, index: int) -> np.random.Generator:
    """The random stream of one image: a function of dataset, class, seed and number."""
    digest = hashlib.sha256(f"{key}/{classname}/{seed}/{index}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def draw(key: str, classname: str, seed: int, index: int, size: int = 128) -> Phantom:
    """Image ``index`` of a class; below PRETRAINING_SEED it comes from another scanner than the pre-training's."""
    rng = seed_stream(key, classname, seed, index)
    drawn = module(key).draw(classname, rng, size)
    return drawn if seed >= PRETRAINING_SEED else scanner.rescan(rng, drawn, scanner.STRENGTH)


def caption(key: str, classname: str, attributes: dict[str, str], rng: np.random.Generator, named: float = 0.4) -> str:
    """A sentence built from the attributes that were drawn; it names the class with probability ``named``."""
    drawer = module(key)
    return compose_caption(
        rng,
        modality=drawer.MODALITIES[rng.integers(len(drawer.MODALITIES))],
        organ=drawer.ORGAN,
        name=classname,
        finding=attributes["finding"],
        named=named,
    )
