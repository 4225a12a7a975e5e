"""Lung and colon histopathology: adenocarcinoma, squamous cell carcinoma, benign tissue."""

from __future__ import annotations

import numpy as np

from datasets.phantom.base import Array, Phantom, blob, dots, finish, mix, pick, smooth_noise
from datasets.phantom.histology import RED, WHITE, fibres, gland, nuclei, stain

CLASSES = (
    "colon adenocarcinoma",
    "colon benign tissue",
    "lung adenocarcinoma",
    "lung benign tissue",
    "lung squamous cell carcinoma",
)
MODALITIES = ("histopathological", "H&E histopathology", "microscopy", "haematoxylin and eosin")
ORGAN = "lung or colon"
FINDINGS = {
    "colon adenocarcinoma": ("crowded irregular back to back glands with dirty necrosis", "cribriform colonic glands"),
    "colon benign tissue": ("regular round crypts with goblet cells", "evenly spaced colonic glands with small nuclei"),
    "lung adenocarcinoma": ("small acinar and papillary glands in fibrous stroma", "atypical glands lining alveoli"),
    "lung benign tissue": ("open alveoli with thin septa and red blood cells", "air spaces with delicate walls"),
    "lung squamous cell carcinoma": (
        "solid sheets of polygonal cells with keratin pearls",
        "nests of eosinophilic cells",
    ),
}


def draw(classname: str, rng: np.random.Generator, size: int) -> Phantom:
    """One tile of tissue."""
    image, mask = _TISSUES[classname](rng, size)
    quarter = int(rng.integers(4))
    image, mask = np.rot90(image, quarter), np.rot90(mask, quarter)
    image = np.clip(image, 0, 1) ** np.exp(rng.normal(0, 0.18, 3))  # the stain's hue; what is white stays white
    phantom = finish(rng, image, mask, noise=0.03, bias=0.05)
    phantom.attributes = {"finding": pick(rng, *FINDINGS[classname])}
    return phantom


def _colon_tumour(rng: np.random.Generator, size: int) -> tuple[Array, Array]:
    image, mask = stain(rng, size), np.zeros((size, size), np.float32)
    for _ in range(rng.integers(4, 7)):
        place = rng.uniform(-0.8, 0.8, 2)
        image, shape = gland(
            rng, size, image, *place, rng.uniform(0.3, 0.5), lumen=rng.uniform(0.3, 0.5), irregular=0.1, crowded=0.8
        )
        image = mix(image, (0.6, 0.35, 0.5), dots(rng, size, 12, (0.02, 0.04), shape) * 0.5)
        mask = np.maximum(mask, shape)
    return image, mask


def _colon_benign(rng: np.random.Generator, size: int) -> tuple[Array, Array]:
    image, mask = stain(rng, size), np.zeros((size, size), np.float32)
    image, _ = nuclei(rng, size, image, 40, (0.02, 0.04))
    step = rng.uniform(0.5, 0.65)
    for cx in np.arange(-0.9, 1.2, step):
        for cy in np.arange(-0.9, 1.2, step):
            place = cx + rng.normal(0, 0.04), cy + rng.normal(0, 0.04)
            image, shape = gland(rng, size, image, *place, step * 0.42, lumen=0.25, irregular=0.04, crowded=0.05, goblet=True)
            mask = np.maximum(mask, shape)
    return image, mask


def _lung_tumour(rng: np.random.Generator, size: int) -> tuple[Array, Array]:
    image, mask = fibres(rng, size, stain(rng, size), 6), np.zeros((size, size), np.float32)
    for _ in range(rng.integers(7, 13)):
        place = rng.uniform(-0.9, 0.9, 2)
        image, shape = gland(
            rng, size, image, *place, rng.uniform(0.13, 0.24), lumen=rng.uniform(0.35, 0.6), irregular=0.12, crowded=0.4
        )
        mask = np.maximum(mask, shape)
    return nuclei(rng, size, image, 40, (0.03, 0.05))[0], mask


def _lung_benign(rng: np.random.Generator, size: int) -> tuple[Array, Array]:
    image = np.ones((size, size, 3), np.float32) * np.asarray(WHITE, np.float32)
    septa = np.clip(1 - np.abs(smooth_noise(rng, size, int(rng.integers(4, 7)))) * rng.uniform(2.2, 4), 0, 1)
    image = mix(image, (0.86, 0.5, 0.66), np.clip(septa * 1.6, 0, 1))
    image, _ = nuclei(rng, size, image, int(rng.integers(60, 110)), (0.025, 0.04), septa)
    image = mix(image, RED, dots(rng, size, int(rng.integers(20, 80)), (0.02, 0.035)) * 0.6)
    return image, septa


def _squamous(rng: np.random.Generator, size: int) -> tuple[Array, Array]:
    image = mix(stain(rng, size), (0.8, 0.45, 0.62), np.full((size, size), 0.6))
    image, _ = nuclei(rng, size, image, int(rng.integers(110, 190)), (0.04, 0.075))
    mask = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(1, 4)):
        cx, cy = rng.uniform(-0.7, 0.7, 2)
        for ring in (1.0, 0.75, 0.5, 0.25):
            layer = blob(rng, size, cx, cy, 0.28 * ring, irregular=0.08)
            image = mix(image, (0.95, 0.55, 0.62) if ring in (1.0, 0.5) else (0.85, 0.4, 0.5), layer * 0.9)
            mask = np.maximum(mask, layer)
    return image, mask


_TISSUES = dict(zip(CLASSES, (_colon_tumour, _colon_benign, _lung_tumour, _lung_benign, _squamous), strict=True))
