"""What a method has to know of a dataset besides its images: enough to build it where no image is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UserError


@dataclass(frozen=True)
class DatasetFacts:
    """Names and words of a dataset.

    Attributes:
        name: as registered (DATASET.NAME).
        key: short name, also of its prompt library.
        template: the clinical prompt with ``{}`` for the class name.
        classnames: of this run, in label order.
    """

    name: str
    key: str
    modality: str
    organ: str
    template: str
    classnames: tuple[str, ...]


def spelled(name: str) -> str:
    """A class name (or other words) as prompts write it and as its word-pieces are counted: spaces for underscores."""
    return name.replace("_", " ")


def facts_of(dataset: Any, name: str) -> DatasetFacts:
    """The facts of a built dataset; what a plain Dassl dataset does not say is empty."""
    said = {field: getattr(dataset, field, "") for field in ("key", "modality", "organ", "template")}
    return DatasetFacts(name, classnames=tuple(dataset.classnames), **said)


def facts_without_images(cfg: CfgNode, classnames: Sequence[str]) -> DatasetFacts:
    """The facts of ``cfg.DATASET`` from its class and the config alone.

    Raises:
        UserError: an unknown dataset, no class names, or a class name twice.
    """
    if not classnames or len(set(classnames)) < len(classnames):
        raise UserError(f"class names must be given, each once, got: {', '.join(classnames) or 'none'}")
    cls = DATASET_REGISTRY.get(cfg.DATASET.NAME)
    said = cls.words(cfg) if hasattr(cls, "words") else dict.fromkeys(("key", "modality", "organ", "template"), "")
    return DatasetFacts(cfg.DATASET.NAME, classnames=tuple(classnames), **said)
