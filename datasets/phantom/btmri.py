"""Brain MRI: glioma, meningioma, pituitary tumour, normal."""

from __future__ import annotations

import numpy as np

from datasets.phantom.base import (
    Array,
    Phantom,
    blob,
    blur,
    curve,
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

CLASSES = ("glioma tumor", "meningioma tumor", "pituitary tumor", "normal brain")
MODALITIES = ("MRI", "MR", "magnetic resonance image", "contrast enhanced T1 MRI")
ORGAN = "brain"


def draw(classname: str, rng: np.random.Generator, size: int) -> Phantom:
    """An axial slice with skull, cortex, ventricles; the tumour is intra-axial, dural-based or sellar."""
    # the sella is seen at the skull base alone, below the lateral ventricles
    basal = classname == "pituitary tumor" or rng.random() < 0.3
    image, brain, rx, ry = _head(rng, size, basal)
    mask = np.zeros((size, size), np.float32)
    plain = image
    if classname == "glioma tumor":
        image, mask, finding = _glioma(rng, size, image, brain, rx, ry)
    elif classname == "meningioma tumor":
        image, mask, finding = _meningioma(rng, size, image, brain, rx, ry)
    elif classname == "pituitary tumor":
        image, mask, finding = _pituitary(rng, size, image)
    else:
        finding = pick(
            rng,
            "no mass, symmetric ventricles and normal grey white differentiation",
            "normal symmetric brain parenchyma without a mass or oedema",
            "preserved sulci and ventricles, midline in place, no abnormal enhancement",
        )
    image = plain + (image - plain) * rng.uniform(0.35, 1.0)  # without contrast agent a mass is hard to see
    image, mask = turn(rng, image, mask, 14, 0.08, 0.12)
    phantom = finish(rng, image, mask, noise=0.045)
    phantom.attributes = {"finding": finding}
    return phantom


def _head(rng: np.random.Generator, size: int, basal: bool) -> tuple[Array, Array, float, float]:
    x, y = grid(size)
    rx, ry = rng.uniform(0.6, 0.72), rng.uniform(0.76, 0.88)
    r, _ = polar(size, 0, 0, rx / ry)
    r = r / ry
    image = np.zeros((size, size), np.float32) + rng.uniform(0, 0.03)
    image = mix(image, rng.uniform(0.45, 0.8), np.clip((1.1 - r) * 25, 0, 1))  # scalp fat
    image = mix(image, rng.uniform(0.02, 0.1), np.clip((1.03 - r) * 30, 0, 1))  # skull
    brain = np.clip((0.95 - r) * 25, 0, 1)
    grey, white = rng.uniform(0.3, 0.4), rng.uniform(0.42, 0.56)
    folds = smooth_noise(rng, size, 11)
    image = mix(image, grey + 0.03 * folds, brain)
    image = mix(image, white + 0.02 * smooth_noise(rng, size, 6), np.clip((0.78 + 0.06 * folds - r) * 12, 0, 1))
    image = mix(image, rng.uniform(0.08, 0.2), np.clip(0.6 - np.abs(x) * 60, 0, 0.7) * brain)  # falx
    fluid = rng.uniform(0.06, 0.18)
    if basal:
        image = _skull_base(rng, size, image, brain, grey, white, fluid)
    else:
        width = rng.uniform(0.05, 0.1)
        for sign in (-1, 1):
            tilt = sign * rng.uniform(0.2, 0.4)
            image = mix(image, fluid, blob(rng, size, sign * 0.13, -0.12, 0.2, aspect=width / 0.2, angle=tilt))
            image = mix(image, fluid, blob(rng, size, sign * 0.19, 0.22, 0.17, aspect=width / 0.2, angle=-tilt))
    return image, brain, rx, ry


def _skull_base(
    rng: np.random.Generator, size: int, image: Array, brain: Array, grey: float, white: float, fluid: float
) -> Array:
    """A low slice: temporal lobes behind the sphenoid's wings, the cistern around the sella, brain stem and cerebellum."""
    x, y = grid(size)
    for sign in (-1, 1):
        lobe = blob(rng, size, sign * 0.36, -0.02, 0.24, aspect=0.95, irregular=0.06, edge=0.06)
        image = mix(image, white * 0.95 + 0.02 * smooth_noise(rng, size, 8), lobe * brain * 0.6)
        wing = [(sign * 0.14, -0.12), (sign * 0.34, -0.3), (sign * 0.6, -0.28)]  # Sylvian fissure and sphenoid wing
        image = mix(image, fluid * 0.7, curve(rng, size, wing, 0.05) * brain * 0.85)
        petrous = [(sign * 0.16, 0.16), (sign * 0.36, 0.26), (sign * 0.58, 0.28)]
        image = mix(image, fluid * 0.5, curve(rng, size, petrous, 0.06) * brain * 0.85)
    leaves = 0.5 + 0.5 * np.sin((y + 0.3 * np.abs(x)) * rng.uniform(55, 65) + 1.5 * smooth_noise(rng, size, 5))
    behind = soft_step(0.36 + 0.25 * np.abs(x) - y, 0.05) * brain
    image = mix(image, grey * 0.8 + (white - grey) * leaves, behind * 0.8)  # cerebellum
    image = mix(image, fluid, blob(rng, size, 0, -0.03, 0.13, aspect=1.15, ragged=0.12))  # suprasellar cistern
    image = mix(image, white * 0.95, blob(rng, size, 0, 0.24, 0.15, aspect=1.1, edge=0.03))  # brain stem
    return mix(image, fluid, blob(rng, size, 0, 0.42, 0.045, aspect=1.4))  # fourth ventricle


def _glioma(rng: np.random.Generator, size: int, image: Array, brain: Array, rx: float, ry: float):
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.58)
    cx, cy = reach * rx * np.cos(angle), reach * ry * np.sin(angle)
    radius = rng.uniform(0.15, 0.3)
    oedema = blob(rng, size, cx, cy, radius * rng.uniform(1.4, 1.9), irregular=0.25, edge=0.14) * brain
    image = mix(image, rng.uniform(0.18, 0.27), oedema * 0.75)
    shape = blob(rng, size, cx, cy, radius, aspect=rng.uniform(0.8, 1.25), irregular=0.2, lobes=7) * brain
    image = mix(image, 0.42 + 0.16 * smooth_noise(rng, size, 14), shape)
    enhancing = rng.random() < 0.75
    if enhancing:
        core = blob(rng, size, cx, cy, radius * rng.uniform(0.55, 0.75), irregular=0.22, lobes=7)
        image = mix(image, rng.uniform(0.75, 0.95), np.clip(shape - core, 0, 1))
        image = mix(image, rng.uniform(0.1, 0.25), core * shape)
    lobe = pick(rng, "frontal lobe", "temporal lobe") if cy < 0 else pick(rng, "parietal lobe", "occipital lobe")
    what = (
        pick(
            rng,
            "an irregular ring enhancing mass with a necrotic core",
            "a heterogeneous rim enhancing intra axial mass with central necrosis",
            "an ill defined infiltrating mass with a thick irregular enhancing rim",
        )
        if enhancing
        else pick(
            rng,
            "an ill defined heterogeneous infiltrative mass in the white matter",
            "an irregular hypointense intra axial lesion with infiltrating margins",
        )
    )
    around = pick(rng, "surrounding vasogenic oedema", "peritumoral edema and mass effect", "extensive white matter edema")
    return image, shape, f"{what} and {around} in the {side(cx)} {lobe}"


