"""Abdominal CT: kidney cyst, stone, tumour, normal."""

from __future__ import annotations

import numpy as np

from datasets.phantom.base import Phantom, blob, dots, finish, mix, pick, side, smooth_noise, turn

CLASSES = ("cyst kidney", "kidney stone", "kidney tumor", "normal kidney")
MODALITIES = ("CT", "abdominal CT", "computed tomography", "axial CT")
ORGAN = "kidney"


def draw(classname: str, rng: np.random.Generator, size: int) -> Phantom:
    """An axial slice with liver, spine, bowel and two kidneys; one kidney carries the finding."""
    image = np.zeros((size, size), np.float32) + 0.01
    tall = rng.uniform(0.62, 0.74)
    body = blob(rng, size, 0, 0, tall, aspect=rng.uniform(1.2, 1.35), irregular=0.02)
    image = mix(image, rng.uniform(0.16, 0.26), body)  # fat
    inner = blob(rng, size, 0, 0.0, tall * 0.88, aspect=1.3, irregular=0.03)
    image = mix(image, rng.uniform(0.28, 0.36), inner * 0.8)
    image = mix(image, rng.uniform(0.48, 0.56), blob(rng, size, -0.42, -0.22, 0.34, aspect=1.1, irregular=0.12) * inner)
    for _ in range(rng.integers(3, 7)):
        loop = blob(rng, size, rng.uniform(-0.1, 0.6), rng.uniform(-0.5, -0.05), rng.uniform(0.06, 0.13), irregular=0.15)
        image = mix(image, rng.choice([0.42, 0.5, 0.05]), loop * inner)
    image = mix(image, 0.42, blob(rng, size, 0, 0.48, 0.28, aspect=1.7, irregular=0.05) * body)  # muscle
    image = mix(image, rng.uniform(0.85, 1.0), blob(rng, size, 0, 0.33, 0.13, irregular=0.06))  # vertebra
    image = mix(image, 0.5, blob(rng, size, 0, 0.36, 0.06))
    image = mix(image, rng.uniform(0.6, 0.85), blob(rng, size, 0.05, 0.12, 0.06))  # aorta
    cortex = rng.uniform(0.56, 0.7)
    centres = [(sign * rng.uniform(0.4, 0.46), rng.uniform(0.12, 0.2)) for sign in (-1, 1)]
    kidneys = np.zeros((size, size), np.float32)
    for sign, (cx, cy) in zip((-1, 1), centres, strict=True):
        kidney = blob(rng, size, cx, cy, 0.27, aspect=0.8, angle=sign * 0.4, irregular=0.04)
        sinus = blob(rng, size, cx - sign * 0.08, cy, 0.1, irregular=0.25, edge=0.06)
        image = mix(mix(image, cortex, kidney), rng.uniform(0.22, 0.34), sinus * kidney * 0.9)
        kidneys = np.maximum(kidneys, kidney)
    which = int(rng.integers(2))
    (cx, cy), where = centres[which], side((-1, 1)[which])
    mask = np.zeros((size, size), np.float32)
    turn_to, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.19)
    lx, ly = cx + reach * np.cos(turn_to), cy + reach * np.sin(turn_to)
    if classname == "cyst kidney":
        radius = rng.uniform(0.1, 0.19)
        image = mix(image, cortex * 0.9, blob(rng, size, lx, ly, radius * 1.1, edge=0.025) * inner)  # a wall as thin as a pixel
        mask = blob(rng, size, lx, ly, radius, edge=0.025) * inner
        image = mix(image, rng.uniform(0.34, 0.4), mask)
        finding = pick(
            rng,
            "a round smooth water density cyst without enhancement",
            "a well defined homogeneous low attenuation fluid lesion with a thin wall",
            "a sharply marginated hypodense renal cyst",
        )
    elif classname == "kidney stone":
        near = blob(rng, size, cx, cy, 0.15)
        mask = dots(rng, size, int(rng.integers(1, 4)), (0.03, 0.065), near)
        image = mix(image, 1.0, mask)
        finding = pick(
            rng,
            "a small very bright calcified stone in the collecting system",
            "a hyperdense calculus in the renal pelvis",
            "a tiny high attenuation focus in the calyx",
        )
    elif classname == "kidney tumor":
        radius = rng.uniform(0.16, 0.26)
        mask = blob(rng, size, lx, ly, radius, ragged=0.14) * inner
        image = mix(image, rng.uniform(0.48, 0.6) + 0.12 * smooth_noise(rng, size, 12, 2), mask)
        necrosis = blob(rng, size, lx, ly, radius * rng.uniform(0.35, 0.55), ragged=0.35)
        image = mix(image, 0.3, necrosis * mask * 0.9)
        finding = pick(
            rng,
            "an irregular heterogeneous enhancing solid mass distorting the contour",
            "a bulging solid renal mass with central necrosis",
            "an exophytic inhomogeneous enhancing mass",
        )
    else:
        finding = pick(
            rng,
            "two kidneys of normal size with homogeneous cortex",
            "no stone, cyst or mass, smooth renal contours",
            "symmetric normal enhancement of the renal parenchyma",
        )
    finding = f"{finding} in the {where} kidney" if classname != "normal kidney" else finding
    image, mask = turn(rng, image, mask, 6, 0.06, 0.1)
    phantom = finish(rng, image, mask, noise=0.03, bias=0.03)
    phantom.attributes = {"finding": finding}
    return phantom
