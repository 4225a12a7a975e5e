"""Gastrointestinal endoscopy."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import BiomedDataset
from datasets.groups import Grouping


@DATASET_REGISTRY.register()
class Kvasir(BiomedDataset):
    """Gastrointestinal endoscopy, 8 classes."""

    key = "kvasir"
    dataset_dir = "Kvasir"
    modality = "endoscopy"
    organ = "colon"
    template = "a endoscopic photo of a {} in the colon."
    grouping = Grouping(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})_\d+\.", "sequence")
    published_classnames = (
        "dyed lifted polyps",
        "dyed resection margins",
        "esophagitis",
        "normal cecum",
        "normal pylorus",
        "normal z line",
        "polyps",
        "ulcerative colitis",
    )
    published_sizes = (2000, 800, 1200)
    drive_id = "1T_cqnNIjmGazNeg6gziarvCNWGsFEkRi"
