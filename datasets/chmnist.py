"""Colorectal tissue textures."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import BiomedDataset
from datasets.groups import Grouping


@DATASET_REGISTRY.register()
class CHMNIST(BiomedDataset):
    """Colorectal tissue textures, 8 classes."""

    key = "chmnist"
    dataset_dir = "CHMNIST"
    modality = "histopathology"
    organ = "colorectum"
    template = "a histopathological photo of a {}."
    grouping = Grouping(r"CRC-Prim-HE-(\d+)", "slide")
    published_classnames = (
        "adipose tissue",
        "complex stroma",
        "debris",
        "empty background",
        "immune cells",
        "normal mucosal glands",
        "simple stroma",
        "tumour epithelium",
    )
    published_sizes = (2496, 1000, 1504)
    drive_id = "1tyQiYQmqAGNaY4SCK_8U5vEbbaa1AD-g"
