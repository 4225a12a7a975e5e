"""What all datasets share: folder layout, split file, few-shot draw, base and new classes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from yacs.config import CfgNode

from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import UserError
from datasets import splits
from datasets.grouped import GROUPED, regrouped
from datasets.groups import HOW, NO_GROUPS, Grouping, Groups, groups_of
from datasets.made_splits import make_split

log = logging.getLogger(__name__)

ARCHIVES = "TahaKoleilat/BiomedCoOp"  # dataset repository on Hugging Face with <NAME>.zip of each dataset
REHEARSAL = "REHEARSAL.json"  # lies in the root of generated data
REHEARSAL_NOTE = "rehearsal (synthetic)"


class BiomedDataset(DatasetBase):
    """Images in ``<root>/<NAME>/<NAME>/<class folder>/<file>``, split in ``<root>/<NAME>/split_<NAME>.json``.

    Attributes:
        key: short name, also of the config file.
        modality, organ, template: ``template`` is the clinical prompt with ``{}`` for the class name.
        published_classnames: in label order; the split file's own order rules where there is one.
        published_sizes: images for training, validation and test.
        all_classnames: class names of the full set, base and new.
        split_hash, data_hash: of the split file's rows, and of the paths and sizes of this run's images.
        image_folder: what the paths of the split file start from.
        ordered: the classes are grades, in label order.
        grouping: how file names tell which images belong together; ``table_groups`` holds a table's own groups by path.
        notes: what a reader of the results should know; ``root_note`` is set on generated data.
        warnings: what a reader of a table should know; they stand below it.

    Raises:
        UserError: no such folder (with where to get it), a bad split file, missing images.
    """

    key: str = ""
    modality: str = ""
    organ: str = ""
    template: str = ""
    published_classnames: tuple[str, ...] = ()
    published_sizes: tuple[int, int, int] | None = None
    drive_id: str = ""
    ordered: bool = False
    grouping: Grouping = NO_GROUPS
    table_groups: Mapping[str, str] = MappingProxyType({})

    def __init__(self, cfg: CfgNode) -> None:
        own = cfg.DATASET
        splits.check_shots(own.NUM_SHOTS)
        folder, split = self._open(cfg)
        images = self.image_folder
        self.split_hash = splits.split_hash(split)
        self.all_classnames = [name for _, name in sorted({(n, c) for part in splits.PARTS for _, n, c in split[part]})]
        if len(self.all_classnames) < 2:
            raise UserError(f'{images} has one class, "{self.all_classnames[0]}": there is nothing to tell it from')
        drawn = splits.cached_few_shot(split, own.NUM_SHOTS, cfg.SEED, folder)
        chosen = splits.select_classes(drawn, own.SUBSAMPLE_CLASSES)
        if own.get("TUNING_FOLD"):  # before anything looks at an image: those of the test part are left alone
            chosen = splits.tuning_fold(chosen, own.TUNING_FOLD, str(images))
        self.data_hash = splits.files_hash(images, chosen)
        self.warnings += splits.shortages(chosen, own.NUM_SHOTS, own.SUBSAMPLE_CLASSES != "new" and not own.get("TRAINED_ON"))
        train, val, test = (
            [Datum(impath=str(images / path), label=label, classname=name) for path, label, name in chosen[part]]
            for part in splits.PARTS
        )
        super().__init__(train_x=train, val=val, test=test)
        for note in self.notes:
            log.info("%s: %s", self.title(cfg), note)

    @classmethod
    def opened(cls, cfg: CfgNode) -> tuple[BiomedDataset, splits.Split]:
        """The dataset without its lists of images, and its whole split, no image of which need be there.

        Raises:
            UserError: no such folder, or a bad split file.
        """
        found = cls.__new__(cls)
        _, split = found._open(cfg)
        return found, split

    def _open(self, cfg: CfgNode) -> tuple[Path, splits.Split]:
        """Folder of the dataset and its whole split; sets the attributes that are known without images."""
        own = cfg.DATASET
        if own.SPLIT not in ("", GROUPED):
            raise UserError(f'DATASET.SPLIT is "{own.SPLIT}", must be {GROUPED}, or empty for the split as it is')
        self.notes: list[str] = []
        self.warnings: list[str] = []
        for field, value in self.words(cfg).items():
            setattr(self, field, value)
        root = Path(own.ROOT).expanduser().resolve()
        folder, images, split_path = self.locate(root, cfg)
        self.image_folder = images
        self.root_note = REHEARSAL_NOTE if (root / REHEARSAL).is_file() else ""
        split = self._split(images, split_path, cfg)
        if own.SPLIT == GROUPED:
            groups = self.groups(split, cfg)
            if not groups.of:
                told = f" ({'; '.join(groups.notes)})" if groups.notes else ""
                raise UserError(f"DATASET.SPLIT {GROUPED}: no groups are known of {self.title(cfg)}{told}. {HOW}")
            split, notes = regrouped(split, groups.whole(), groups.units, own.SPLIT_SEED, where=str(images))
            self.notes += [f"groups by {groups.source}", *notes, *groups.notes]
        return folder, split

    def groups(self, split: splits.Split, cfg: CfgNode) -> Groups:
        """Which of the split's images belong together.

        Raises:
            UserError: a DATASET.GROUP_BY that cannot be used.
        """
        paths = list(dict.fromkeys(path for part in splits.PARTS for path, _, _ in split[part]))
        root = Path(cfg.DATASET.ROOT).expanduser().resolve()
        return groups_of(paths, cfg.DATASET, self.grouping, self.table_groups, self.image_folder, root)

    @classmethod
    def words(cls, cfg: CfgNode) -> dict[str, str]:
        """``key``, ``modality``, ``organ`` and ``template`` under this config; needs no image.

        Raises:
            UserError: a template without a place for the class name.
        """
        own = cfg.DATASET
        template = own.TEMPLATE or cls.own_template(cfg)
        if template.count("{}") != 1:
            raise UserError(f'DATASET.TEMPLATE "{template}" must hold {{}} once, for the class name')
        return {
            "key": cls.key,
            "modality": own.MODALITY or cls.modality,
            "organ": own.ORGAN or cls.organ,
            "template": template,
        }

    @classmethod
    def title(cls, cfg: CfgNode) -> str:
        """What results, tables and logs call the dataset."""
        return cls.__name__

    @classmethod
    def own_template(cls, cfg: CfgNode) -> str:
        """The template of a config that names none."""
        return cls.template

    def locate(self, root: Path, cfg: CfgNode) -> tuple[Path, Path, Path]:
        """Folder of the dataset, folder of its images, split file (which need not exist)."""
        folder = root / self.dataset_dir
        images = folder / self.dataset_dir
        if not images.is_dir():
            raise UserError(
                f"no {self.dataset_dir} images in {images}. Fetch them: python -m datasets.download {self.key} --root {root} "
                f"(DOWNLOAD=1 for the scripts); or, for the same command, put {self.dataset_dir}.zip of the Hugging Face "
                f"dataset repository {ARCHIVES} or Google Drive id {self.drive_id} into {root}; name another folder with "
                f"--root (DATA=…); or generate a stand-in: python -m datasets.phantom --root data/phantom --datasets {self.key}"
            )
        return folder, images, folder / f"split_{self.dataset_dir}.json"

    def _split(self, images: Path, path: Path, cfg: CfgNode) -> splits.Split:
        if not os.path.lexists(path):
            names = tuple(cfg.DATASET.CLASSNAMES) or self.published_classnames
            self.notes.append(
                f"no {path.name}: split made from the class folders, 50/20/30 per class, seed {cfg.DATASET.SPLIT_SEED}"
            )
            return make_split(images, names, cfg.DATASET.SPLIT_SEED)
        split = splits.read_split(path)
        names = {name for part in splits.PARTS for _, _, name in split[part]}
        absent = [name for name in self.published_classnames if name not in names]
        if absent:
            self.notes.append(f"the split file has no images of the published classes {', '.join(absent)}")
        extra = sorted(names - set(self.published_classnames))
        if self.published_classnames and extra:
            self.notes.append(f"the split file has classes that are not published: {', '.join(extra)}")
        return split
