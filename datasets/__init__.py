"""The datasets. Importing this package registers each with Dassl's DATASET_REGISTRY; a new dataset adds a line.

Here belong a dataset's names, template and classes, split files and few-shot draws, the LLM prompts with their rules and
generator (``prompts``), and the rehearsal images (``phantom``). No model is known here: what reads prompts with a text tower is
in ``explain``.
"""

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UserError, nearest
from datasets import (  # noqa: F401
    btmri,
    busi,
    chmnist,
    covid,
    ctkidney,
    dermamnist,
    image_folder,
    kneexray,
    kvasir,
    lungcolon,
    octmnist,
    retina,
)
from datasets.base import BiomedDataset


def by_key() -> dict[str, type[BiomedDataset]]:
    """The published datasets by their short key (the name of their config file)."""
    found = (DATASET_REGISTRY.get(name) for name in DATASET_REGISTRY.registered_names())
    return {cls.key: cls for cls in found if issubclass(cls, BiomedDataset) and cls.key}


def by_any_name() -> dict[str, type[BiomedDataset]]:
    """The published datasets by each word that stands for them, in lower case: key, class, folder."""
    return {word.lower(): cls for key, cls in by_key().items() for word in (key, cls.__name__, cls.dataset_dir)}


def of_name(name: str) -> type[BiomedDataset]:
    """The published dataset of a key or name ("btmri", "BTMRI"), in any case.

    Raises:
        UserError: there is none.
    """
    known = by_any_name()
    if name.lower() not in known:
        raise UserError(
            f'unknown dataset "{name}".{nearest(name, known)} Valid: {", ".join(by_key())}, or a dataset\'s YAML file'
        )
    return known[name.lower()]
