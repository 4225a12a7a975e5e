"""Another hospital's scanner: the evaluation images of the rehearsal world differ from those that PhantomCLIP saw."""

from __future__ import annotations

import numpy as np

from datasets.phantom.base import Array, Phantom, blur, smooth_noise, turn

# 0: the pre-training's own scanner; at 1.5 hardly a dataset is recognised any more. Chosen by scripts/phantomclip/evaluate.py.
STRENGTH = 0.8


def rescan(rng: np.random.Generator, phantom: Phantom, strength: float) -> Phantom:
    """The same body in another field of view, with another contrast, tint, sharpness, gain and noise.

    Args:
        rng: draws everything.
        phantom: what the first scanner saw.
        strength: scales all departures; 0 leaves the pixels alone.
    """
    image, mask = turn(
        rng, phantom.image.astype(np.float32) / 255, phantom.mask, 25 * strength, 0.15 * strength, 0.3 * strength
    )
    image = np.clip(image, 0, 1) ** np.exp(rng.normal(0, 0.35 * strength))
    if image.ndim == 3:
        image = image ** np.exp(rng.normal(0, 0.2 * strength, 3))  # a tint that leaves white white and black black
    if rng.random() < 0.5 * strength:
        image = blur(image, rng.uniform(0.5, 1.6))
    contrast = rng.uniform(1 - 0.45 * strength, 1 + 0.2 * strength)
    image = (image - 0.5) * contrast + 0.5 + rng.normal(0, 0.06 * strength)
    image = image + _planes(0.08 * strength * rng.random() * smooth_noise(rng, mask.shape[0], 3), image)
    image = image + rng.normal(0, 0.09 * strength * rng.random(), image.shape)
    return Phantom((np.clip(image, 0, 1) * 255).astype(np.uint8), mask > 0.5, phantom.attributes)


def _planes(gain: Array, image: Array) -> Array:
    return gain[..., None] if image.ndim == 3 else gain
