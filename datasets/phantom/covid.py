"""Chest X-ray: COVID-19, lung opacity, viral pneumonia, normal."""

from __future__ import annotations

import numpy as np

from datasets.phantom.base import (
    Array,
    Phantom,
    blob,
    blur,
    finish,
    grid,
    mix,
    pick,
    polar,
    side,
    smooth_noise,
    soft_step,
    turn,
)

CLASSES = ("covid lungs", "lung opacity lungs", "viral pneumonia lungs", "normal lungs")
MODALITIES = ("chest X-ray", "frontal chest radiograph", "X-ray", "chest radiograph")
ORGAN = "lung"


def _interstitial(rng: np.random.Generator, size: int) -> Array:
    """Fine lines (S, S) that leave each hilum like spokes, break up, and cross a mesh of thinner ones."""
    lines = np.zeros((size, size), np.float32)
    for sign in (-1, 1):
        r, theta = polar(size, sign * 0.2, 0.02)
        bent = theta * rng.uniform(13, 17) + 1.3 * smooth_noise(rng, size, 6) + rng.uniform(0, 6)
        spokes = np.clip(np.sin(bent), 0, 1) ** 4 * np.clip(1.2 - r, 0, 1) * np.clip(r * 8, 0, 1)
        lines = np.maximum(lines, spokes * np.clip(0.6 + 0.5 * smooth_noise(rng, size, 9), 0, 1))
    mesh = np.clip(1 - np.abs(smooth_noise(rng, size, 24)) * 2.4, 0, 1) * 0.5
    return blur(np.maximum(lines, mesh), 0.5)


def draw(classname: str, rng: np.random.Generator, size: int) -> Phantom:
    """A frontal chest with ribs, heart and two dark lungs; opacities differ in side, height, edge and texture."""
    x, y = grid(size)
    image = np.full((size, size), rng.uniform(0.6, 0.75), np.float32)
    image = mix(image, 0.12, soft_step(0.9 - np.abs(x), 0.1) * soft_step(y + 0.3, 0.4) * 0.8)
    lungs = np.zeros((size, size), np.float32)
    for sign in (-1, 1):
        lungs = np.maximum(
            lungs,
            blob(rng, size, sign * 0.42, -0.02, 0.66, aspect=0.44, angle=sign * 0.1, irregular=0.03, edge=0.07),
        )
    image = mix(image, rng.uniform(0.14, 0.26), lungs)
    heart = blob(rng, size, 0.14, 0.36, 0.33, aspect=1.15, angle=0.5, edge=0.08)
    spine = soft_step(np.abs(x) - 0.13, 0.08)
    image = mix(image, rng.uniform(0.66, 0.8), np.maximum(heart, spine) * 0.9)
    vessels = np.clip(1 - np.abs(smooth_noise(rng, size, 8)) * 6, 0, 1) * np.exp(-((np.abs(x) - 0.2) ** 2) / 0.06)
    image = mix(image, 0.5, vessels * lungs * 0.45)
    texture = smooth_noise(rng, size, 10, 2)
    mask = np.zeros((size, size), np.float32)
    if classname == "covid lungs":
        for sign in (-1, 1):
            for _ in range(rng.integers(1, 4)):
                cy = rng.uniform(0.0, 0.5)
                mask = np.maximum(
                    mask,
                    blob(rng, size, sign * rng.uniform(0.5, 0.66), cy, rng.uniform(0.13, 0.24), irregular=0.2, edge=0.2),
                )
        mask = mask * lungs
        image = mix(image, 0.5 + 0.07 * texture, mask * rng.uniform(0.5, 0.85))
        finding = pick(
            rng,
            "bilateral peripheral lower zone ground glass opacities",
            "patchy hazy subpleural opacities in both lower lungs",
            "bilateral basal peripheral ground glass consolidation",
        )
    elif classname == "lung opacity lungs":
        sign = rng.choice([-1, 1])
        cx, cy = sign * rng.uniform(0.3, 0.5), rng.uniform(-0.4, 0.4)
        mask = blob(rng, size, cx, cy, rng.uniform(0.2, 0.34), aspect=rng.uniform(0.8, 1.2), irregular=0.12, edge=0.1) * lungs
        image = mix(image, rng.uniform(0.6, 0.78) + 0.03 * texture, mask * 0.95)
        finding = (
            pick(
                rng,
                "a dense focal consolidation in one lung",
                "a unilateral lobar opacity with obscured vessels",
                "a single well seen dense airspace opacity",
            )
            + f" on the {side(cx)}"
        )
    elif classname == "viral pneumonia lungs":
        mask = lungs * np.exp(-((np.abs(x) - 0.25) ** 2) / 0.12)
        image = mix(image, 0.42 + 0.03 * texture, mask * rng.uniform(0.25, 0.5))
        image = mix(image, rng.uniform(0.5, 0.62), _interstitial(rng, size) * mask * rng.uniform(0.5, 0.8))
        finding = pick(
            rng,
            "diffuse perihilar interstitial markings in both lungs",
            "bilateral streaky reticular opacities with peribronchial thickening",
            "diffuse interstitial infiltrates radiating from the hila",
        )
    else:
        finding = pick(
            rng,
            "clear lungs with sharp costophrenic angles",
            "no opacity, normal vascular markings and clear lung fields",
            "well aerated lungs without consolidation",
        )
    mask = (mask > 0.35).astype(np.float32)
    bend = np.abs(x) * rng.uniform(0.1, 0.35)
    ribs = np.clip(np.sin((y + bend) * rng.uniform(17, 21) + rng.uniform(0, 6)) * 2 - 1, 0, 1)
    image = mix(image, 0.75, ribs * soft_step(np.abs(x) - 0.82, 0.1) * rng.uniform(0.1, 0.25))
    image, mask = turn(rng, image, mask, 6, 0.07, 0.1)
    phantom = finish(rng, image, mask, noise=0.03)
    phantom.attributes = {"finding": finding}
    return phantom
