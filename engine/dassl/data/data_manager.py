"""From a dataset to loaders."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T
from yacs.config import CfgNode

from dassl.data.datasets import Datum, build_dataset
from dassl.data.loader import EpochLoader, SharedCounts, scoped_seed
from dassl.data.samplers import Visit, build_sampler, epoch_key
from dassl.data.transforms import INTERPOLATION_MODES, build_transform
from dassl.utils import BadImageError, PixelSettings, SettingError, UnreadableImage, cores, read_image

log = logging.getLogger(__name__)


def build_data_loader(
    cfg: CfgNode,
    sampler_type: str = "SequentialSampler",
    data_source: Sequence[Datum] | None = None,
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm: Any = None,
    is_train: bool = True,
    dataset_wrapper: Callable[..., Dataset[Any]] | None = None,
) -> DataLoader[Any]:
    """A loader over ``data_source``; training drops the last incomplete batch when there is a whole one.

    Raises:
        SettingError: no images, or too few for one batch of the sampler's.
    """
    data_source = data_source or []
    if not data_source:
        raise SettingError(f"no {'training' if is_train else 'evaluation'} images in {cfg.DATASET.NAME}")
    sampler = build_sampler(sampler_type, cfg, data_source, batch_size, n_domain, n_ins)
    wrapper = (dataset_wrapper or DatasetWrapper)(cfg, data_source, transform=tfm, is_train=is_train)
    workers = min(cfg.DATALOADER.NUM_WORKERS, cores())  # more slow each other down; views do not depend on how many there are
    loader = EpochLoader(
        wrapper,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        drop_last=is_train and len(data_source) >= batch_size,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
        persistent_workers=workers > 0 and is_train,
        generator=torch.Generator().manual_seed(max(cfg.SEED, 0)),  # leaves the global stream to the model
    )
    if not len(loader):
        raise SettingError(f"{sampler_type} finds no batch of {batch_size} in {len(data_source)} images: lower BATCH_SIZE")
    return loader


class DataManager:
    """Builds the dataset, its transforms and its loaders.

    Args:
        cfg: the config.
        custom_tfm_train, custom_tfm_test: transforms instead of those of INPUT.TRANSFORMS.
        dataset_wrapper: instead of :class:`DatasetWrapper`.
    """

    def __init__(
        self,
        cfg: CfgNode,
        custom_tfm_train: Any = None,
        custom_tfm_test: Any = None,
        dataset_wrapper: Callable[..., Dataset[Any]] | None = None,
    ) -> None:
        dataset = build_dataset(cfg)
        tfm_train, tfm_test = _transform(cfg, custom_tfm_train, True), _transform(cfg, custom_tfm_test, False)

        def train_loader(source: list[Datum], section: CfgNode) -> DataLoader[Any]:
            return build_data_loader(
                cfg,
                section.SAMPLER,
                source,
                section.BATCH_SIZE,
                section.N_DOMAIN,
                section.N_INS,
                tfm_train,
                True,
                dataset_wrapper,
            )

        def test_loader(source: list[Datum]) -> DataLoader[Any]:
            section = cfg.DATALOADER.TEST
            return build_data_loader(
                cfg, section.SAMPLER, source, section.BATCH_SIZE, 0, 2, tfm_test, False, dataset_wrapper
            )

        section_x, section_u = cfg.DATALOADER.TRAIN_X, cfg.DATALOADER.TRAIN_U
        self.train_loader_x = train_loader(dataset.train_x, section_x)
        self.train_loader_u = None
        if dataset.train_u:
            chosen = section_x if section_u.SAME_AS_X else section_u
            self.train_loader_u = train_loader(dataset.train_u, chosen)
        self.val_loader = test_loader(dataset.val) if dataset.val else None
        self.test_loader = test_loader(dataset.test)
        self._num_classes = dataset.num_classes
        self._num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        self._lab2cname = dataset.lab2cname
        self.dataset = dataset
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    @property
    def num_classes(self) -> int:
        return self._num_classes

    @property
    def num_source_domains(self) -> int:
        return self._num_source_domains

    @property
    def lab2cname(self) -> dict[int, str]:
        return self._lab2cname

    def show_dataset_summary(self, cfg: CfgNode) -> None:
        """Log the dataset's name, domains and sizes."""
        own = cfg.DATASET
        rows = [("Dataset", own.NAME), ("Source", own.SOURCE_DOMAINS), ("Target", own.TARGET_DOMAINS)]
        rows.append(("# classes", f"{self.num_classes:,}"))
        for part in ("train_x", "train_u", "val", "test"):
            items = getattr(self.dataset, part)
            rows.append((f"# {part}", f"{len(items):,}" if items else ""))
        rows = [(name, str(value)) for name, value in rows if value]
        rule = "---------  " + "-" * max(len(value) for _, value in rows)
        log.info("%s", "\n".join([rule, *(f"{name:<9}  {value}" for name, value in rows), rule]))


