"""Retinal optical coherence tomography."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import BiomedDataset


@DATASET_REGISTRY.register()
class OCTMNIST(BiomedDataset):
    """Retinal optical coherence tomography, 4 classes."""

    key = "octmnist"
    dataset_dir = "OCTMNIST"
    modality = "OCT"
    organ = "retina"
    template = "a OCT photo of a {}."
    published_classnames = (
        "choroidal neovascularization",
        "diabetic macular edema",
        "drusen",
        "normal OCT scan",
    )
    published_sizes = (97477, 10832, 1000)
    drive_id = "1mYZNWxbPxnnVvcwHQYybA8gdMzQAoOem"
