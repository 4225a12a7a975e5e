"""Breast ultrasound: benign, malignant, normal."""

from __future__ import annotations

import numpy as np

from datasets.phantom.base import Phantom, blob, blur, finish, grid, mix, pick, smooth_noise, soft_step, spikes, turn

CLASSES = ("benign tumor", "malignant tumor", "normal scan")
MODALITIES = ("ultrasound", "breast ultrasound", "sonography", "B mode ultrasound")
ORGAN = "breast"


def draw(classname: str, rng: np.random.Generator, size: int) -> Phantom:
    """Layers of skin, fat, gland and muscle under speckle; a hypoechoic mass with its acoustic effect behind."""
    x, y = grid(size)
    wave = 0.05 * smooth_noise(rng, size, 3)
    image = np.full((size, size), rng.uniform(0.28, 0.4), np.float32)  # fat
    image = mix(image, rng.uniform(0.55, 0.75), soft_step(y + 0.86, 0.05))  # skin
    gland = soft_step(np.abs(y + wave - rng.uniform(-0.15, 0.1)) - rng.uniform(0.3, 0.5), 0.15)
    image = mix(image, rng.uniform(0.5, 0.66) + 0.07 * smooth_noise(rng, size, 7, 2), gland)
    image = mix(image, rng.uniform(0.2, 0.35), soft_step(rng.uniform(0.62, 0.78) - y + wave, 0.08))  # muscle
    septa = np.clip(1 - np.abs(smooth_noise(rng, size, 5)) * 9, 0, 1)
    image = mix(image, 0.7, septa * 0.4)
    mask = np.zeros((size, size), np.float32)
    cx, cy, radius = rng.uniform(-0.35, 0.35), rng.uniform(-0.3, 0.15), rng.uniform(0.16, 0.3)
    behind = soft_step(np.abs(x - cx) - radius * 0.85, 0.15) * soft_step(cy + radius * 0.6 - y, 0.2)
    if classname == "benign tumor":
        wide = rng.uniform(1.25, 1.8)
        mask = blob(rng, size, cx, cy, radius / wide**0.5, aspect=wide, irregular=rng.uniform(0, 0.06), edge=0.03)
        image = mix(image, np.clip(image * 1.35 + 0.08, 0, 1), behind * rng.uniform(0.3, 0.9))
        dark = rng.uniform(0.04, 0.2)
        image = mix(image, dark, mask)
        finding = pick(
            rng,
            "an oval circumscribed hypoechoic mass, wider than tall, with posterior acoustic enhancement",
            "a smooth well defined parallel mass with a thin capsule and posterior enhancement",
            "an anechoic cyst like lesion with smooth margins and bright posterior echoes",
        )
    elif classname == "malignant tumor":
        body = spikes(rng, size, cx, cy, radius * 0.8, int(rng.integers(6, 14)), rng.uniform(0.3, 0.8))
        tall = blob(rng, size, cx, cy, radius, aspect=rng.uniform(0.65, 1.0), irregular=0.22, lobes=8)
        mask = np.maximum(body, tall)
        image = mix(image, 0.06, behind * rng.uniform(0.4, 0.95))
        halo = blob(rng, size, cx, cy, radius * 1.35, irregular=0.15, edge=0.2)
        image = mix(image, 0.72, np.clip(halo - mask, 0, 1) * rng.uniform(0.2, 0.6))
        image = mix(image, rng.uniform(0.1, 0.24) + 0.06 * smooth_noise(rng, size, 16), mask)
        finding = pick(
            rng,
            "an irregular spiculated hypoechoic mass, taller than wide, with posterior acoustic shadowing",
            "a hypoechoic mass with angular indistinct margins, an echogenic halo and shadowing",
            "an ill defined heterogeneous mass with spicules and a dark posterior shadow",
        )
    else:
        finding = pick(
            rng,
            "normal layered fat and fibroglandular tissue without a mass",
            "no focal lesion, regular fibroglandular echotexture",
            "homogeneous breast tissue with intact layers and no shadowing",
        )
    image, mask = turn(rng, image, mask, 5, 0.06, 0.12)
    speckle = blur(rng.exponential(1.0, (size, size)).astype(np.float32), 0.6)
    image = image * (1 - rng.uniform(0.5, 0.8) + speckle * rng.uniform(0.4, 0.8)) * (1 - 0.25 * (y + 1) / 2)
    phantom = finish(rng, image, mask, noise=0.02)
    phantom.attributes = {"finding": finding}
    return phantom
