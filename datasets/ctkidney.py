"""Kidney CT."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import BiomedDataset


@DATASET_REGISTRY.register()
class CTKidney(BiomedDataset):
    """Kidney CT, 4 classes."""

    key = "ctkidney"
    dataset_dir = "CTKidney"
    modality = "CT"
    organ = "kidney"
    template = "a CT photo of a {} in the kidney."
    published_classnames = (
        "cyst kidney",
        "kidney stone",
        "kidney tumor",
        "normal kidney",
    )
    published_sizes = (6221, 2487, 3738)
    drive_id = "1PBZ299k--mZL8JU7nhC1Wy8yEmlqmVDh"
