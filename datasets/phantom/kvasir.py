"""Gastrointestinal endoscopy: eight findings and landmarks."""

from __future__ import annotations

import numpy as np

from datasets.phantom.base import Array, Phantom, blob, curve, dots, finish, grid, mix, pick, polar, smooth_noise, turn

CLASSES = (
    "dyed lifted polyps",
    "dyed resection margins",
    "esophagitis",
    "normal cecum",
    "normal pylorus",
    "normal z line",
    "polyps",
    "ulcerative colitis",
)
MODALITIES = ("endoscopic", "endoscopy", "colonoscopy", "gastrointestinal endoscopy")
ORGAN = "colon"
FINDINGS = {
    "dyed lifted polyps": ("a raised polyp on a blue dyed cushion", "a lifted polyp above blue submucosal dye"),
    "dyed resection margins": ("a flat blue dyed defect after resection", "a blue stained wound with pale margins"),
    "esophagitis": ("red linear mucosal breaks above the junction", "erosions with white exudate in the oesophagus"),
    "normal cecum": ("a smooth pouch with the appendiceal orifice and converging folds", "a crescent fold and orifice"),
    "normal pylorus": (
        "a round dark opening with a smooth symmetric rim",
        "a circular orifice in smooth gastric mucosa",
    ),
    "normal z line": ("a sharp zigzag border between pale and red mucosa", "a regular junction of pink and red mucosa"),
    "polyps": ("a round protruding polyp with a smooth reddish surface", "a sessile dome shaped mucosal bump"),
    "ulcerative colitis": ("granular red mucosa with yellow ulcers and lost vessels", "diffuse friable erythema"),
}
BLUE, FLESH, RED = (0.16, 0.33, 0.62), np.asarray((0.82, 0.5, 0.4)), (0.74, 0.2, 0.18)


def draw(classname: str, rng: np.random.Generator, size: int) -> Phantom:
    """Mucosa in a round view with glare; dyes, rims, borders or ulcers tell the classes apart."""
    image = np.ones((size, size, 3), np.float32) * (FLESH + rng.normal(0, 0.035, 3))
    image = image * (1 + 0.07 * smooth_noise(rng, size, 4, 2))[..., None]
    vessels = np.clip(1 - np.abs(smooth_noise(rng, size, 6)) * 14, 0, 1)
    if classname != "ulcerative colitis":
        image = mix(image, RED, vessels * rng.uniform(0.15, 0.4))
    image, mask = _VIEWS[classname](rng, size, image.astype(np.float32))
    shine = dots(rng, size, int(rng.integers(2, 9)), (0.015, 0.05))
    image = mix(image, 1.0, shine * 0.85)
    image, mask = turn(rng, image, mask, 180, 0.08, 0.12)
    r, _ = polar(size, 0, 0)
    image = image * np.clip(1.25 - 0.5 * r**2, 0.2, 1.1)[..., None]
    image = image * np.clip((rng.uniform(1.0, 1.25) - r) * 30, 0, 1)[..., None]
    phantom = finish(rng, image, mask, noise=0.025, bias=0.08)
    phantom.attributes = {"finding": pick(rng, *FINDINGS[classname])}
    return phantom


def _dome(rng: np.random.Generator, size: int, image: Array, cx: float, cy: float, radius: float) -> tuple[Array, Array]:
    shape = blob(rng, size, cx, cy, radius, aspect=rng.uniform(0.85, 1.25), irregular=0.06, edge=0.05)
    x, y = grid(size)
    light = np.clip(1 - np.hypot(x - cx + radius * 0.35, y - cy + radius * 0.35) / (1.6 * radius), 0, 1)
    shadow = blob(rng, size, cx + 0.06, cy + 0.07, radius * 1.12, edge=0.12)
    image = mix(image, np.asarray((0.3, 0.12, 0.1)), np.clip(shadow - shape, 0, 1) * 0.6)
    flesh = np.asarray((0.84, 0.36, 0.32)) * rng.uniform(0.9, 1.1)
    image = mix(image, flesh, shape * 0.85)
    return mix(image, (1.0, 0.78, 0.7), light * shape * 0.6), shape


def _polyp(rng: np.random.Generator, size: int, image: Array) -> tuple[Array, Array]:
    return _dome(rng, size, image, *rng.uniform(-0.3, 0.3, 2), rng.uniform(0.2, 0.42))


def _lifted(rng: np.random.Generator, size: int, image: Array) -> tuple[Array, Array]:
    cx, cy = rng.uniform(-0.25, 0.25, 2)
    cushion = blob(rng, size, cx, cy, rng.uniform(0.5, 0.75), ragged=0.14, edge=0.3)
    image = mix(image, BLUE, cushion * rng.uniform(0.55, 0.85))
    image, shape = _dome(rng, size, image, cx, cy, rng.uniform(0.22, 0.36))
    return image, np.maximum(shape, cushion)


def _resection(rng: np.random.Generator, size: int, image: Array) -> tuple[Array, Array]:
    cx, cy = rng.uniform(-0.25, 0.25, 2)
    radius = rng.uniform(0.35, 0.55)
    rim = blob(rng, size, cx, cy, radius * 1.25, ragged=0.1, edge=0.15)
    image = mix(image, (0.93, 0.82, 0.76), rim * 0.6)
    defect = blob(rng, size, cx, cy, radius, ragged=0.13, edge=0.05)
    image = mix(image, BLUE, defect * rng.uniform(0.7, 0.95))
    streaks = np.clip(smooth_noise(rng, size, 10), 0, 1)
    return mix(image, (0.75, 0.72, 0.8), streaks * defect * 0.4), defect


