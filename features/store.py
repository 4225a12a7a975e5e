"""The frozen features of one run: training and validation images, and training views, each encoded once."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm
from yacs.config import CfgNode

from dassl.data import DataManager
from dassl.data.data_manager import build_data_loader

PARTS = ("train", "val")


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


class FeatureStore:
    """Encodes on demand, in large batches, and keeps what it encoded.

    A method chooses its settings with what is in here, so there is no way in for test images: they are encoded by the
    trainer's ``test()`` alone.

    Args:
        encode: images (B, 3, H, W) -> (B, D), on any device and in any precision.
        images: part ("train", "val") -> loader of its images under the test transform, or ``None`` without images.
        views: loader over all training images in order, whose dataset has ``set_epoch`` and draws the training views.
        kept: name -> what was encoded. A mapping that reads and writes files makes the store outlive the run.

    Raises:
        ValueError: another part than "train" and "val".
    """

    def __init__(
        self,
        encode: Callable[[Tensor], Tensor],
        images: dict[str, DataLoader[Any] | None],
        views: DataLoader[Any],
        kept: MutableMapping[str, FeatureSet] | None = None,
    ) -> None:
        for part in images:
            self._check(part)
        self._encode, self._images, self._views = encode, images, views
        self._kept: MutableMapping[str, FeatureSet] = {} if kept is None else kept

    def images(self, part: str) -> FeatureSet | None:
        """The images of "train" or "val" under the test transform, in the split's order; ``None`` if it has none."""
        self._check(part)
        loader = self._images.get(part)
        return None if loader is None else self._get(f"{part} images", loader, keep=True)

    def views(self, epoch: int, keep: bool = True) -> FeatureSet:
        """The views of the training images that ``epoch`` (from 0) trains on, in the split's order.

        Args:
            keep: whether this epoch will be asked for again; what is not kept takes no memory.
        """
        self._views.dataset.set_epoch(epoch)
        return self._get(f"train views {epoch}", self._views, keep)

    @staticmethod
    def _check(part: str) -> None:
        if part not in PARTS:
            raise ValueError(f'a feature store holds {" and ".join(PARTS)}, not "{part}": only test() sees test images')

    def _get(self, name: str, loader: DataLoader[Any], keep: bool) -> FeatureSet:
        if name in self._kept:
            return self._kept[name]
        found = self._encode_all(loader, name)
        if keep:
            self._kept[name] = found
        return found

    @torch.no_grad()
    def _encode_all(self, loader: DataLoader[Any], name: str) -> FeatureSet:
        features, labels = [], []
        for batch in tqdm(loader, desc=f"encode {name}", disable=None, leave=False):
            features.append(self._encode(batch["img"]).float().cpu())
            labels.append(batch["label"])
        return FeatureSet(torch.cat(features), torch.cat(labels))


def build_store(cfg: CfgNode, dm: DataManager, encode: Callable[[Tensor], Tensor]) -> FeatureStore:
    """The store of a run's training and validation images, encoded DATALOADER.TEST.BATCH_SIZE at a time.

    The views are those of the data manager's own training loader: a function of seed, epoch and image.
    """
    size, workers = cfg.DATALOADER.TEST.BATCH_SIZE, cfg.DATALOADER.NUM_WORKERS
    transform = dm.test_loader.dataset.transform  # the transform, none of the images
    plain = build_data_loader(cfg, data_source=dm.dataset.train_x, batch_size=size, tfm=transform, is_train=False)
    views = DataLoader(
        dm.train_loader_x.dataset,
        batch_size=size,
        num_workers=workers,
        pin_memory=plain.pin_memory,
        persistent_workers=workers > 0,
    )
    return FeatureStore(encode, {"train": plain, "val": dm.val_loader}, views)