def _transform(cfg: CfgNode, custom: Any, is_train: bool) -> Any:
    if custom is None:
        return build_transform(cfg, is_train=is_train)
    log.info("* Using custom transform for %s", "training" if is_train else "testing")
    return custom


class DatasetWrapper(Dataset[dict[str, Any]]):
    """Reads and transforms one image at a time.

    A view is a function of (cfg.SEED, epoch, pass, image, draw number) alone: not of the worker count, the method, or
    what else was drawn. Epoch and pass come with the index from the engine's samplers. A plain index, from another
    sampler or a loop of somebody's own, means the epoch that ``set_epoch`` told, and for each image the pass after its
    last one; what was told and counted lies in shared memory, so that running workers see it change.

    Items: ``label``, ``domain``, ``impath``, ``index`` and ``img``, (C, H, W); with K_TRANSFORMS > 1, a list of K of
    them. With a list of transforms there are ``img2``, ``img3``, … too; with RETURN_IMG0 ``img0``, which is not
    augmented, only resized. Without a transform ``img`` is the PIL image. Images are read by ``pixels``, the
    settings of INPUT that say how.
    """

    def __init__(
        self, cfg: CfgNode, data_source: Sequence[Datum], transform: Any = None, is_train: bool = False
    ) -> None:
        self.cfg, self.data_source = cfg, data_source
        self.transform, self.is_train = transform, is_train
        self.pixels = PixelSettings.from_cfg(cfg)
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        if self.k_tfm > 1 and transform is None:
            raise ValueError(f"Cannot augment the image {self.k_tfm} times because transform is None")
        self._seed = cfg.SEED if cfg.SEED >= 0 else random.getrandbits(31)
        # the epoch, and how often each image was asked for in it by a plain index
        self._told = SharedCounts(torch.zeros(1 + max(1, len(data_source)), dtype=torch.int64))
        mode = INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]
        steps = [T.Resize(tuple(cfg.INPUT.SIZE), interpolation=mode), T.ToTensor()]
        if "normalize" in cfg.INPUT.TRANSFORMS:
            steps.append(T.Normalize(mean=cfg.INPUT.PIXEL_MEAN, std=cfg.INPUT.PIXEL_STD))
        self.to_tensor = T.Compose(steps)

    def set_epoch(self, epoch: int) -> None:
        """Plain indices mean ``epoch`` from now on, the first pass of it."""
        self._told.values.zero_()
        self._told.values[0] = epoch

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        if isinstance(idx, Visit):
            return self.item(int(idx), idx.epoch, idx.turn)
        told = self._told.values
        place = 1 + idx % (len(told) - 1)  # of an image that somebody added to the source, too
        item = self.item(idx, int(told[0]), int(told[place]))
        told[place] += 1
        return item

    def item(self, idx: int, epoch: int, turn: int = 0) -> dict[str, Any]:
        """Image ``idx`` as ``epoch`` sees it in its first pass over the images, or in pass ``turn``."""
        item = self.data_source[idx]
        output = {"label": item.label, "domain": item.domain, "impath": item.impath, "index": idx}
        try:
            img0 = read_image(item.impath, self.pixels)
        except UnreadableImage as error:
            raise BadImageError(f"{item.impath} cannot be read as an image: {error.reason}") from error

        def views(transform: Callable[[Any], Any], number: int = 0) -> Any:
            draws = range(number * self.k_tfm, (number + 1) * self.k_tfm)
            drawn = [self._view(transform, img0, self.view_name(idx, epoch, draw, turn)) for draw in draws]
            return drawn[0] if self.k_tfm == 1 else drawn

        if isinstance(self.transform, (list, tuple)):
            for number, transform in enumerate(self.transform):
                output["img" if number == 0 else f"img{number + 1}"] = views(transform, number)
        else:
            output["img"] = img0 if self.transform is None else views(self.transform)
        if self.return_img0:
            output["img0"] = self.to_tensor(img0)
        return output

    def view_name(self, idx: int, epoch: int, draw: int = 0, turn: int = 0) -> str:
        """Name of the random stream that this view is drawn from; empty where nothing is drawn."""
        if not self.is_train:
            return ""
        root, path = os.path.expanduser(self.cfg.DATASET.ROOT), self.data_source[idx].impath
        if root and path.startswith(os.path.realpath(root) + os.sep):  # a root that is a link, of images found behind it
            root = os.path.realpath(root)
        name = os.path.relpath(path, root).replace(os.sep, "/") if root else path
        return f"view/{self._seed}/{epoch_key(epoch, turn)}/{name}/{draw}"

    @staticmethod
    def _view(transform: Callable[[Any], Any], img0: Any, stream: str) -> Any:
        if not stream:
            return transform(img0)
        with scoped_seed(stream):
            return transform(img0)
