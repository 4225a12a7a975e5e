"""Image transforms by name, on torchvision."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import transforms as T
from torchvision.transforms.functional import InterpolationMode
from yacs.config import CfgNode

from dassl.utils import UserError, nearest

log = logging.getLogger(__name__)

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}

AVAI_CHOICES = (
    "random_flip",
    "random_resized_crop",
    "random_translation",
    "random_crop",
    "center_crop",
    "normalize",
    "instance_norm",
    "imagenet_policy",
    "cifar10_policy",
    "svhn_policy",
    "autoaugment",
    "randaugment",
    "randaugment_fixmatch",
    "randaugment2",
    "cutout",
    "gaussian_noise",
    "gaussian_blur",
    "colorjitter",
    "randomgrayscale",
)
POLICIES = {
    "autoaugment": T.AutoAugmentPolicy.IMAGENET,
    "imagenet_policy": T.AutoAugmentPolicy.IMAGENET,
    "cifar10_policy": T.AutoAugmentPolicy.CIFAR10,
    "svhn_policy": T.AutoAugmentPolicy.SVHN,
}


class Random2DTranslation:
    """With probability p: enlarge a PIL image by 1/8 and crop (height, width) from it at random."""

    def __init__(self, height: int, width: int, p: float = 0.5, interpolation: Any = InterpolationMode.BILINEAR) -> None:
        self.size, self.p = (height, width), p
        larger = (round(height * 1.125), round(width * 1.125))
        self.plain = T.Resize(self.size, interpolation)
        self.shifted = T.Compose([T.Resize(larger, interpolation), T.RandomCrop(self.size)])

    def __call__(self, img: Any) -> Any:
        return self.plain(img) if torch.rand(1).item() > self.p else self.shifted(img)


class InstanceNormalization:
    """(C, H, W): subtract each channel's mean, divide by its standard deviation."""

    def __init__(self, eps: float = 1e-8) -> None:
        self.eps = eps

    def __call__(self, img: Tensor) -> Tensor:
        flat = img.flatten(1)
        return (img - flat.mean(1)[:, None, None]) / (flat.std(1)[:, None, None] + self.eps)


class Cutout:
    """(C, H, W): set ``n_holes`` squares of side ``length`` at random centres to 0."""

    def __init__(self, n_holes: int = 1, length: int = 16) -> None:
        self.n_holes, self.length = n_holes, length

    def __call__(self, img: Tensor) -> Tensor:
        height, width = img.shape[1:]
        img = img.clone()
        for _ in range(self.n_holes):
            y, x = int(torch.randint(height, (1,))), int(torch.randint(width, (1,)))
            top, left = max(0, y - self.length // 2), max(0, x - self.length // 2)
            img[:, top : y + self.length // 2, left : x + self.length // 2] = 0
        return img


class GaussianNoise:
    """Add normal noise to a tensor, with probability p."""

    def __init__(self, mean: float = 0.0, std: float = 0.15, p: float = 0.5) -> None:
        self.mean, self.std, self.p = mean, std, p

    def __call__(self, img: Tensor) -> Tensor:
        if torch.rand(1).item() > self.p:
            return img
        return img + torch.randn(img.shape) * self.std + self.mean


def build_transform(
    cfg: CfgNode, is_train: bool = True, choices: Sequence[str] | None = None
) -> Callable[[Any], Tensor] | None:
    """The training or test transform: PIL image -> (3, H, W).

    Args:
        cfg: its INPUT section.
        is_train: with augmentation.
        choices: names instead of INPUT.TRANSFORMS.

    Raises:
        UserError: an unknown transform or interpolation, with the nearest valid one.
    """
    if cfg.INPUT.NO_TRANSFORM:
        return None
    names = list(cfg.INPUT.TRANSFORMS if choices is None else choices)
    for name in names:
        if name not in AVAI_CHOICES:
            raise UserError(f'unknown transform "{name}".{nearest(name, AVAI_CHOICES)} Valid: {", ".join(AVAI_CHOICES)}')
    mode = cfg.INPUT.INTERPOLATION
    if mode not in INTERPOLATION_MODES:
        raise UserError(f'INPUT.INTERPOLATION is "{mode}", must be one of {", ".join(INTERPOLATION_MODES)}')
    build = _train if is_train else _test
    steps = build(cfg.INPUT, names, INTERPOLATION_MODES[mode])
    if cfg.VERBOSE:
        log.info("Building transform_%s: %s", "train" if is_train else "test", steps)
    return T.Compose(steps)


def _train(cfg: CfgNode, names: Sequence[str], mode: InterpolationMode) -> list[Any]:
    size = tuple(cfg.SIZE)
    steps: list[Any] = []
    if "random_crop" not in names and "random_resized_crop" not in names:
        steps.append(T.Resize(size, interpolation=mode))
    makers: dict[str, Callable[[], Any]] = {
        "random_translation": lambda: Random2DTranslation(*size, interpolation=mode),
        "random_crop": lambda: T.RandomCrop(size, padding=cfg.CROP_PADDING),
        "random_resized_crop": lambda: T.RandomResizedCrop(size, scale=tuple(cfg.RRCROP_SCALE), interpolation=mode),
        "center_crop": lambda: T.CenterCrop(size),
        "random_flip": lambda: T.RandomHorizontalFlip(),
        **{name: (lambda policy=policy: T.AutoAugment(policy)) for name, policy in POLICIES.items()},
        "randaugment": lambda: T.RandAugment(cfg.RANDAUGMENT_N, cfg.RANDAUGMENT_M),
        "randaugment_fixmatch": lambda: T.RandAugment(cfg.RANDAUGMENT_N, cfg.RANDAUGMENT_M),
        "randaugment2": lambda: T.RandAugment(cfg.RANDAUGMENT_N, cfg.RANDAUGMENT_M),
        "colorjitter": lambda: T.ColorJitter(
            cfg.COLORJITTER_B, cfg.COLORJITTER_C, cfg.COLORJITTER_S, cfg.COLORJITTER_H
        ),
        "randomgrayscale": lambda: T.RandomGrayscale(cfg.RGS_P),
        "gaussian_blur": lambda: T.RandomApply([T.GaussianBlur(cfg.GB_K)], cfg.GB_P),
        "to_tensor": T.ToTensor,
        "cutout": lambda: Cutout(cfg.CUTOUT_N, cfg.CUTOUT_LEN),
        **_normalisers(cfg),
        "gaussian_noise": lambda: GaussianNoise(cfg.GN_MEAN, cfg.GN_STD),
    }
    return steps + [make() for name, make in makers.items() if name in names or name == "to_tensor"]


def _test(cfg: CfgNode, names: Sequence[str], mode: InterpolationMode) -> list[Any]:
    size = tuple(cfg.SIZE)
    steps: list[Any] = [T.Resize(max(size), interpolation=mode), T.CenterCrop(size), T.ToTensor()]
    return steps + [make() for name, make in _normalisers(cfg).items() if name in names]


def _normalisers(cfg: CfgNode) -> dict[str, Callable[[], Any]]:
    return {
        "normalize": lambda: T.Normalize(mean=cfg.PIXEL_MEAN, std=cfg.PIXEL_STD),
        "instance_norm": InstanceNormalization,
    }
