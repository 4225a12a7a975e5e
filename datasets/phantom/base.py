"""Drawing tools of the rehearsal world: soft shapes, textures, scanner effects, captions.

Coordinates: x to the right and y downwards, both from -1 to 1 over the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

Array = np.ndarray


@dataclass
class Phantom:
    """A drawn image.

    Attributes:
        image: uint8 (S, S) or (S, S, 3).
        mask: bool (S, S), the structures that decide the class; all False where there are none.
        attributes: what was drawn, in English phrases; ``finding`` describes the decisive structure.
    """

    image: Array
    mask: Array
    attributes: dict[str, str] = field(default_factory=dict)


@lru_cache(maxsize=4)
def grid(size: int) -> tuple[Array, Array]:
    """x and y of every pixel, float32 (S, S)."""
    line = np.linspace(-1, 1, size, dtype=np.float32)
    return np.meshgrid(line, line)


def smooth_noise(rng: np.random.Generator, size: int, cells: int, octaves: int = 1) -> Array:
    """Bicubic noise (S, S) with about ``cells`` bumps across, standard deviation about 1."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        coarse = rng.standard_normal((cells * 2**octave + 3,) * 2).astype(np.float32)
        fine = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
        total += fine * 0.6**octave
    return total / max(float(total.std()), 1e-6)


def soft_step(distance: Array, edge: float) -> Array:
    """1 inside (negative distance), 0 outside, with a transition ``edge`` wide."""
    return np.clip(0.5 - distance / max(edge, 1e-3), 0, 1)


def polar(size: int, cx: float, cy: float, aspect: float = 1.0, angle: float = 0.0) -> tuple[Array, Array]:
    """Radius and angle of each pixel around (cx, cy), the x axis stretched by ``aspect`` and turned by ``angle``."""
    x, y = grid(size)
    dx, dy = x - cx, y - cy
    cos, sin = np.cos(angle), np.sin(angle)
    u, v = (dx * cos + dy * sin) / aspect, -dx * sin + dy * cos
    return np.hypot(u, v), np.arctan2(v, u)


def blob(
    rng: np.random.Generator, size: int, cx: float, cy: float, radius: float, *, aspect: float = 1.0,
    angle: float = 0.0, irregular: float = 0.0, lobes: int = 6, ragged: float = 0.0, edge: float = 0.04,
) -> Array:  # fmt: skip
    """A soft shape (S, S) in [0, 1]; an ellipse, but for its lobes and for how ``ragged`` its border is.

    Args:
        irregular: relative depth of its ``lobes``, which are waves along the border.
        ragged: likewise, of a border that follows no wave.
    """
    r, theta = polar(size, cx, cy, aspect, angle)
    if ragged:
        r = r + radius * ragged * smooth_noise(rng, size, max(3, round(1.6 / radius)), 3)
    outline = np.full_like(r, radius)
    if irregular:
        waves = [rng.normal() * np.cos(k * theta + rng.uniform(0, 2 * np.pi)) / k**0.5 for k in range(2, lobes + 2)]
        outline *= np.clip(1 + irregular * np.sum(waves, axis=0), 0.35, 1.9)
    return soft_step(r - outline, edge)


def spikes(rng: np.random.Generator, size: int, cx: float, cy: float, radius: float, count: int, depth: float) -> Array:
    """A star-like soft shape: ``count`` thin spicules of relative length ``depth`` around a core."""
    r, theta = polar(size, cx, cy)
    outline = np.full_like(r, radius * 0.8)
    for _ in range(count):
        gap = np.angle(np.exp(1j * (theta - rng.uniform(-np.pi, np.pi))))
        outline += radius * depth * rng.uniform(0.4, 1) * np.exp(-((gap / rng.uniform(0.08, 0.2)) ** 2))
    return soft_step(r - outline, 0.04)


def band(size: int, centre: Array, width: float | Array, edge: float = 0.02) -> Array:
    """A soft horizontal band around the height ``centre`` (S,) at each column."""
    _, y = grid(size)
    return soft_step(np.abs(y - centre[None, :]) - np.asarray(width) / 2, edge)


def dots(rng: np.random.Generator, size: int, count: int, radius: tuple[float, float], inside: Array | None = None) -> Array:
    """``count`` small soft discs at random places (where ``inside`` is above 0.5, if given)."""
    total = np.zeros((size, size), np.float32)
    places = np.argwhere(inside > 0.5) if inside is not None else None
    if places is not None and len(places) == 0:
        return total
    for _ in range(count):
        if places is None:
            row, column = rng.uniform(0, size, 2)
        else:
            row, column = places[rng.integers(len(places))]
        reach = rng.uniform(*radius) * size / 2
        low_r, high_r = max(0, int(row - reach - 2)), min(size, int(row + reach + 3))
        low_c, high_c = max(0, int(column - reach - 2)), min(size, int(column + reach + 3))
        rows, columns = np.ogrid[low_r:high_r, low_c:high_c]
        disc = np.clip(reach + 0.5 - np.hypot(rows - row, columns - column), 0, 1)
        part = total[low_r:high_r, low_c:high_c]
        np.maximum(part, disc, out=part)
    return total


