"""Pigmented skin lesions."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import BiomedDataset
from datasets.groups import Grouping


@DATASET_REGISTRY.register()
class DermaMNIST(BiomedDataset):
    """Pigmented skin lesions, 7 classes."""

    key = "dermamnist"
    dataset_dir = "DermaMNIST"
    modality = "dermatoscopy"
    organ = "skin"
    template = "a dermatoscopy photo of a {} in the skin."
    grouping = Grouping(
        "",
        why="HAM10000 has several images of one lesion, and its HAM10000_metadata.csv has the lesion of each image",
    )
    published_classnames = (
        "actinic keratosis",
        "basal cell carcinoma",
        "benign keratosis",
        "dermatofibroma",
        "melanoma",
        "melanocytic nevus",
        "vascular lesion",
    )
    published_sizes = (7006, 1003, 2005)
    drive_id = "1Jxd1-DWljunRDZ8fY80dl5zUMefriQXt"
