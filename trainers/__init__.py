"""The methods. Importing this package registers each with Dassl's TRAINER_REGISTRY; a new method adds a line.

Here belong the methods, a file each, and what a method is made of: its base classes, prompt learners, prompt selection,
evaluator and checkpoints. What happens to a method (config files, folders, protocols, results files) is in ``runs``, which
this package does not know; the frozen models are in ``backbones``, images and prompts in ``datasets``.
"""

import datasets  # noqa: F401  (registers the datasets)
from dassl.engine import TRAINER_REGISTRY
from trainers import (  # noqa: F401
    biomed_ap,
    biomed_ccpl,
    biomed_dpt,
    biomedcoop,
    clip_adapter,
    clip_lora,
    cocoop,
    coop,
    dpt,
    gda,
    kgcoop,
    linear_probe,
    lp_plus_plus,
    maple,
    prograd,
    proker,
    promptsrc,
    ss_text,
    timo,
    tip_adapter,
    vpt,
    zero_shot,
)
from trainers.base import VLTrainer


def methods() -> dict[str, type[VLTrainer]]:
    """The registered trainers of this project by name, in the order in which they were registered."""
    found = {name: TRAINER_REGISTRY.get(name) for name in TRAINER_REGISTRY.registered_names()}
    return {name: cls for name, cls in found.items() if isinstance(cls, type) and issubclass(cls, VLTrainer)}
