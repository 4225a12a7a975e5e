"""Knee X-ray, grades of osteoarthritis."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import BiomedDataset
from datasets.groups import Grouping


@DATASET_REGISTRY.register()
class KneeXray(BiomedDataset):
    """Knee X-ray, grades of osteoarthritis, 5 classes."""

    key = "kneexray"
    dataset_dir = "KneeXray"
    modality = "X-ray"
    organ = "knee"
    template = "a frontal X-ray photo of a {} in the knee joint."
    grouping = Grouping(r"(?:^|/)(\d{7})[LR]\.", "patient")
    published_classnames = (
        "healthy knee",
        "doubtful osteoarthritis",
        "minimal osteoarthritis",
        "moderate osteoarthritis",
        "severe osteoarthritis",
    )
    published_sizes = (5778, 826, 1656)
    ordered = True
    drive_id = "1DBVraYJmxy2UcQ_nGLYvTB2reITOm453"
