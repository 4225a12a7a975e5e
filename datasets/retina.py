"""Fundus photography."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import BiomedDataset
from datasets.groups import Grouping


@DATASET_REGISTRY.register()
class RETINA(BiomedDataset):
    """Fundus photography, 4 classes."""

    key = "retina"
    dataset_dir = "RETINA"
    modality = "fundus photography"
    organ = "retina"
    template = "a photo of a {} presented in image."
    grouping = Grouping(
        r"(?:^|/)(\d+)_(?:left|right)\.",
        "patient",
        "an eye's number with left and right is a patient's; other names (_78_1065003.jpg, cataract_040.jpg) tell none",
    )
    published_classnames = (
        "diabetic retinopathy",
        "glaucoma",
        "cataract",
        "normal retina",
    )
    published_sizes = (2108, 841, 1268)
    drive_id = "18U-Gc22h5QryomNNzY4r4Qfrq52yf5EO"
