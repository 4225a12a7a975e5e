"""Colorectal histopathology: eight tissue textures."""

from __future__ import annotations

import numpy as np

from datasets.phantom.base import Array, Phantom, blob, blur, dots, finish, mix, pick, smooth_noise
from datasets.phantom.histology import WHITE, fibres, gland, nuclei, stain

CLASSES = (
    "adipose tissue",
    "complex stroma",
    "debris",
    "empty background",
    "immune cells",
    "normal mucosal glands",
    "simple stroma",
    "tumour epithelium",
)
MODALITIES = ("histopathological", "H&E histopathology", "microscopy", "haematoxylin and eosin")
ORGAN = "colon"
FINDINGS = {
    "adipose tissue": ("large empty white vacuoles with thin septa", "fat cells with clear round vacuoles"),
    "complex stroma": ("collagen fibres mixed with scattered tumour and immune cells", "cellular fibrous stroma"),
    "debris": ("smudged necrotic material with ghost outlines and nuclear dust", "mucus and necrotic debris"),
    "empty background": ("blank pale slide without tissue", "white featureless background"),
    "immune cells": ("densely packed small round dark lymphocytes", "a lymphoid follicle of uniform small nuclei"),
    "normal mucosal glands": ("regular round glands with goblet cells and open lumen", "evenly spaced crypts"),
    "simple stroma": ("wavy pink collagen fibres with few spindle nuclei", "homogeneous smooth muscle and collagen"),
    "tumour epithelium": ("crowded pleomorphic dark nuclei in irregular glands", "back to back malignant glands"),
}


def draw(classname: str, rng: np.random.Generator, size: int) -> Phantom:
    """One tile of tissue; the whole texture decides."""
    image = np.rot90(_TISSUES[classname](rng, size), rng.integers(4))
    image = image[:, ::-1] if rng.random() < 0.5 else image
    mask = np.full((size, size), float(classname != "empty background"))
    # a stain's hue differs between slides, the light behind them does not: what is white stays white
    image = np.clip(image, 0, 1) ** np.exp(rng.normal(0, 0.15, 3))
    phantom = finish(rng, image, mask, noise=0.03, bias=0.05)
    phantom.attributes = {"finding": pick(rng, *FINDINGS[classname])}
    return phantom


def _adipose(rng: np.random.Generator, size: int) -> Array:
    image = stain(rng, size)
    step = rng.uniform(0.36, 0.55)
    for cx in np.arange(-1.1, 1.2, step):
        for cy in np.arange(-1.1, 1.2, step):
            place = cx + rng.normal(0, 0.05), cy + rng.normal(0, 0.05)
            image = mix(image, WHITE, blob(rng, size, *place, step * 0.48, irregular=0.06, edge=0.03) * 0.95)
    return image


def _complex(rng: np.random.Generator, size: int) -> Array:
    image = fibres(rng, size, stain(rng, size), 7)
    image, _ = nuclei(rng, size, image, int(rng.integers(50, 90)), (0.025, 0.055))
    cluster = blob(rng, size, *rng.uniform(-0.6, 0.6, 2), 0.35, irregular=0.3, edge=0.2)
    return nuclei(rng, size, image, int(rng.integers(20, 50)), (0.04, 0.07), cluster)[0]


def _debris(rng: np.random.Generator, size: int) -> Array:
    image = stain(rng, size)
    clumps = np.clip(smooth_noise(rng, size, 7, 3), -1, 2)
    image = mix(image, (0.62, 0.4, 0.6), np.clip(clumps, 0, 1) * 0.7)
    image, _ = nuclei(rng, size, image, int(rng.integers(30, 120)), (0.008, 0.025))
    return blur(image, 0.9)


def _empty(rng: np.random.Generator, size: int) -> Array:
    image = np.ones((size, size, 3), np.float32) * np.asarray((0.94, 0.935, 0.94), np.float32)
    image = image * rng.uniform(0.94, 1.03)
    dust = dots(rng, size, int(rng.integers(0, 4)), (0.01, 0.03))
    faint = np.clip(smooth_noise(rng, size, 3) - 1.4, 0, 1)
    return mix(mix(image, (0.88, 0.86, 0.88), faint * 0.4), (0.6, 0.58, 0.6), blur(dust, 0.6) * 0.6)


def _immune(rng: np.random.Generator, size: int) -> Array:
    image = stain(rng, size, 0.8)
    return nuclei(rng, size, image, int(rng.integers(260, 420)), (0.035, 0.05))[0]


def _glands(rng: np.random.Generator, size: int) -> Array:
    image = stain(rng, size)
    image, _ = nuclei(rng, size, image, 25, (0.025, 0.04))
    step = rng.uniform(0.62, 0.8)
    for cx in np.arange(-0.9, 1.2, step):
        for cy in np.arange(-0.9, 1.2, step):
            place = cx + rng.normal(0, 0.05), cy + rng.normal(0, 0.05)
            image, _ = gland(rng, size, image, *place, step * 0.42, lumen=0.3, irregular=0.05, crowded=0.05, goblet=True)
    return image


def _simple(rng: np.random.Generator, size: int) -> Array:
    image = fibres(rng, size, stain(rng, size, 1.2), rng.uniform(8, 14))
    return nuclei(rng, size, image, int(rng.integers(6, 20)), (0.02, 0.035))[0]


def _tumour(rng: np.random.Generator, size: int) -> Array:
    image = stain(rng, size, 0.8)
    image = mix(image, (0.62, 0.42, 0.68), np.full((size, size), 0.5))
    for _ in range(rng.integers(3, 6)):
        place = rng.uniform(-0.8, 0.8, 2)
        radius = rng.uniform(0.3, 0.5)
        image, _ = gland(rng, size, image, *place, radius, lumen=rng.uniform(0.1, 0.3), irregular=0.12, crowded=0.9)
    return nuclei(rng, size, image, int(rng.integers(60, 120)), (0.045, 0.09))[0]


_TISSUES = dict(zip(CLASSES, (_adipose, _complex, _debris, _empty, _immune, _glands, _simple, _tumour), strict=True))