def curve(
    rng: np.random.Generator, size: int, points: Sequence[tuple[float, float]], width: float, wiggle: float = 0.012
) -> Array:
    """A soft line (S, S) through ``points``, ``width`` thick, bent without corners and wiggling a little."""
    from scipy.interpolate import make_interp_spline

    fine, knots = 3 * size, np.linspace(0, 1, len(points))
    t = np.linspace(0, 1, 96)
    way = make_interp_spline(knots, np.asarray(points, np.float64), k=min(3, len(points) - 1))(t)
    way = way + make_interp_spline(np.linspace(0, 1, 9), rng.normal(0, wiggle, (9, 2)), k=3)(t)
    canvas = Image.new("L", (fine, fine))
    path = [((x + 1) / 2 * fine, (y + 1) / 2 * fine) for x, y in way]
    ImageDraw.Draw(canvas).line(path, fill=255, width=max(2, round(width * fine / 2)), joint="curve")
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX), np.float32) / 255


def mix(image: Array, colour: float | Array | Sequence[float], weight: Array) -> Array:
    """Blend ``colour`` into ``image`` (S, S) or (S, S, 3) by ``weight`` (S, S)."""
    if image.ndim == 3:
        return image + (np.asarray(colour, np.float32) - image) * weight[..., None]
    return image + (colour - image) * weight


def blur(image: Array, sigma: float) -> Array:
    """Gaussian blur by ``sigma`` pixels."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(image, (sigma, sigma, 0) if image.ndim == 3 else sigma)


def turn(rng: np.random.Generator, image: Array, mask: Array, degrees: float, shift: float, zoom: float) -> list[Array]:
    """The same random rotation, shift and zoom for image and mask.

    What comes in over the border is what lies along it, where the corners are dark (air around a body, a round view), else its
    mirror image.
    """
    size = rim = mask.shape[0]
    angle = np.deg2rad(rng.uniform(-degrees, degrees))
    scale = 1 / rng.uniform(1 - zoom, 1 + zoom)
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    middle = size / 2
    dx, dy = rng.uniform(-shift, shift, 2) * middle
    matrix = (cos, sin, rim + middle - cos * (middle + dx) - sin * (middle + dy),
              -sin, cos, rim + middle + sin * (middle + dx) - cos * (middle + dy))  # fmt: skip

    corners = image[[0, 0, -1, -1], [0, -1, 0, -1]]
    beyond = "edge" if np.median(corners) < 0.25 else "reflect"

    def warp(plane: Array, kind: Image.Resampling) -> Array:
        picture = Image.fromarray(np.ascontiguousarray(np.pad(plane, rim, beyond), np.float32))
        return np.asarray(picture.transform((size, size), Image.Transform.AFFINE, matrix, kind))

    bilinear = Image.Resampling.BILINEAR
    if image.ndim == 3:
        image = np.stack([warp(image[..., channel], bilinear) for channel in range(3)], axis=-1)
    else:
        image = warp(image, bilinear)
    return [image, warp(mask.astype(np.float32), Image.Resampling.NEAREST)]


def finish(rng: np.random.Generator, image: Array, mask: Array, *, noise: float, bias: float = 0.12) -> Phantom:
    """Contrast, gamma, uneven gain and noise of the scanner, then 8 bits."""
    size = mask.shape[0]
    image = np.clip(image, 0, 1) ** rng.uniform(0.75, 1.35)
    gain = 1 + bias * smooth_noise(rng, size, 2)
    image = image * (gain[..., None] if image.ndim == 3 else gain)
    image = (image - 0.5) * rng.uniform(0.8, 1.15) + 0.5 + rng.uniform(-0.06, 0.06)
    image = image + rng.normal(0, noise * rng.uniform(0.4, 1.4), image.shape)
    if rng.random() < 0.25:
        image = blur(image, rng.uniform(0.4, 0.9))
    return Phantom((np.clip(image, 0, 1) * 255).astype(np.uint8), mask > 0.5)


def pick(rng: np.random.Generator, *choices: str) -> str:
    """One of the phrases."""
    return choices[rng.integers(len(choices))]


def side(x: float) -> str:
    """Image side of a structure as a radiologist says it (the patient's right is on the image's left)."""
    return "right" if x < 0 else "left"


NAMED = (
    "a {modality} photo of a {name}",
    "{modality} image of {name}",
    "{modality} of the {organ} with {name}",
    "{name} on {modality}: {finding}",
    "{name} appears on {modality} as {finding}",
    "{modality} of {name} shows {finding}",
    "{modality} of the {organ}, {finding}, {name}",
    "a photo of a {name}",
)
PLAIN = (
    "{modality} of the {organ} showing {finding}",
    "{modality} image with {finding}",
    "{finding} in the {organ}",
    "{modality} photo, {finding}",
    "{finding} seen on {modality}",
)


def compose_caption(rng: np.random.Generator, *, modality: str, organ: str, name: str, finding: str, named: float = 0.4) -> str:
    """A caption that names the class with probability ``named`` and otherwise only tells what is seen."""
    frames = NAMED if rng.random() < named else PLAIN
    return frames[rng.integers(len(frames))].format(modality=modality, organ=organ, name=name, finding=finding)
