"""Kidney CT."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import BiomedDataset
from datasets.groups import Grouping


@DATASET_REGISTRY.register()
class CTKidney(BiomedDataset):
    """Kidney CT, 4 classes."""

    key = "ctkidney"
    dataset_dir = "CTKidney"
    modality = "CT"
    organ = "kidney"
    template = "a CT photo of a {} in the kidney."
    grouping = Grouping(
        r"(Cyst|Normal|Stone|Tumor)- \((?P<number>\d+)\)",
        "slice",
        "slices of a patient follow each other; where the next patient begins, and who comes again later, is not told",
    )
    published_classnames = (
        "cyst kidney",
        "kidney stone",
        "kidney tumor",
        "normal kidney",
    )
    published_sizes = (6221, 2487, 3738)
    drive_id = "1PBZ299k--mZL8JU7nhC1Wy8yEmlqmVDh"
