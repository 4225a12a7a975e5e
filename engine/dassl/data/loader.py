"""Random views and orders that depend on the seed, the epoch and the image, and on nothing else."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader


class SharedCounts:
    """Whole numbers in memory that running workers share; a copy has memory of its own, which its workers share."""

    def __init__(self, values: Tensor) -> None:
        self.values = values if values.is_shared() else values.clone().share_memory_()

    def __reduce__(self) -> tuple[type[SharedCounts], tuple[Tensor]]:
        return SharedCounts, (self.values,)


class EpochLoader(DataLoader[Any]):
    """A loader that tells its sampler how often it was gone through in this epoch.

    In an epoch that goes over the loader again (as when unlabelled images outnumber labelled ones), or in a loop that
    never calls :func:`set_loader_epoch`, each pass has an order and views of its own all the same.
    """

    turn = 0

    def __iter__(self) -> Any:
        _tell(self, "set_pass", self.turn)
        self.turn += 1
        return super().__iter__()


def set_loader_epoch(loader: Any, epoch: int) -> None:
    """Tell a loader's sampler and dataset, as far as they ask, which epoch begins."""
    if isinstance(loader, EpochLoader):
        loader.turn = 0
    _tell(loader, "set_epoch", epoch)


def _tell(loader: Any, what: str, number: int) -> None:
    for part in (getattr(loader, "sampler", None), getattr(loader, "dataset", None)):
        if hasattr(part, what):
            getattr(part, what)(number)


@contextmanager
def scoped_seed(key: str) -> Iterator[None]:
    """Every random source seeded from ``key`` inside, as it was outside."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
    python, numpy = random.getstate(), np.random.get_state()
    torch_state = torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.random.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(torch_state)
