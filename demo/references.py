"""What a new image is compared with: the sentences about each class, and the images that the run was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UserError
from datasets.base import BiomedDataset
from datasets.prompts import prompts_for
from runs.inference import image_batches
from trainers.base import VLTrainer, unit

SENTENCES = 50  # per class, of a method that reads none itself; as many as the project's libraries have
IMAGES = 512  # training images at most: each passes the image tower before the page opens
BATCH = 16
PER_CLASS = 2  # samples of the run's own test images

Item = TypeVar("Item")


@dataclass(frozen=True)
class Near(Generic[Item]):
    """Something near to an image: what, its class, and the cosine of the two features."""

    item: Item
    classname: str
    similarity: float


@dataclass(frozen=True)
class References(Generic[Item]):
    """Things with features to compare with.

    Attributes:
        items, classnames: N of each.
        features: (N, D), of unit length.
        note: where they come from, or why there are none.
    """

    items: Sequence[Item] = ()
    classnames: Sequence[str] = ()
    features: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    note: str = ""

    def nearest(self, feature: Tensor, count: int) -> list[Near[Item]]:
        """The ``count`` nearest to ``feature`` (D,) of unit length, nearest first."""
        if not self.items:
            return []
        similarity = self.features @ feature.float().cpu()
        best = similarity.topk(min(count, len(self.items)))
        found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [Near(self.items[number], self.classnames[number], value) for number, value in found]


def sentences(trainer: VLTrainer) -> References[str]:
    """The LLM-written sentences about the run's classes, through the frozen text tower; none, and why, where there are none."""
    facts, cfg = trainer.facts, trainer.cfg
    reads = trainer.uses_prompts(cfg)
    count = trainer.own.N_PROMPTS if reads else SENTENCES
    words = {"template": facts.template, "modality": facts.modality, "organ": facts.organ}
    try:
        found = prompts_for(cfg.DATASET.PROMPTS, facts.key, trainer.classnames, count, **words)
    except UserError as error:
        return References(note=f"No sentences: {error}")
    features = unit(trainer.encode_prompts(found.texts, trainer.classnames)).float().cpu()
    said = "The run was trained with them." if reads else f"{cfg.TRAINER.NAME} never read them: they are for orientation only."
    return References(
        [text for name in trainer.classnames for text in found.texts[name]],
        [name for name in trainer.classnames for _ in found.texts[name]],
        features.flatten(0, 1),
        f"{features.shape[0] * features.shape[1]} sentences of {found.path.name}. {said}",
    )


@dataclass(frozen=True)
class Sample:
    """An image to try: one of the run's own test images with its label, or any image ("")."""

    path: Path
    classname: str = ""


def data_of(trainer: VLTrainer, root: str) -> BiomedDataset | str:
    """The run's dataset as it was trained on, or why it is not at hand.

    Args:
        root: folder of the datasets; "" takes the run's.
    """
    cfg = trainer.cfg.clone()
    cfg.defrost()
    cfg.DATASET.ROOT = root or cfg.DATASET.ROOT
    cfg.freeze()
    try:
        cls = DATASET_REGISTRY.get(cfg.DATASET.NAME)
        if not (isinstance(cls, type) and issubclass(cls, BiomedDataset)):
            return f"{cfg.DATASET.NAME} is a dataset of another project"
        return cls(cfg)
    except (UserError, OSError) as error:
        return str(error)


def training_images(trainer: VLTrainer, data: BiomedDataset | str) -> References[Path]:
    """The images that the run was trained on, through its image tower; none, and why, where they are not at hand."""
    if isinstance(data, str):
        return References(note=f"The training images are not at hand: {data}")
    held = [item for item in data.train_x if item.classname in trainer.classnames]
    step = max(1, -(-len(held) // IMAGES))
    names = {Path(item.impath): item.classname for item in held[::step]}
    paths, rows = [], []
    for found, images, _ in image_batches(trainer, list(names), BATCH):
        if found:
            paths += found
            with torch.no_grad():
                rows.append(trainer.image_features(images).float().cpu())
    if not rows:
        return References(note="No training image has a class of this run, or none can be read.")
    some = "" if step == 1 else f", every {step}th of {len(held)}"
    return References(paths, [names[path] for path in paths], torch.cat(rows), f"{len(paths)} training images{some}.")


def samples(data: BiomedDataset | str, classnames: Sequence[str], most: int = 12) -> list[Sample]:
    """Some of the run's own test images, of each class in turn."""
    if isinstance(data, str):
        return []
    own = [[item for item in data.test if item.classname == name][:PER_CLASS] for name in classnames]
    found = [items[number] for number in range(PER_CLASS) for items in own if number < len(items)]
    return [Sample(Path(item.impath), item.classname) for item in found[:most]]
