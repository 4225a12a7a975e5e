"""A user's own images: folders, a table or an archive of arrays, one YAML, no Python."""

from __future__ import annotations

import logging
from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UserError
from datasets import medmnist, splits, tables
from datasets.base import BiomedDataset
from datasets.class_names import classes_of
from datasets.layouts import folder_samples
from datasets.made_splits import Sample, split_of
from datasets.never_data import LeftOut
from datasets.places import existing

log = logging.getLogger(__name__)


@DATASET_REGISTRY.register()
class ImageFolderSplit(BiomedDataset):
    """``DATASET.FOLDER/<class folder>/<image>``, or one of the other layouts of docs/DATASETS.md.

    ``split.json`` in the folder is the split if there is one. A relative path starts at ``--root`` if it lies there, else at
    the working folder. Labels follow DATASET.CLASSNAMES, or the sorted folder names.

    Raises:
        UserError: no such folder or table, a layout that can be read in two ways, too few images.
    """

    @classmethod
    def words(cls, cfg: CfgNode) -> dict[str, str]:
        return super().words(cfg) | {"key": cls.title(cfg).lower()}

    @classmethod
    def title(cls, cfg: CfgNode) -> str:
        """DATASET.TITLE, which a run takes from its dataset's file; the folder's name in a config of before."""
        own = cfg.DATASET
        return own.TITLE or Path(own.FOLDER or own.CSV).expanduser().stem or cls.__name__

    @classmethod
    def own_template(cls, cfg: CfgNode) -> str:
        return f"a {cfg.DATASET.MODALITY} photo of a {{}}." if cfg.DATASET.MODALITY else "a photo of a {}."

    def locate(self, root: Path, cfg: CfgNode) -> tuple[Path, Path, Path]:
        own = cfg.DATASET
        self.table: Path | None = None
        if not own.FOLDER and not own.CSV:
            raise UserError("DATASET.FOLDER is empty: name the folder of your images, or a table of them with DATASET.CSV")
        folder = existing(own.FOLDER, root, "DATASET.FOLDER") if own.FOLDER else None
        if folder and folder.suffix.lower() == ".npz" and folder.is_file():
            self.archive = folder
            return folder.parent, medmnist.images_of(folder), folder.parent / f"{folder.stem}.split.json"
        if folder and not folder.is_dir():
            raise UserError(f"DATASET.FOLDER {folder} is neither a folder nor MedMNIST's .npz")
        if own.CSV:
            beside = [place for place in (folder, folder and folder.parent) if place]
            self.table = existing(own.CSV, root, "DATASET.CSV", beside)
            folder = folder or self.table.parent
        return folder, folder, folder / "split.json"

    archive: Path | None = None
    left_out: str = ""  # what is no data, in words

    def _split(self, images: Path, path: Path, cfg: CfgNode) -> splits.Split:
        own = cfg.DATASET
        if path.is_file() and not own.CSV:
            if own.INCLUDE or own.EXCLUDE:
                raise UserError(f"DATASET.INCLUDE and EXCLUDE are not read where {path} says which images there are")
            return splits.read_split(path)
        samples, what = self.samples(images, cfg)
        keys = list(dict.fromkeys(sample.key for sample in samples))
        classes, notes = classes_of(keys, own.CLASSNAMES, own.CLASS_FOLDERS, where=str(images), what=what)
        self.notes += notes
        unused = [key for key in keys if key not in classes]
        if unused:
            self.notes.append(f"{what}s without a class name are left out: {', '.join(unused)}")
        split, notes = split_of(samples, classes, own.SPLIT_SEED, where=str(images))
        if not any(sample.part for sample in samples):
            source = "the table" if what == "label" else "the class folders"
            self.notes.append(f"no {path.name}: split made from {source}, 50/20/30 per class, seed {own.SPLIT_SEED}")
        self.notes += notes
        return split

    def samples(self, images: Path, cfg: CfgNode) -> tuple[list[Sample], str]:
        """The labelled images, in the order that labels get where nothing else orders them; and what a key is."""
        own = cfg.DATASET
        table = None if self.archive else self.table or tables.of_medmnist(images)
        if (self.archive or table) and (own.INCLUDE or own.EXCLUDE):
            raise UserError(
                f"DATASET.INCLUDE and EXCLUDE are not read where {self.archive or table} says which images there are"
            )
        if self.archive:
            self.notes.append(f"images of {self.archive.name}, kept as PNG files in {images.name}")
            return medmnist.samples_of(self.archive), "label"
        if table:
            found, notes = tables.table_samples(table, images, own)
            self.notes += notes
            self.table_groups = {sample.path: sample.group for sample in found}
            return found, "label"
        left_out = LeftOut()
        found, notes = folder_samples(images, own, left_out)
        self.notes += notes
        self.left_out = str(left_out)
        if self.left_out:
            log.info("%s: %s", self.title(cfg), self.left_out)
        return found, "folder"
