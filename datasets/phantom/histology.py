"""What the two histopathology datasets share: haematoxylin and eosin stains, nuclei, glands."""

from __future__ import annotations

import numpy as np

from datasets.phantom.base import Array, blob, dots, mix, smooth_noise

PINK, PURPLE, WHITE, RED = (0.88, 0.62, 0.76), (0.38, 0.22, 0.52), (0.95, 0.93, 0.95), (0.75, 0.25, 0.35)


def stain(rng: np.random.Generator, size: int, strength: float = 1.0) -> Array:
    """Pink stroma (S, S, 3) with uneven uptake."""
    uptake = 0.5 + 0.18 * smooth_noise(rng, size, 5, 2)
    pink = np.asarray(PINK) + rng.normal(0, 0.035, 3)
    base = np.ones((size, size, 3), np.float32) * np.asarray(WHITE, np.float32)
    return mix(base, pink, np.clip(uptake * strength + 0.25, 0, 1))


def fibres(rng: np.random.Generator, size: int, image: Array, waves: float = 9) -> Array:
    """Wavy collagen bundles in one direction."""
    angle = rng.uniform(0, np.pi)
    line = np.linspace(-1, 1, size)
    x, y = np.meshgrid(line, line)
    along = x * np.cos(angle) + y * np.sin(angle) + 0.12 * smooth_noise(rng, size, 4)
    ridges = np.sin(along * np.pi * waves + 0.8 * smooth_noise(rng, size, 6))
    return mix(image, (0.74, 0.42, 0.6), np.clip(ridges, 0, 1) * 0.5)


def nuclei(
    rng: np.random.Generator,
    size: int,
    image: Array,
    count: int,
    radius: tuple[float, float],
    inside: Array | None = None,
) -> tuple[Array, Array]:
    """Dark nuclei; returns the image and where they are."""
    where = dots(rng, size, count, radius, inside)
    colour = np.asarray(PURPLE) + rng.normal(0, 0.04, 3)
    return mix(image, colour, where * 0.9), where


def gland(
    rng: np.random.Generator, size: int, image: Array, cx: float, cy: float, radius: float, *, lumen: float,
    irregular: float, crowded: float, goblet: bool = False,
) -> tuple[Array, Array]:  # fmt: skip
    """A gland: epithelium with a ring of nuclei around a pale lumen; ``crowded`` piles the nuclei up."""
    aspect, angle = rng.uniform(0.8, 1.25), rng.uniform(0, np.pi)
    shape = {"aspect": aspect, "angle": angle, "irregular": irregular, "lobes": 5}
    outer = blob(rng, size, cx, cy, radius, **shape)
    inner = blob(rng, size, cx, cy, radius * lumen, **shape)
    image = mix(image, (0.72, 0.5, 0.72), outer * 0.85)
    ring = np.clip(outer - blob(rng, size, cx, cy, radius * (0.78 - 0.35 * crowded), **shape), 0, 1)
    count = int(radius * 130 * (1 + 2 * crowded))
    image, dark = nuclei(rng, size, image, count, (0.03, 0.05 + 0.03 * crowded), ring)
    if goblet:
        cells = dots(rng, size, int(radius * 70), (0.04, 0.07), np.clip(outer - ring - inner, 0, 1))
        image = mix(image, (0.86, 0.84, 0.92), cells * 0.9)
    return mix(image, WHITE, inner * 0.9), outer
