"""Datasets by name."""

import logging

from yacs.config import CfgNode

from dassl.data.datasets.base_dataset import DatasetBase
from dassl.utils import Registry

log = logging.getLogger(__name__)

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg: CfgNode) -> DatasetBase:
    """The dataset ``cfg.DATASET.NAME``.

    Raises:
        UnknownNameError: an unknown name, with the nearest registered one.
    """
    cls = DATASET_REGISTRY.get(cfg.DATASET.NAME)
    if cfg.VERBOSE:
        log.info("Loading dataset: %s", cfg.DATASET.NAME)
    return cls(cfg)
