"""RandAugment (Cubuk et al., CVPR workshops 2020) and two relatives, on PIL images, with the ranges that Dassl uses."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from PIL.Image import Image as PILImage

Operation = Callable[[PILImage, float], PILImage]

GREY = (125, 123, 114)  # mean colour of ImageNet: what CutoutAbs paints


def _either_sign(value: float) -> float:
    return -value if random.random() > 0.5 else value


def _affine(*row: Callable[[PILImage, float], float] | float) -> Operation:
    """The operation that reads pixel (x, y) of its output at ``row`` (a, b, c, d, e, f): (ax + by + c, dx + ey + f)."""

    def apply(img: PILImage, value: float) -> PILImage:
        value = _either_sign(value)
        entries = tuple(entry(img, value) if callable(entry) else entry for entry in row)
        return img.transform(img.size, Image.Transform.AFFINE, entries)

    return apply


def _enhance(kind: Callable[[PILImage], ImageEnhance._Enhance]) -> Operation:
    return lambda img, value: kind(img).enhance(value)


def _solarize_add(img: PILImage, value: float) -> PILImage:
    lighter = np.clip(np.asarray(img).astype(np.int64) + int(value), 0, 255).astype(np.uint8)
    return ImageOps.solarize(Image.fromarray(lighter), 128)


def _cutout(img: PILImage, side: float) -> PILImage:
    """Paint a square whose centre is anywhere in the image."""
    (width, height), img = img.size, img.copy()
    left = int(max(0, np.random.uniform(width) - side / 2))
    top = int(max(0, np.random.uniform(height) - side / 2))
    ImageDraw.Draw(img).rectangle((left, top, min(width, left + side), min(height, top + side)), GREY)
    return img


OPERATIONS: dict[str, Operation] = {
    "AutoContrast": lambda img, _: ImageOps.autocontrast(img),
    "Brightness": _enhance(ImageEnhance.Brightness),
    "Color": _enhance(ImageEnhance.Color),
    "Contrast": _enhance(ImageEnhance.Contrast),
    "CutoutAbs": _cutout,  # pixels
    "Equalize": lambda img, _: ImageOps.equalize(img),
    "Identity": lambda img, _: img,
    "Invert": lambda img, _: ImageOps.invert(img),
    "Posterize": lambda img, bits: ImageOps.posterize(img, int(bits)),
    "Rotate": lambda img, degrees: img.rotate(_either_sign(degrees)),
    "Sharpness": _enhance(ImageEnhance.Sharpness),
    "ShearX": _affine(1, lambda img, v: v, 0, 0, 1, 0),
    "ShearY": _affine(1, 0, 0, lambda img, v: v, 1, 0),
    "Solarize": lambda img, threshold: ImageOps.solarize(img, threshold),
    "SolarizeAdd": _solarize_add,
    "TranslateX": _affine(1, 0, lambda img, v: v * img.size[0], 0, 1, 0),  # part of the width
    "TranslateY": _affine(1, 0, 0, 0, 1, lambda img, v: v * img.size[1]),
    "TranslateXabs": _affine(1, 0, lambda img, v: v, 0, 1, 0),  # pixels
    "TranslateYabs": _affine(1, 0, 0, 0, 1, lambda img, v: v),
}

Ranges = dict[str, tuple[float, float]]
# Each operation with the values between which its magnitude lies
RANDAUGMENT: Ranges = {
    "AutoContrast": (0, 1), "Equalize": (0, 1), "Invert": (0, 1), "Rotate": (0, 30), "Posterize": (4, 8),
    "Solarize": (0, 256), "SolarizeAdd": (0, 110), "Color": (0.1, 1.9), "Contrast": (0.1, 1.9),
    "Brightness": (0.1, 1.9), "Sharpness": (0.1, 1.9), "ShearX": (0, 0.3), "ShearY": (0, 0.3), "CutoutAbs": (0, 40),
    "TranslateXabs": (0, 100), "TranslateYabs": (0, 100),
}  # fmt: skip
RANDAUGMENT2: Ranges = {
    "AutoContrast": (0, 1), "Brightness": (0.1, 1.9), "Color": (0.1, 1.9), "Contrast": (0.1, 1.9), "Equalize": (0, 1),
    "Identity": (0, 1), "Invert": (0, 1), "Posterize": (4, 8), "Rotate": (-30, 30), "Sharpness": (0.1, 1.9),
    "ShearX": (-0.3, 0.3), "ShearY": (-0.3, 0.3), "Solarize": (0, 256), "TranslateX": (-0.3, 0.3),
    "TranslateY": (-0.3, 0.3),
}  # fmt: skip
FIXMATCH: Ranges = {
    name: (0.05, 0.95) if name in ("Brightness", "Color", "Contrast", "Sharpness") else ends
    for name, ends in RANDAUGMENT2.items()
    if name != "Invert"
}


class _RandomOperations:
    ranges: Ranges
    n: int

    def __call__(self, img: PILImage) -> PILImage:
        for name, (low, high) in random.choices(list(self.ranges.items()), k=self.n):
            strength = self.strength()
            if strength is not None:
                img = OPERATIONS[name](img, low + strength * (high - low))
        return img

    def strength(self) -> float | None:
        """Where between its ends the next operation's magnitude lies, 0 to 1; ``None`` to leave the operation out."""
        raise NotImplementedError


class RandAugment(_RandomOperations):
    """``n`` operations of 16 at the magnitude ``m`` of 30 (Dassl's transform "randaugment")."""

    ranges = RANDAUGMENT

    def __init__(self, n: int = 2, m: float = 10) -> None:
        if not 0 <= m <= 30:
            raise ValueError(f"the magnitude must lie between 0 and 30, got {m}")
        self.n, self.m = n, m

    def strength(self) -> float:
        return self.m / 30


class RandAugment2(_RandomOperations):
    """``n`` operations of 15, each with probability ``p``, at random magnitudes (Dassl's "randaugment2")."""

    ranges = RANDAUGMENT2

    def __init__(self, n: int = 2, p: float = 0.6) -> None:
        self.n, self.p = n, p

    def strength(self) -> float | None:
        return random.random() if random.random() <= self.p else None


class RandAugmentFixMatch(_RandomOperations):
    """``n`` operations of FixMatch's 14 at random magnitudes (Sohn et al., NeurIPS 2020; "randaugment_fixmatch")."""

    ranges = FIXMATCH

    def __init__(self, n: int = 2) -> None:
        self.n = n

    def strength(self) -> float:
        return random.random()
