"""Brain tumour MRI."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import BiomedDataset


@DATASET_REGISTRY.register()
class BTMRI(BiomedDataset):
    """Brain tumour MRI, 4 classes."""

    key = "btmri"
    dataset_dir = "BTMRI"
    modality = "MRI"
    organ = "brain"
    template = "a MR photo of a {} in the brain."
    published_classnames = (
        "glioma tumor",
        "meningioma tumor",
        "pituitary tumor",
        "normal brain",
    )
    published_sizes = (2854, 1141, 1717)
    drive_id = "1_lJLZRUmczqZqoN-dNqkAzGzmi4ONoU5"
