"""The frozen features of one run: training and validation images, and training views, each encoded once."""

from __future__ import annotations

from yacs.config import CfgNode

from dassl.data import DataManager, DatasetWrapper
from features.disk import CHUNK
from features.encoder import Encoder, FeatureSet

PARTS = ("train", "val")


class FeatureStore:
    """Encodes on demand, in large batches, and keeps what it encoded.

    A method chooses its settings with what is in here, so there is no way in for test images: they are encoded by the
    trainer's ``test()`` alone.

    Args:
        encoder: encodes, and keeps on disk where it has a folder.
        images: part ("train", "val") -> its images under the test transform, or ``None`` without images.
        views: all training images, with the transform that draws the training views.
        last_epoch: views of epochs below this are encoded several epochs at a time.
        bank: with V > 0 epoch e trains on the views of epoch e mod V.

    Raises:
        ValueError: another part than "train" and "val".
    """

    def __init__(
        self,
        encoder: Encoder,
        images: dict[str, DatasetWrapper | None],
        views: DatasetWrapper,
        last_epoch: int = 0,
        bank: int = 0,
    ) -> None:
        for part in images:
            self._check(part)
        self.encoder, self._images, self._views = encoder, images, views
        self.last_epoch, self.bank = min(last_epoch, bank) if bank else last_epoch, bank
        self.ahead = max(1, CHUNK // max(1, len(views)))
        self._kept: dict[str, FeatureSet] = {}
        self._coming: dict[int, FeatureSet] = {}

    def images(self, part: str) -> FeatureSet | None:
        """The images of "train" or "val" under the test transform, in the split's order; ``None`` if it has none."""
        self._check(part)
        dataset = self._images.get(part)
        if dataset is None:
            return None
        if part not in self._kept:
            self._kept[part] = self.encoder(dataset, name=f"{part} images")[0]
        return self._kept[part]

    def views(self, epoch: int, keep: bool = True) -> FeatureSet:
        """The views of the training images that ``epoch`` (from 0) trains on, in the split's order.

        Args:
            keep: whether this epoch will be asked for again; what is not kept takes no memory.
        """
        epoch = epoch % self.bank if self.bank else epoch
        if epoch not in self._coming:
            epochs = range(epoch, max(epoch + 1, min(epoch + self.ahead, self.last_epoch)))
            self._coming |= zip(epochs, self.encoder(self._views, epochs, "training views"), strict=True)
        return self._coming[epoch] if keep or self.bank else self._coming.pop(epoch)

    @staticmethod
    def _check(part: str) -> None:
        if part not in PARTS:
            raise ValueError(f'a feature store holds {" and ".join(PARTS)}, not "{part}": only test() sees test images')


def build_store(cfg: CfgNode, dm: DataManager, encoder: Encoder) -> FeatureStore:
    """The store of a run's training and validation images.

    The views are those of the data manager's own training loader: a function of seed, epoch and image.
    """
    transform = dm.test_loader.dataset.transform  # the transform, none of the images
    plain = DatasetWrapper(cfg, dm.dataset.train_x, transform=transform, is_train=False)
    images = {"train": plain, "val": dm.val_loader.dataset if dm.val_loader is not None else None}
    return FeatureStore(encoder, images, dm.train_loader_x.dataset, cfg.OPTIM.MAX_EPOCH, cfg.FEATURES.VIEWS)
