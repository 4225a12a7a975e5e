"""Encodes the images of a dataset, each once: what is on disk is read, what is not is encoded in large batches and kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from dassl.data import DatasetWrapper
from dassl.utils import PixelSettings, cores, reading
from features.disk import Space, digest

WORTH_A_WORKER = 128  # images: a worker process starts in about the time that it takes to read so many


@dataclass(frozen=True)
class FeatureSet:
    """N encoded images, on the CPU.

    Attributes:
        features: (N, D) float32 as the image tower gives them, not normalised.
        labels: (N,) int64.
    """

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


class _Views(Dataset[Tensor]):
    """Some (epoch, number) views of a dataset: (C, H, W) each."""

    def __init__(self, dataset: DatasetWrapper, wanted: Sequence[tuple[int, int]]) -> None:
        self.dataset, self.wanted = dataset, wanted

    def __len__(self) -> int:
        return len(self.wanted)

    def __getitem__(self, position: int) -> Tensor:
        epoch, number = self.wanted[position]
        return self.dataset.item(number, epoch)["img"]


class Encoder:
    """Features of a dataset's images.

    Args:
        encode: images (B, 3, H, W) -> (B, D), on any device and in any precision.
        batch_size, workers: how the images are read and encoded.
        root: folder of the spaces on disk; ``None`` keeps nothing.
        about: what decides the features besides image and transform (weights, visual prompt, precision); called once
            something is encoded.
    """

    def __init__(
        self,
        encode: Callable[[Tensor], Tensor],
        batch_size: int,
        workers: int = 0,
        root: Path | None = None,
        about: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.encode, self.batch_size, self.workers = encode, batch_size, workers
        self.root, self._about = root, about
        self._spaces: dict[str, Space] = {}

    def __call__(self, dataset: DatasetWrapper, epochs: Sequence[int] = (0,), name: str = "images") -> list[FeatureSet]:
        """One :class:`FeatureSet` per epoch, each of all images in the dataset's order."""
        labels = torch.tensor([item.label for item in dataset.data_source])
        views = [(epoch, number) for epoch in epochs for number in range(len(dataset))]
        rows = self._rows(dataset, views, name)
        return [FeatureSet(part, labels) for part in rows.split(len(dataset))]

    def _rows(self, dataset: DatasetWrapper, views: list[tuple[int, int]], name: str) -> Tensor:
        if self.root is None:
            return self._encoded(dataset, views, name)
        keys = [view_key(dataset, epoch, number) for epoch, number in views]
        return self._space(dataset).fetch(keys, lambda absent: self._encoded(dataset, [views[i] for i in absent], name))

    def _encoded(self, dataset: DatasetWrapper, views: Sequence[tuple[int, int]], name: str) -> Tensor:
        # a generator of its own: what is on disk already must not move the training's random stream
        loader = DataLoader(
            _Views(dataset, views),
            self.batch_size,
            num_workers=min(self.workers, cores(), len(views) // WORTH_A_WORKER),
            generator=torch.Generator().manual_seed(0),
            pin_memory=torch.cuda.is_available(),
        )
        with torch.inference_mode():
            batches = tqdm(loader, desc=f"encode {name}", disable=None, leave=False)
            rows = [self.encode(batch).float().cpu() for batch in batches]
        return torch.cat(rows)

    def _space(self, dataset: DatasetWrapper) -> Space:
        transform = transform_name(dataset.transform)
        if transform not in self._spaces:
            self._spaces[transform] = Space(self.root, {**self._about(), "transform": transform})
        return self._spaces[transform]


def transform_name(transform: Any) -> str:
    """What a transform does, in words: each step's ``repr``, or its class and attributes where it has none of its own."""
    steps = getattr(transform, "transforms", [transform])
    return "; ".join(
        f"{type(step).__name__}{vars(step)}" if type(step).__repr__ is object.__repr__ else repr(step) for step in steps
    )


def view_key(dataset: DatasetWrapper, epoch: int, number: int) -> bytes:
    """The image's contents, and the random stream that its view is drawn from (none under a test transform).

    How the file is read is part of the key where that is not Pillow's ``convert("RGB")``: features of such files that were
    stored before there was another way are never found again, those of all others are.
    """
    path = dataset.data_source[number].impath
    status = os.stat(path)
    state = (path, status.st_size, status.st_mtime_ns)
    how = _reading(*state, dataset.pixels)
    return digest(content(*state), dataset.view_name(number, epoch), *([how] if how else []))


@lru_cache(maxsize=200_000)
def content(path: str, size: int, modified: int) -> bytes:
    """SHA-256 of a file, read again when its size or time changes."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).digest()


@lru_cache(maxsize=200_000)
def _reading(path: str, size: int, modified: int, settings: PixelSettings) -> str:
    """:func:`dassl.utils.reading`, looked up again when the file changes."""
    return reading(path, settings)
