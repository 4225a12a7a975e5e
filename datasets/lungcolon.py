"""Lung and colon histopathology."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import BiomedDataset
from datasets.groups import Grouping


@DATASET_REGISTRY.register()
class LungColon(BiomedDataset):
    """Lung and colon histopathology, 5 classes."""

    key = "lungcolon"
    dataset_dir = "LungColon"
    modality = "histopathology"
    organ = "lung, colon"
    template = "a histopathological photo of a {}."
    grouping = Grouping(
        "",
        why="250 originals of each class were augmented to 5,000 images, "
        "and the names do not tell which image came from which original",
    )
    published_classnames = (
        "colon adenocarcinoma",
        "colon benign tissue",
        "lung adenocarcinoma",
        "lung benign tissue",
        "lung squamous cell carcinoma",
    )
    published_sizes = (12500, 5000, 7500)
    drive_id = "1YIu5fqMXgyemisiL1L1HCvES2nVpCtun"
