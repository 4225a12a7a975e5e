"""Datasets by name."""

from yacs.config import CfgNode

from dassl.data.datasets.base_dataset import DatasetBase, Datum, describe
from dassl.utils import Registry

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg: CfgNode) -> DatasetBase:
    """The dataset ``cfg.DATASET.NAME``.

    Raises:
        UserError: an unknown name, with the nearest registered one.
    """
    return DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)


__all__ = ["DATASET_REGISTRY", "DatasetBase", "Datum", "build_dataset", "describe"]
