"""Chest X-ray."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import BiomedDataset


@DATASET_REGISTRY.register()
class COVID_19(BiomedDataset):
    """Chest X-ray, 4 classes."""

    key = "covid"
    dataset_dir = "COVID_19"
    modality = "X-ray"
    organ = "chest"
    template = "a chest X-ray photo of a {} affected by COVID-19 in the lung."
    published_classnames = (
        "covid lungs",
        "lung opacity lungs",
        "viral pneumonia lungs",
        "normal lungs",
    )
    published_sizes = (10582, 4232, 6351)
    drive_id = "1zMLN5q5e_tmH-deSZQiY4Xq0M1EqCrML"