def _meningioma(rng: np.random.Generator, size: int, image: Array, brain: Array, rx: float, ry: float):
    radius = rng.uniform(0.13, 0.26)
    falcine = rng.random() < 0.2
    if falcine:
        cx, cy = rng.choice([-1, 1]) * radius * 0.8, rng.uniform(-0.6, -0.3)
        place = pick(rng, "along the falx", "at the interhemispheric fissure")
    else:
        angle = rng.uniform(0, 2 * np.pi)
        cx, cy = (0.93 * rx - radius * 0.75) * np.cos(angle), (0.93 * ry - radius * 0.75) * np.sin(angle)
        place = pick(rng, "at the convexity", "abutting the dura", "along the inner table of the skull")
    shape = blob(rng, size, cx, cy, radius, aspect=rng.uniform(0.85, 1.2), irregular=0.035, edge=0.03) * brain
    rim = blob(rng, size, cx, cy, radius * 1.12, irregular=0.03, edge=0.04) * brain
    image = mix(image, 0.14, np.clip(rim - shape, 0, 1) * 0.7)  # cleft of fluid around an extra-axial mass
    bright = rng.uniform(0.66, 0.9)
    image = mix(image, bright + 0.02 * smooth_noise(rng, size, 8), shape)
    if not falcine and rng.random() < 0.7:
        r, theta = polar(size, 0, 0, rx / ry)
        along = np.abs(np.angle(np.exp(1j * (theta - np.arctan2(cy, cx * ry / rx)))))
        tail = np.clip(1 - np.abs(r / ry - 0.93) * 30, 0, 1) * np.clip(0.6 - along, 0, 1)
        image = mix(image, bright, np.clip(tail * 2, 0, 0.9))
    what = pick(
        rng,
        "a well circumscribed homogeneous enhancing extra axial mass with a dural tail",
        "a round dural based mass with uniform bright enhancement and smooth margins",
        "a sharply marginated broad based extra axial mass with a cerebrospinal fluid cleft",
    )
    return image, shape, f"{what} {place} on the {side(cx)}"


def _pituitary(rng: np.random.Generator, size: int, image: Array):
    radius = rng.uniform(0.09, 0.17)
    cx, cy = rng.normal(0, 0.02), rng.uniform(-0.08, 0.0)
    shape = blob(rng, size, cx, cy, radius, aspect=rng.uniform(0.9, 1.15), ragged=0.05, edge=0.03)
    if rng.random() < 0.6:  # figure of eight through the diaphragma sellae
        shape = np.maximum(shape, blob(rng, size, cx, cy - radius * 0.9, radius * 0.7, edge=0.03))
    image = mix(image, 0.05, blob(rng, size, cx, cy, radius * 1.35, edge=0.08) * 0.8)
    image = mix(image, rng.uniform(0.62, 0.88), shape)
    for sign in (-1, 1):  # carotid flow voids
        image = mix(image, 0.02, blob(rng, size, cx + sign * radius * 1.35, cy + 0.03, 0.035))
    what = pick(
        rng,
        "a small midline sellar mass with suprasellar extension",
        "a round midline enhancing mass in the sella turcica at the skull base",
        "an enlarged pituitary gland, a sellar mass lifting the optic chiasm",
    )
    return blur(image, 0.5), shape, f"{what} between the cavernous sinuses"
