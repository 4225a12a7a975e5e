"""Mini-batches of features in place of a loader's mini-batches of images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from features.encoder import Encoder
from features.store import FeatureStore


class FeatureLoader:
    """Stands where a training loader stood: the same images in the same batches, encoded.

    Batches are ``{"img": (B, D), "label": (B,)}``; length, sampler and ``dataset.set_epoch`` are as the engine's
    epoch loop expects them.

    Args:
        loader: the training loader of images; its batches decide which rows go together.
        store: gives the views of an epoch.
        keep: whether epochs are gone through more than once.
    """

    def __init__(self, loader: DataLoader[Any], store: FeatureStore, keep: bool = False) -> None:
        self._loader, self._store, self.keep = loader, store, keep
        self._epoch = 0

    @property
    def sampler(self) -> Sampler[int]:
        return self._loader.sampler

    @property
    def dataset(self) -> FeatureLoader:
        return self

    @property
    def epochs_ahead(self) -> int:
        """For how many epochs views are encoded at a time: the first step of so many epochs waits for it."""
        return self._store.ahead

    def set_epoch(self, epoch: int) -> None:
        """Which epoch's views the next iteration gives."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        views = self._store.views(self._epoch, self.keep)
        for rows in self._loader.batch_sampler:
            yield {"img": views.features[rows], "label": views.labels[rows]}


class StoredLoader:
    """Stands where a validation or test loader stood; its images are encoded when it is first gone through.

    Batches are ``{"img": (B, D), "label": (B,), "impath": [B paths]}``.
    """

    def __init__(self, loader: DataLoader[Any], encoder: Encoder) -> None:
        self._loader, self._encoder = loader, encoder
        self.dataset = loader.dataset

    def __len__(self) -> int:
        return len(self._loader)

    def fill(self) -> None:
        """Encode now what the store has not seen, so that a bad image is told now; no label is read."""
        views = [(0, number) for number in range(len(self.dataset))]
        self._encoder._rows(self.dataset, views, "evaluation images")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        found = self._encoder(self.dataset, name="evaluation images")[0]
        for rows in self._loader.batch_sampler:
            paths = [self.dataset.data_source[row].impath for row in rows]
            yield {"img": found.features[rows], "label": found.labels[rows], "impath": paths}
