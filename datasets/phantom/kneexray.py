"""Knee X-ray: five grades of osteoarthritis (Kellgren and Lawrence), neighbours overlapping."""

from __future__ import annotations

import numpy as np

from datasets.phantom.base import Array, Phantom, blob, finish, grid, mix, pick, smooth_noise, soft_step, turn

CLASSES = (
    "healthy knee",
    "doubtful osteoarthritis",
    "minimal osteoarthritis",
    "moderate osteoarthritis",
    "severe osteoarthritis",
)
MODALITIES = ("frontal X-ray", "knee X-ray", "knee radiograph", "X-ray")
ORGAN = "knee joint"
FINDINGS = (
    ("wide even joint space and smooth articular margins", "no osteophyte and normal joint space"),
    ("doubtful joint space narrowing and possible tiny osteophytic lipping", "questionable marginal lipping"),
    ("definite small osteophytes with possible joint space narrowing", "minimal marginal osteophytes"),
    ("multiple osteophytes, definite joint space narrowing and some sclerosis", "moderate narrowing with sclerosis"),
    ("large osteophytes, marked joint space loss, severe sclerosis and bone deformity", "bone on bone contact"),
)


def _osteophyte(out: Array, up: Array, length: float, thick: float) -> Array:
    """A beak of bone (S, S) at the margin of a joint: broad where it leaves the bone, and bent towards the joint at its tip.

    Args:
        out: distance of each pixel from the margin, outwards.
        up: distance from the joint line, into the bone.
        length: how far it stands out.
        thick: its thickness at the root, of its length.
    """
    along = np.clip((out + 0.1) / (length + 0.1), 0, 1)
    top = (length * thick + 0.05) * (1 - along) ** 0.6
    bottom = -0.35 * length * along**2
    inside = np.minimum(np.minimum(top - up, up - bottom), length - out)
    return soft_step(-inside, 0.025) * (out > -0.12)


def draw(classname: str, rng: np.random.Generator, size: int) -> Phantom:
    """Femur above tibia; with the grade the joint space closes, osteophytes grow and the bone beneath whitens."""
    grade = CLASSES.index(classname)
    level = float(np.clip(grade + rng.normal(0, 0.3), 0, 4.4)) / 4
    x, y = grid(size)
    soft = soft_step(np.abs(x) - rng.uniform(0.78, 0.95), 0.15)
    image = rng.uniform(0.02, 0.1) + soft * rng.uniform(0.16, 0.26)
    medial = rng.choice([-1, 1])
    gap = 0.15 * (1 - 0.45 * level) - 0.075 * level * soft_step(0.05 - medial * x, 0.2)
    bumps = 0.045 * np.cos(x * np.pi / 0.36) + 0.02 * smooth_noise(rng, size, 4)
    femur = soft_step(y + gap / 2 + bumps * soft_step(np.abs(x) - 0.6, 0.1), 0.03) * soft_step(
        np.abs(x) - (0.4 + 0.22 * np.exp(-((y + 0.15) ** 2) / 0.08)), 0.04
    )
    tibia = soft_step(gap / 2 - y - 0.01 * np.cos(x * 9), 0.03) * soft_step(
        np.abs(x) - (0.36 + 0.25 * np.exp(-((y - 0.1) ** 2) / 0.06)), 0.04
    )
    mask = np.zeros((size, size), np.float32)
    for sign in (-1, 1):
        for height in (-1, 1):
            length = max(0.0, 0.17 * level * rng.uniform(0.5, 1.3) - 0.02)
            if length > 0.02:
                spur = _osteophyte(sign * x - 0.55, height * y - gap / 2, length, rng.uniform(0.5, 0.9))
                femur, tibia = (np.maximum(femur, spur), tibia) if height < 0 else (femur, np.maximum(tibia, spur))
                mask = np.maximum(mask, spur)
    bone = np.maximum(femur, tibia)
    grain = 0.035 * smooth_noise(rng, size, 22, 2)
    image = mix(image, rng.uniform(0.5, 0.62) + grain, bone)
    shell = np.clip(1 - np.abs(bone - 0.5) * 2.2, 0, 1)
    image = mix(image, 0.85, shell * 0.5)
    near = np.exp(-((np.abs(y) - gap / 2 - 0.03) ** 2) / 0.0025)
    image = mix(image, 0.95, near * bone * (0.12 + 0.75 * level**1.5))
    space = soft_step(np.abs(y) - 0.12, 0.02) * soft_step(np.abs(x) - 0.62, 0.02)
    mask = np.maximum(mask, space) if grade else np.zeros_like(mask)
    image = mix(image, 0.42, blob(rng, size, 0, -0.38, 0.2, aspect=1.1) * 0.25)  # patella
    image, mask = turn(rng, image, mask, 6, 0.07, 0.12)
    phantom = finish(rng, image, mask, noise=0.03)
    phantom.attributes = {"finding": pick(rng, *FINDINGS[grade])}
    return phantom
