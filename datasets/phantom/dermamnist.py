"""Dermatoscopy: seven skin lesions."""

from __future__ import annotations

import numpy as np

from datasets.phantom.base import Array, Phantom, blob, curve, dots, finish, grid, mix, pick, smooth_noise, turn

CLASSES = (
    "actinic keratosis",
    "basal cell carcinoma",
    "benign keratosis",
    "dermatofibroma",
    "melanoma",
    "melanocytic nevus",
    "vascular lesion",
)
MODALITIES = ("dermatoscopy", "dermoscopy", "dermatoscopic", "dermoscopic")
ORGAN = "skin"
FINDINGS = {
    "actinic keratosis": ("a rough scaly red patch with a strawberry pattern", "erythema with white yellow scale"),
    "basal cell carcinoma": (
        "a pearly pink nodule with arborizing vessels",
        "blue grey ovoid nests and telangiectasia",
    ),
    "benign keratosis": ("a sharply demarcated brown plaque with milia like cysts", "a waxy stuck on lesion"),
    "dermatofibroma": ("a central white scar like patch with a peripheral pigment network", "a firm pale centre"),
    "melanoma": ("an asymmetric multicoloured lesion with irregular borders", "blue white veil and irregular streaks"),
    "melanocytic nevus": ("a symmetric uniform brown spot with regular borders", "a regular pigment network"),
    "vascular lesion": ("red purple lacunae separated by white septa", "well defined red blue lagoons"),
}
BROWN, DARK = np.asarray((0.46, 0.29, 0.2)), np.asarray((0.18, 0.11, 0.1))


def draw(classname: str, rng: np.random.Generator, size: int) -> Phantom:
    """A lesion on skin, with hairs, bubbles and the lens's dark corners."""
    x, y = grid(size)
    skin = np.asarray((0.86, 0.68, 0.6)) * rng.uniform(0.85, 1.08) + rng.normal(0, 0.025, 3)
    image = np.ones((size, size, 3), np.float32) * skin
    image = image * (1 + 0.03 * smooth_noise(rng, size, 24, 2))[..., None]
    image, mask = _LESIONS[classname](rng, size, image.astype(np.float32), *rng.uniform(-0.15, 0.15, 2))
    image, mask = turn(rng, image, mask, 180, 0.05, 0.15)
    for _ in range(rng.poisson(1.0)):
        image = mix(image, (0.12, 0.08, 0.06), _hair(rng, size) * 0.8)
    if rng.random() < 0.5:
        image = image * np.clip(1.75 - 0.75 * np.hypot(x, y) ** 2, 0.05, 1)[..., None]
    phantom = finish(rng, image, mask, noise=0.02, bias=0.06)
    phantom.attributes = {"finding": pick(rng, *FINDINGS[classname])}
    return phantom


def _hair(rng: np.random.Generator, size: int) -> Array:
    """A hair (S, S), bent to one side."""
    start, angle, length = rng.uniform(-0.9, 0.9, 2), rng.uniform(0, 2 * np.pi), rng.uniform(0.9, 1.9)
    way = np.asarray((np.cos(angle), np.sin(angle)))
    across = np.asarray((-way[1], way[0])) * rng.normal(0, 0.16) * length
    points = [tuple(start + way * length * (t - 0.5) + across * (1 - (2 * t - 1) ** 2)) for t in (0, 0.25, 0.5, 0.75, 1)]
    return curve(rng, size, points, 0.014, wiggle=0.003)


def _keratosis(rng: np.random.Generator, size: int, image: Array, cx: float, cy: float) -> tuple[Array, Array]:
    shape = blob(rng, size, cx, cy, rng.uniform(0.4, 0.6), irregular=0.2, edge=0.25)
    image = mix(image, (0.84, 0.42, 0.38), shape * rng.uniform(0.5, 0.9))
    scale = np.clip(smooth_noise(rng, size, 16, 2) - 0.4, 0, 1)
    return mix(image, (0.95, 0.88, 0.74), scale * shape * 0.8), shape


def _basal(rng: np.random.Generator, size: int, image: Array, cx: float, cy: float) -> tuple[Array, Array]:
    radius = rng.uniform(0.35, 0.55)
    shape = blob(rng, size, cx, cy, radius, irregular=0.06, edge=0.12)
    image = mix(image, (0.92, 0.7, 0.68), shape * 0.9)
    for _ in range(rng.integers(3, 7)):
        angle = rng.uniform(0, 2 * np.pi)
        far = cx + radius * np.cos(angle), cy + radius * np.sin(angle)
        near = cx + rng.normal(0, 0.12), cy + rng.normal(0, 0.12)
        image = mix(image, (0.78, 0.12, 0.16), curve(rng, size, [far, near], 0.022) * shape)
    nests = dots(rng, size, int(rng.integers(2, 7)), (0.05, 0.11), shape)
    return mix(image, (0.36, 0.38, 0.48), nests * 0.7), shape


