"""A user's own images: one folder per class, one YAML, no Python."""

from __future__ import annotations

from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UserError
from datasets.base import BiomedDataset


@DATASET_REGISTRY.register()
class ImageFolderSplit(BiomedDataset):
    """``DATASET.FOLDER/<class folder>/<image>``, with ``split.json`` beside the class folders if there is one.

    A relative DATASET.FOLDER starts at ``--root`` if it lies there, else at the working folder. Labels follow
    DATASET.CLASSNAMES, or the sorted folder names.

    Raises:
        UserError: no such folder.
    """

    @classmethod
    def words(cls, cfg: CfgNode) -> dict[str, str]:
        return super().words(cfg) | {"key": Path(cfg.DATASET.FOLDER).expanduser().name.lower()}

    @classmethod
    def own_template(cls, cfg: CfgNode) -> str:
        return f"a {cfg.DATASET.MODALITY} photo of a {{}}." if cfg.DATASET.MODALITY else "a photo of a {}."

    def locate(self, root: Path, cfg: CfgNode) -> tuple[Path, Path, Path]:
        if not cfg.DATASET.FOLDER:
            raise UserError("DATASET.FOLDER is empty: name the folder of your class folders")
        given = Path(cfg.DATASET.FOLDER).expanduser()
        for folder in (given, root / given):
            if folder.is_dir():
                folder = folder.resolve()
                return folder, folder, folder / "split.json"
        raise UserError(f"DATASET.FOLDER {given}: no such folder, neither here nor in {root}")
