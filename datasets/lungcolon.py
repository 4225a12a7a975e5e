"""Lung and colon histopathology."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import BiomedDataset


@DATASET_REGISTRY.register()
class LungColon(BiomedDataset):
    """Lung and colon histopathology, 5 classes."""

    key = "lungcolon"
    dataset_dir = "LungColon"
    modality = "histopathology"
    organ = "lung, colon"
    template = "a histopathological photo of a {}."
    published_classnames = (
        "colon adenocarcinoma",
        "colon benign tissue",
        "lung adenocarcinoma",
        "lung benign tissue",
        "lung squamous cell carcinoma",
    )
    published_sizes = (12500, 5000, 7500)
    drive_id = "1YIu5fqMXgyemisiL1L1HCvES2nVpCtun"