def _tube(rng: np.random.Generator, size: int, image: Array, cx: float, cy: float) -> Array:
    r, _ = polar(size, cx, cy)
    return image * np.clip(0.25 + r * 1.6, 0.1, 1.05)[..., None]


def _oesophagitis(rng: np.random.Generator, size: int, image: Array) -> tuple[Array, Array]:
    cx, cy = rng.uniform(-0.15, 0.15, 2)
    image = _tube(rng, size, mix(image, (0.9, 0.68, 0.6), np.full((size, size), 0.5)), cx, cy)
    mask = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(3, 6)):
        angle = rng.uniform(0, 2 * np.pi)
        way = [(cx + reach * np.cos(angle), cy + reach * np.sin(angle)) for reach in (0.25, rng.uniform(0.6, 0.9))]
        wide = curve(rng, size, way, rng.uniform(0.09, 0.16))
        image = mix(image, RED, wide * 0.9)
        image = mix(image, (0.95, 0.92, 0.8), curve(rng, size, way, 0.03) * 0.8)
        mask = np.maximum(mask, wide)
    return image, mask


def _cecum(rng: np.random.Generator, size: int, image: Array) -> tuple[Array, Array]:
    mask = np.zeros((size, size), np.float32)
    for offset in (0.55, 0.85):
        r, theta = polar(size, *rng.uniform(-0.15, 0.15, 2))
        fold = np.clip(1 - np.abs(r - offset) * 14, 0, 1) * (np.cos(theta + rng.uniform(0, 6)) > -0.3)
        image = mix(image, (0.95, 0.72, 0.62), fold * 0.7)
        image = image * (1 - 0.35 * np.clip(1 - np.abs(r - offset - 0.09) * 12, 0, 1))[..., None]
        mask = np.maximum(mask, fold)
    orifice = blob(rng, size, *rng.uniform(-0.3, 0.3, 2), rng.uniform(0.06, 0.1), aspect=1.8, angle=rng.uniform(0, 3))
    return mix(image, (0.3, 0.1, 0.1), orifice * 0.8), np.maximum(mask, orifice)


def _pylorus(rng: np.random.Generator, size: int, image: Array) -> tuple[Array, Array]:
    cx, cy, radius = *rng.uniform(-0.2, 0.2, 2), rng.uniform(0.12, 0.24)
    r, _ = polar(size, cx, cy)
    rim = np.exp(-((r - radius * 1.5) ** 2) / 0.01)
    image = mix(image, (0.96, 0.7, 0.58), rim * 0.7)
    return mix(image, (0.1, 0.03, 0.03), blob(rng, size, cx, cy, radius, edge=0.08)), np.clip(rim, 0, 1)


def _z_line(rng: np.random.Generator, size: int, image: Array) -> tuple[Array, Array]:
    cx, cy = rng.uniform(-0.15, 0.15, 2)
    r, theta = polar(size, cx, cy)
    waves = [rng.normal() * np.cos(k * theta + rng.uniform(0, 2 * np.pi)) / k for k in range(1, 16)]
    border = rng.uniform(0.45, 0.6) + 0.07 * np.sum(waves, axis=0) + 0.03 * smooth_noise(rng, size, 9, 2)
    for _ in range(rng.integers(2, 5)):  # tongues of red mucosa that run up the pale one
        gap = np.angle(np.exp(1j * (theta - rng.uniform(-np.pi, np.pi))))
        border = border + rng.uniform(0.06, 0.2) * np.exp(-((gap / rng.uniform(0.1, 0.25)) ** 2))
    folds = np.cos(theta * rng.integers(5, 8) + rng.uniform(0, 6) + 0.7 * smooth_noise(rng, size, 4))
    image = mix(image, (0.93, 0.76, 0.7), np.clip((r - border) * 25, 0, 1) * 0.9)
    image = mix(image, (0.76, 0.3, 0.26), np.clip((border - r) * 25, 0, 1) * 0.85)
    image = image * (1 + 0.09 * folds * np.clip(r * 2, 0, 1))[..., None]
    return _tube(rng, size, image, cx, cy), np.clip(1 - np.abs(r - border) * 12, 0, 1)


def _colitis(rng: np.random.Generator, size: int, image: Array) -> tuple[Array, Array]:
    image = mix(image, (0.78, 0.26, 0.22), np.full((size, size), rng.uniform(0.5, 0.8)))
    grain = smooth_noise(rng, size, 30)
    image = image * (1 + 0.09 * grain)[..., None]
    ulcers = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(3, 9)):
        spot = blob(rng, size, *rng.uniform(-0.8, 0.8, 2), rng.uniform(0.06, 0.18), ragged=0.3)
        ulcers = np.maximum(ulcers, spot)
    return mix(image, (0.93, 0.88, 0.66), ulcers * 0.8), np.maximum(ulcers, np.clip(grain, 0, 1) * 0.4)


_VIEWS = dict(
    zip(
        CLASSES,
        (_lifted, _resection, _oesophagitis, _cecum, _pylorus, _z_line, _polyp, _colitis),
        strict=True,
    )
)