def _seborrhoeic(rng: np.random.Generator, size: int, image: Array, cx: float, cy: float) -> tuple[Array, Array]:
    shape = blob(rng, size, cx, cy, rng.uniform(0.4, 0.62), ragged=0.09, edge=0.03)
    ridges = 0.12 * smooth_noise(rng, size, 14)
    image = mix(image, (0.6, 0.43, 0.28), np.clip(shape * (0.85 + ridges), 0, 1))
    image = mix(image, (0.95, 0.9, 0.78), dots(rng, size, int(rng.integers(6, 18)), (0.02, 0.045), shape) * 0.9)
    return mix(image, DARK, dots(rng, size, int(rng.integers(4, 12)), (0.02, 0.05), shape) * 0.7), shape


def _fibroma(rng: np.random.Generator, size: int, image: Array, cx: float, cy: float) -> tuple[Array, Array]:
    radius = rng.uniform(0.38, 0.55)
    shape = blob(rng, size, cx, cy, radius, irregular=0.05, edge=0.25)
    net = np.clip(1 - np.abs(smooth_noise(rng, size, 16)) * 2.5, 0, 1)
    image = mix(image, (0.68, 0.46, 0.36), shape * (0.45 + 0.4 * net))
    return mix(image, (0.95, 0.87, 0.84), blob(rng, size, cx, cy, radius * 0.45, ragged=0.12, edge=0.15)), shape


def _melanoma(rng: np.random.Generator, size: int, image: Array, cx: float, cy: float) -> tuple[Array, Array]:
    radius = rng.uniform(0.42, 0.62)
    angle = rng.uniform(0, np.pi)
    shape = blob(rng, size, cx, cy, radius * 0.8, aspect=rng.uniform(1.1, 1.5), angle=angle, ragged=0.13, edge=0.06)
    for _ in range(rng.integers(1, 3)):  # it grows to one side more than to the other
        off = rng.uniform(0, 2 * np.pi)
        place = cx + 0.6 * radius * np.cos(off), cy + 0.6 * radius * np.sin(off)
        shape = np.maximum(shape, blob(rng, size, *place, radius * rng.uniform(0.35, 0.55), ragged=0.2, edge=0.06))
    net = np.clip(1 - np.abs(smooth_noise(rng, size, 16)) * 2, 0, 1)
    image = mix(image, BROWN * rng.uniform(0.6, 0.95), shape * (0.8 + 0.18 * net))
    colours = (DARK, (0.36, 0.36, 0.42), (0.58, 0.3, 0.24), (0.66, 0.52, 0.46), DARK)
    for colour in colours:  # each in drifts of its own
        drift = np.clip(smooth_noise(rng, size, int(rng.integers(3, 6)), 3) - rng.uniform(0.1, 0.6), 0, 1)
        image = mix(image, colour, drift * shape * rng.uniform(0.5, 0.95))
    return image, shape


def _nevus(rng: np.random.Generator, size: int, image: Array, cx: float, cy: float) -> tuple[Array, Array]:
    shape = blob(rng, size, cx, cy, rng.uniform(0.3, 0.55), aspect=rng.uniform(0.8, 1.2), irregular=0.04, edge=0.1)
    net = np.clip(1 - np.abs(smooth_noise(rng, size, 18)) * 2.5, 0, 1)
    colour = BROWN * rng.uniform(0.85, 1.3)
    return mix(image, colour, shape * (0.72 + 0.25 * net)), shape


def _vascular(rng: np.random.Generator, size: int, image: Array, cx: float, cy: float) -> tuple[Array, Array]:
    shape = blob(rng, size, cx, cy, rng.uniform(0.3, 0.5), irregular=0.1, edge=0.08)
    image = mix(image, (0.85, 0.5, 0.5), shape * 0.7)
    lagoons = dots(rng, size, int(rng.integers(10, 28)), (0.07, 0.15), shape)
    colour = (0.62, 0.07, 0.14) if rng.random() < 0.6 else (0.38, 0.1, 0.32)
    return mix(image, colour, lagoons * 0.9), np.maximum(shape, lagoons)


_LESIONS = dict(zip(CLASSES, (_keratosis, _basal, _seborrhoeic, _fibroma, _melanoma, _nevus, _vascular), strict=True))
