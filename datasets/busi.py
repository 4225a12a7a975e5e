"""Breast ultrasound."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import BiomedDataset


@DATASET_REGISTRY.register()
class BUSI(BiomedDataset):
    """Breast ultrasound, 3 classes."""

    key = "busi"
    dataset_dir = "BUSI"
    modality = "ultrasound"
    organ = "breast"
    template = "a ultrasound photo of a {} in the breast."
    published_classnames = (
        "benign tumor",
        "malignant tumor",
        "normal scan",
    )
    published_sizes = (389, 155, 236)
    drive_id = "1hB5M7wcAUTV9EtiYrijACoQ36R6VmQaa"
