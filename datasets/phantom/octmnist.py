"""Retinal OCT: choroidal neovascularization, diabetic macular edema, drusen, normal."""

from __future__ import annotations

import numpy as np

from datasets.phantom.base import Phantom, band, blob, blur, finish, mix, pick, smooth_noise, turn

CLASSES = ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal OCT scan")
MODALITIES = ("OCT", "optical coherence tomography", "retinal OCT", "OCT B scan")
ORGAN = "retina"


def draw(classname: str, rng: np.random.Generator, size: int) -> Phantom:
    """Retinal layers with a foveal pit; membrane beneath, cysts within, or bumps under the pigment epithelium."""
    line = np.linspace(-1, 1, size)
    tilt = rng.uniform(-0.12, 0.12) * line + rng.uniform(-0.08, 0.1) * line**2
    fovea = rng.uniform(-0.25, 0.25)
    pit = np.exp(-((line - fovea) ** 2) / rng.uniform(0.03, 0.07))
    rpe = 0.3 + tilt + rng.normal(0, 0.06)
    thick = rng.uniform(0.42, 0.52)
    image = np.full((size, size), 0.04, np.float32)
    mask = np.zeros((size, size), np.float32)
    lift = np.zeros(size)
    if classname == "drusen":
        for _ in range(rng.integers(3, 8)):
            lift += rng.uniform(0.05, 0.11) * np.exp(-((line - rng.uniform(-0.8, 0.8)) ** 2) / rng.uniform(0.003, 0.012))
        finding = pick(
            rng,
            "bumpy dome shaped elevations of the retinal pigment epithelium",
            "multiple small deposits under an undulating pigment epithelium",
        )
    elif classname == "choroidal neovascularization":
        centre = rng.uniform(-0.3, 0.3)
        lift = rng.uniform(0.14, 0.26) * np.exp(-((line - centre) ** 2) / rng.uniform(0.04, 0.1))
        finding = pick(
            rng,
            "a hyperreflective subretinal membrane with subretinal fluid",
            "a fibrovascular pigment epithelial detachment with fluid above it",
        )
    elif classname == "diabetic macular edema":
        thick *= rng.uniform(1.15, 1.45)
        pit = pit * rng.uniform(0.1, 0.6)
        finding = pick(
            rng,
            "dark intraretinal cystoid spaces with a thickened retina",
            "cystoid swelling of the macula and hard exudates",
        )
    else:
        finding = pick(
            rng,
            "a normal foveal pit with smooth regular layers",
            "preserved foveal contour and a flat pigment epithelium without fluid",
        )
    top = rpe - thick + 0.24 * pit
    outer = rpe - lift
    for fraction, brightness in ((0.06, 0.7), (0.26, 0.32), (0.42, 0.5), (0.58, 0.28), (0.74, 0.42), (0.86, 0.22)):
        centre = top + (outer - top) * fraction
        image = mix(image, brightness * rng.uniform(0.85, 1.15), band(size, centre, 0.16 * thick / 0.46))
    image = mix(image, rng.uniform(0.35, 0.5), band(size, rpe + 0.2, 0.36, 0.2) * 0.7)  # choroid
    if classname == "choroidal neovascularization":
        _, y = np.meshgrid(line, line)
        under = np.clip((y - outer[None]) * 30, 0, 1) * np.clip((rpe[None] - y) * 30, 0, 1)
        image = mix(image, rng.uniform(0.5, 0.75) + 0.1 * smooth_noise(rng, size, 12), under)
        fluid = band(size, outer - 0.05, 0.09 * np.clip(lift / 0.1, 0, 1)[None])
        image = mix(image, 0.03, fluid * 0.9)
        mask = np.maximum(under, fluid)
    image = mix(image, rng.uniform(0.85, 1.0), band(size, outer, 0.055))
    if classname == "drusen":
        _, y = np.meshgrid(line, line)
        mask = np.clip((y - outer[None]) * 30, 0, 1) * np.clip((rpe[None] - y) * 30, 0, 1)
        image = mix(image, 0.5, mask * 0.7)
    if classname == "diabetic macular edema":
        for _ in range(rng.integers(3, 9)):
            column = float(np.clip(fovea + rng.normal(0, 0.25), -0.9, 0.9))
            index = int((column + 1) / 2 * (size - 1))
            height = top[index] + (outer[index] - top[index]) * rng.uniform(0.3, 0.7)
            mask = np.maximum(mask, blob(rng, size, column, height, rng.uniform(0.04, 0.1), aspect=0.8, irregular=0.1))
        image = mix(image, 0.03, mask * 0.95)
    image, mask = turn(rng, image, mask, 4, 0.06, 0.1)
    speckle = blur(rng.exponential(1.0, (size, size)).astype(np.float32), 0.5)
    image = image * (0.45 + 0.55 * speckle)
    phantom = finish(rng, image, mask, noise=0.05)
    phantom.attributes = {"finding": finding}
    return phantom
