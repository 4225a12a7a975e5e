"""Fundus photography: diabetic retinopathy, glaucoma, cataract, normal."""

from __future__ import annotations

import numpy as np

from datasets.phantom.base import Array, Phantom, blob, blur, curve, dots, finish, mix, pick, polar, smooth_noise, turn

CLASSES = ("diabetic retinopathy", "glaucoma", "cataract", "normal retina")
MODALITIES = ("fundus photography", "fundus", "retinal fundus photograph", "colour fundus")
ORGAN = "retina"


def _nerve_head(
    rng: np.random.Generator, size: int, whole: Array, place: tuple[float, float, float], ratio: float
) -> tuple[Array, Array]:
    """Colours (S, S, 3) and weight (S, S) of the optic disc: a pink rim around a pale cup.

    How bright the whole disc is does not tell how wide the cup is: its mean is drawn apart from it.

    Args:
        whole: the disc.
        place: its x, y and radius.
        ratio: of the cup's height to the disc's.
    """
    dx, dy, disc = place
    # a cup is higher than wide, and eats into the rim above or below first
    cup = blob(rng, size, dx, dy + disc * rng.normal(0, 0.05), disc * ratio, aspect=rng.uniform(0.8, 0.92), edge=0.03)
    colours = np.ones((size, size, 3), np.float32) * np.asarray((0.93, 0.58, 0.32), np.float32)
    colours = mix(colours, (0.96, 0.86, 0.62), cup)
    edge = np.clip(1 - np.abs(cup - 0.5) * 2.2, 0, 1)  # the step from the rim down into the cup
    colours = mix(colours, (0.72, 0.42, 0.24), edge * 0.5)
    mean = float((colours.mean(axis=-1) * whole).sum() / whole.sum())
    return np.clip(colours * rng.uniform(0.56, 0.72) / mean, 0, 1), whole * 0.95


def draw(classname: str, rng: np.random.Generator, size: int) -> Phantom:
    """An orange fundus with disc, cup, vessels and macula; spots, a wide cup, or haze."""
    r, _ = polar(size, 0, 0)
    colour = np.asarray((0.82, 0.4, 0.17)) * rng.uniform(0.75, 1.15) + rng.normal(0, 0.03, 3)
    image = np.ones((size, size, 3), np.float32) * colour
    image = (image * (1 + 0.06 * smooth_noise(rng, size, 5, 2))[..., None]).astype(np.float32)
    eye = rng.choice([-1, 1])
    dx, dy, disc = eye * rng.uniform(0.38, 0.5), rng.uniform(-0.08, 0.08), rng.uniform(0.15, 0.19)
    image = mix(image, (0.4, 0.16, 0.08), blob(rng, size, -eye * 0.12, 0.05, 0.16, edge=0.25) * 0.6)
    whole = blob(rng, size, dx, dy, disc, aspect=0.92, edge=0.04)
    ratio = rng.uniform(0.62, 0.85) if classname == "glaucoma" else rng.uniform(0.22, 0.42)
    image = mix(image, *_nerve_head(rng, size, whole, (dx, dy, disc), ratio))
    for vertical in (-1, 1):
        for spread in (0.35, 0.8):
            path = [(dx, dy), (dx - eye * 0.2, dy + vertical * spread * 0.7), (-eye * 0.4, vertical * spread)]
            image = mix(image, (0.5, 0.09, 0.06), curve(rng, size, path, rng.uniform(0.015, 0.03)) * 0.8)
        path = [(dx, dy), (dx + eye * 0.2, dy + vertical * 0.5), (dx + eye * 0.35, vertical * 0.8)]
        image = mix(image, (0.5, 0.09, 0.06), curve(rng, size, path, 0.018) * 0.8)
    mask = np.zeros((size, size), np.float32)
    if classname == "diabetic retinopathy":
        inside = np.clip((0.85 - r) * 20, 0, 1)
        bleeding = dots(rng, size, int(rng.integers(5, 22)), (0.02, 0.065), inside)
        exudate = dots(rng, size, int(rng.integers(3, 22)), (0.015, 0.05), inside)
        image = mix(mix(image, (0.38, 0.04, 0.03), bleeding * 0.9), (0.97, 0.9, 0.5), exudate * 0.9)
        mask = np.maximum(bleeding, exudate)
        finding = pick(
            rng,
            "dark red dot and blot haemorrhages with yellow hard exudates",
            "microaneurysms, haemorrhages and exudates around the macula",
        )
    elif classname == "glaucoma":
        mask = whole
        finding = pick(
            rng,
            "an enlarged pale optic cup with a thin neuroretinal rim",
            "a high cup to disc ratio with rim thinning",
        )
    elif classname == "cataract":
        image = blur(image, rng.uniform(2.0, 4.5))
        image = mix(image, (0.72, 0.55, 0.38), np.full((size, size), rng.uniform(0.3, 0.65)))
        mask = np.clip((0.9 - r) * 20, 0, 1)
        finding = pick(
            rng,
            "a hazy blurred view with washed out vessels and disc",
            "diffuse media opacity that hides the vessels",
        )
    else:
        finding = pick(
            rng,
            "a clear optic disc with a small cup and regular vessels",
            "no haemorrhage or exudate, healthy macula and disc",
        )
    if classname != "cataract" and rng.random() < 0.25:
        image = blur(image, rng.uniform(0.6, 1.6))
    image, mask = turn(rng, image, mask, 10, 0.05, 0.08)
    field = np.clip((rng.uniform(0.88, 0.97) - r) * 40, 0, 1)
    image = image * (field * (1.05 - 0.25 * r**2))[..., None]
    phantom = finish(rng, image, mask * field, noise=0.02, bias=0.08)
    phantom.attributes = {"finding": finding}
    return phantom
