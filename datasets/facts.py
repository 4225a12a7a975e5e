"""What a method and its results have to know of a dataset besides its images: of ours, of a plain Dassl one, of none."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UserError
from datasets.base import BiomedDataset
from datasets.image_folder import ImageFolderSplit
from datasets.splits import PARTS, files_hash

log = logging.getLogger(__name__)

PLAIN_TEMPLATE = "a photo of a {}."  # CLIP's, for a dataset without one of its own


@dataclass(frozen=True)
class DatasetFacts:
    """Names and words of a dataset; the rest is known where its images are.

    Attributes:
        name: what results and tables call it: as registered (DATASET.NAME), or the title of own images.
        key: short name, also of its prompt library.
        template: the clinical prompt with ``{}`` for the class name.
        classnames: of this run, in label order.
        ordered: the classes are grades, in label order.
        image_folder: what the paths in the predictions start from.
        data_hash, split_hash: of this run's images, and of the whole split (``None`` where that is not known).
        rehearsal: the images are generated.
        notes: what a reader of the results should know.
        warnings: what a reader of a table should know: they stand below it.
    """

    name: str
    key: str
    modality: str
    organ: str
    template: str
    classnames: tuple[str, ...]
    ordered: bool = False
    image_folder: str = ""
    data_hash: str | None = None
    split_hash: str | None = None
    rehearsal: bool = False
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def facts_of(dataset: Any, cfg: CfgNode) -> DatasetFacts:
    """The facts of a built dataset; a plain Dassl dataset need say nothing of itself.

    Raises:
        UserError: a template without a place for the class name, or images that are not there.
    """
    classnames = tuple(dataset.classnames)
    if not isinstance(dataset, BiomedDataset):
        return _plain_facts(dataset, cfg, classnames)
    return DatasetFacts(
        dataset.title(cfg) if isinstance(dataset, ImageFolderSplit) else cfg.DATASET.NAME,
        classnames=classnames,
        **{field: getattr(dataset, field) for field in ("key", "modality", "organ", "template")},
        ordered=dataset.ordered,
        image_folder=str(dataset.image_folder),
        data_hash=dataset.data_hash,
        split_hash=dataset.split_hash,
        rehearsal=bool(dataset.root_note),
        notes=tuple(dataset.notes),
        warnings=tuple(dataset.warnings),
    )


def _plain_facts(dataset: Any, cfg: CfgNode, classnames: tuple[str, ...]) -> DatasetFacts:
    words, notes = plain_words(dataset, cfg), []
    if words["template"] == PLAIN_TEMPLATE:
        notes.append(f'it has no template of its own: "{PLAIN_TEMPLATE}" is used')
    if cfg.DATASET.SUBSAMPLE_CLASSES != "all":
        notes.append(f"its {cfg.DATASET.SUBSAMPLE_CLASSES} classes are those that its own code gives")
    for note in notes:
        log.info("%s: %s", cfg.DATASET.NAME, note)
    items = {part: held or [] for part, held in zip(PARTS, (dataset.train_x, dataset.val, dataset.test), strict=True)}
    # where all images lie, so that the paths in the predictions are the same wherever that is
    folder = os.path.commonpath([os.path.dirname(os.path.abspath(item.impath)) for held in items.values() for item in held])
    split = {
        part: [(Path(os.path.relpath(item.impath, folder)).as_posix(), item.label, item.classname) for item in held]
        for part, held in items.items()
    }
    return DatasetFacts(
        cfg.DATASET.NAME,
        classnames=classnames,
        **words,
        ordered=bool(getattr(dataset, "ordered", False)),
        image_folder=folder,
        data_hash=files_hash(Path(folder), split),
        notes=tuple(notes),
    )


def plain_words(source: Any, cfg: CfgNode) -> dict[str, str]:
    """``key``, ``modality``, ``organ`` and ``template`` of a dataset that is not ours, or of its class.

    The config's words come first, then the dataset's own; of several templates the first is taken.

    Raises:
        UserError: a template without a place for the class name.
    """
    own = cfg.DATASET
    template = own.TEMPLATE or getattr(source, "template", "") or PLAIN_TEMPLATE
    template = template if isinstance(template, str) else template[0]
    if template.count("{}") != 1:
        raise UserError(f'{own.NAME}\'s template "{template}" must hold {{}} once: set DATASET.TEMPLATE in its config file')
    said = {word: own[word.upper()] or getattr(source, word, "") for word in ("modality", "organ")}
    return {"key": getattr(source, "key", "") or own.NAME.lower(), "template": template, **said}


def facts_without_images(cfg: CfgNode, classnames: Sequence[str]) -> DatasetFacts:
    """The facts of ``cfg.DATASET`` from its class and the config alone.

    Raises:
        UserError: an unknown dataset, no class names, or a class name twice.
    """
    if not classnames or len(set(classnames)) < len(classnames):
        raise UserError(f"class names must be given, each once, got: {', '.join(classnames) or 'none'}")
    own, run_template = cfg.DATASET, cfg.DATASET.get("RUN_TEMPLATE", "")
    # of another project's dataset, whose code need not be here, the run's config says what is needed
    absent = run_template and own.NAME not in DATASET_REGISTRY.registered_names()
    cls = None if absent else DATASET_REGISTRY.get(own.NAME)
    name = own.NAME
    if isinstance(cls, type) and issubclass(cls, BiomedDataset):
        words = cls.words(cfg)
        name = cls.title(cfg) if issubclass(cls, ImageFolderSplit) else name
    else:
        words = plain_words(cls, cfg)
        words["template"] = run_template or words["template"]  # the class need not know what its object said
    return DatasetFacts(name, classnames=tuple(classnames), ordered=bool(getattr(cls, "ordered", False)), **words)
