"""Datasets by name."""

from yacs.config import CfgNode

from dassl.data.datasets.base_dataset import DatasetBase
from dassl.utils import Registry, build_from

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg: CfgNode) -> DatasetBase:
    """The dataset ``cfg.DATASET.NAME``.

    Raises:
        UnknownNameError: an unknown name, with the nearest registered one.
    """
    return build_from(DATASET_REGISTRY, "Loading dataset", cfg.DATASET.NAME, cfg.VERBOSE, cfg)
