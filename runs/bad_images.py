"""A run that meets an image which it cannot read: all such images of the dataset are named at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.utils import BadImageError, PixelSettings, UserError
from datasets import by_key
from datasets.base import BiomedDataset
from datasets.check.parallel import unreadable
from features.loader import StoredLoader

log = logging.getLogger(__name__)

SHOWN = 50  # an error message ends somewhere


@contextmanager
def all_named(cfg: CfgNode) -> Iterator[None]:
    """Within this, a bad image's error names every bad image of the run's dataset, those of other draws and classes too."""
    try:
        yield
    except BadImageError as error:
        raise UserError(_told(cfg, str(error))) from error


def require_readable_tests(trainer: Any) -> None:
    """Look at the test images before training: what is wrong with one is not told after hours.

    Where features are stored they are encoded now, and only those that the store has not seen; else each file is read.

    Raises:
        BadImageError: one cannot be read.
    """
    loader, cfg = trainer.test_loader, trainer.cfg
    if cfg.TEST.NO_TEST or loader is None:
        return
    if isinstance(loader, StoredLoader):
        loader.fill()
        return
    for one in unreadable([item.impath for item in loader.dataset.data_source], PixelSettings.from_cfg(cfg)):
        raise BadImageError(str(one))


def _told(cfg: CfgNode, first: str) -> str:
    log.info("%s: looking for others", first)
    paths, command = _images(cfg)
    bad = unreadable(paths, PixelSettings.from_cfg(cfg))
    hint = f". Mend or remove them; {command} lists all that is wrong" if command else ""
    if len(bad) < 2:
        return first + hint.replace("them", "it", 1)
    shown = "; ".join(f"{one.path} ({one.reason})" for one in bad[:SHOWN])
    more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    return f"{len(bad)} of {len(paths)} images cannot be read as images: {shown}{more}{hint}"


def _images(cfg: CfgNode) -> tuple[list[str], str]:
    """All images of the dataset, and the command that checks it; of another project's dataset the run's, and none."""
    cls = DATASET_REGISTRY.get(cfg.DATASET.NAME)
    if not (isinstance(cls, type) and issubclass(cls, BiomedDataset)):
        built = build_dataset(cfg)
        return [item.impath for part in (built.train_x, built.val, built.test) for item in part or ()], ""
    dataset, split = cls.opened(cfg)
    paths = dict.fromkeys(str(dataset.image_folder / path) for part in split.values() for path, _, _ in part)
    key = next((key for key, known in by_key().items() if known is cls), "the dataset's YAML")
    return list(paths), f"python -m datasets.check {key}"
