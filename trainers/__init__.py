"""The methods. Importing this package registers each with Dassl's TRAINER_REGISTRY; a new method adds a line."""

import datasets  # noqa: F401  (registers the datasets)
from trainers import (  # noqa: F401
    biomed_dpt,
    biomedcoop,
    clip_adapter,
    cocoop,
    coop,
    dpt,
    gda,
    kgcoop,
    linear_probe,
    lp_plus_plus,
    maple,
    prograd,
    promptsrc,
    tip_adapter,
    vpt,
    zero_shot,
)
