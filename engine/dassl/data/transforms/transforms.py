"""Image transforms by name, on torchvision."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import transforms as T
from torchvision.transforms import functional as F
from torchvision.transforms.functional import InterpolationMode
from yacs.config import CfgNode

from dassl.data.transforms.randaugment import RandAugment, RandAugment2, RandAugmentFixMatch
from dassl.utils import check_availability

log = logging.getLogger(__name__)

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}

AVAI_CHOICES = [
    "random_flip",
    "random_resized_crop",
    "random_translation",
    "random_crop",
    "center_crop",  # always done in testing, never in training
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
]
POLICIES = {
    "autoaugment": T.AutoAugmentPolicy.IMAGENET,
    "imagenet_policy": T.AutoAugmentPolicy.IMAGENET,
    "cifar10_policy": T.AutoAugmentPolicy.CIFAR10,
    "svhn_policy": T.AutoAugmentPolicy.SVHN,
}
POLICY_FILL = [128.0] * 3  # what Dassl's policies fill a shifted image with

Step = tuple[str, Callable[[], Any]]  # what the log says, and how to make the transform


class Random2DTranslation:
    """With probability p: enlarge a PIL image by 1/8 and crop (height, width) from it at random; else only resize it."""

    def __init__(
        self, height: int, width: int, p: float = 0.5, interpolation: InterpolationMode = InterpolationMode.BILINEAR
    ) -> None:
        self.height, self.width, self.p, self.interpolation = height, width, p, interpolation

    def __call__(self, img: Any) -> Any:
        size = [self.height, self.width]
        if random.uniform(0, 1) > self.p:
            return F.resize(img, size, self.interpolation)
        larger = [round(side * 1.125) for side in size]
        top, left = (round(random.uniform(0, big - side)) for big, side in zip(larger, size, strict=True))
        return F.crop(F.resize(img, larger, self.interpolation), top, left, *size)


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
    """The training or test transform: PIL image -> (3, H, W). Its parts are logged one by one if VERBOSE.

    Args:
        cfg: its INPUT section.
        is_train: with augmentation.
        choices: names instead of INPUT.TRANSFORMS.

    Raises:
        UnknownNameError: an unknown transform or interpolation, with the nearest valid one.
    """
    if cfg.INPUT.NO_TRANSFORM:
        if cfg.VERBOSE:
            log.info("Note: no transform is applied!")
        return None
    names = list(cfg.INPUT.TRANSFORMS if choices is None else choices)
    for name in names:
        check_availability(name, AVAI_CHOICES, "INPUT.TRANSFORMS")
    check_availability(cfg.INPUT.INTERPOLATION, INTERPOLATION_MODES, "INPUT.INTERPOLATION")
    steps = (_train if is_train else _test)(cfg.INPUT, names, INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION])
    if cfg.VERBOSE:
        log.info("Building transform_%s", "train" if is_train else "test")
        for said, _ in steps:
            log.info("+ %s", said)
    return T.Compose([make() for _, make in steps])


def _train(cfg: CfgNode, names: Sequence[str], mode: InterpolationMode) -> list[Step]:
    size = tuple(cfg.SIZE)
    catalogue = {
        **_crops(cfg, size, mode),
        **_policies(cfg),
        **_colours(cfg),
        "to_tensor": TO_TENSOR,
        "cutout": (
            f"cutout (n_holes={cfg.CUTOUT_N}, length={cfg.CUTOUT_LEN})",
            lambda: Cutout(cfg.CUTOUT_N, cfg.CUTOUT_LEN),
        ),
        **_normalize(cfg),
        "gaussian_noise": (
            f"gaussian noise (mean={cfg.GN_MEAN}, std={cfg.GN_STD})",
            lambda: GaussianNoise(cfg.GN_MEAN, cfg.GN_STD),
        ),
        "instance_norm": INSTANCE_NORM,
    }
    resize: list[Step] = []
    if "random_crop" not in names and "random_resized_crop" not in names:
        resize.append((f"resize to {size[0]}x{size[1]}", lambda: T.Resize(size, interpolation=mode)))
    return resize + [step for name, step in catalogue.items() if name in names or name == "to_tensor"]


def _test(cfg: CfgNode, names: Sequence[str], mode: InterpolationMode) -> list[Step]:
    size = tuple(cfg.SIZE)
    steps: list[Step] = [
        (f"resize the smaller edge to {max(size)}", lambda: T.Resize(max(size), interpolation=mode)),
        (f"{size[0]}x{size[1]} center crop", lambda: T.CenterCrop(size)),
        TO_TENSOR,
    ]
    normalisers = {**_normalize(cfg), "instance_norm": INSTANCE_NORM}
    return steps + [step for name, step in normalisers.items() if name in names]


TO_TENSOR: Step = ("to torch tensor of range [0, 1]", T.ToTensor)
INSTANCE_NORM: Step = ("instance normalization", InstanceNormalization)


def _crops(cfg: CfgNode, size: tuple[int, int], mode: InterpolationMode) -> dict[str, Step]:
    scale = tuple(cfg.RRCROP_SCALE)
    return {
        # bilinear whatever INPUT.INTERPOLATION is, as upstream
        "random_translation": ("random translation", lambda: Random2DTranslation(*size)),
        "random_crop": (
            f"random crop (padding = {cfg.CROP_PADDING})",
            lambda: T.RandomCrop(size, padding=cfg.CROP_PADDING),
        ),
        "random_resized_crop": (
            f"random resized crop (size={size}, scale={scale})",
            lambda: T.RandomResizedCrop(size, scale=scale, interpolation=mode),
        ),
        "random_flip": ("random flip", T.RandomHorizontalFlip),
    }


def _policies(cfg: CfgNode) -> dict[str, Step]:
    n, m = cfg.RANDAUGMENT_N, cfg.RANDAUGMENT_M
    learned: dict[str, Step] = {
        name: (name.replace("_", " "), lambda policy=policy: T.AutoAugment(policy, fill=POLICY_FILL))
        for name, policy in POLICIES.items()
    }
    return learned | {
        "randaugment": (f"randaugment (n={n}, m={m})", lambda: RandAugment(n, m)),
        "randaugment_fixmatch": (f"randaugment_fixmatch (n={n})", lambda: RandAugmentFixMatch(n)),
        "randaugment2": (f"randaugment2 (n={n})", lambda: RandAugment2(n)),
    }


def _colours(cfg: CfgNode) -> dict[str, Step]:
    b, c, s, h = cfg.COLORJITTER_B, cfg.COLORJITTER_C, cfg.COLORJITTER_S, cfg.COLORJITTER_H
    return {
        "colorjitter": (
            f"color jitter (brightness={b}, contrast={c}, saturation={s}, hue={h})",
            lambda: T.ColorJitter(brightness=b, contrast=c, saturation=s, hue=h),
        ),
        "randomgrayscale": ("random gray scale", lambda: T.RandomGrayscale(cfg.RGS_P)),
        "gaussian_blur": (
            f"gaussian blur (kernel={cfg.GB_K})",
            lambda: T.RandomApply([T.GaussianBlur(cfg.GB_K)], cfg.GB_P),
        ),
    }


def _normalize(cfg: CfgNode) -> dict[str, Step]:
    said = f"normalization (mean={cfg.PIXEL_MEAN}, std={cfg.PIXEL_STD})"
    return {"normalize": (said, lambda: T.Normalize(mean=cfg.PIXEL_MEAN, std=cfg.PIXEL_STD))}
