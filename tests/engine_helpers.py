"""What the engine's tests share: toy images for the third-party code under tests/third_party, and its configs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from yacs.config import CfgNode

from tests.conftest import REPO

THIRD_PARTY = REPO / "tests" / "third_party"
sys.path.insert(0, str(THIRD_PARTY))  # its modules import one another as those of a repository of its own do

CLASSES = ("no_stripes", "thick_stripes", "thin_stripes")


def write_toy_images(root: Path, per_class: int = 16, size: int = 40) -> Path:
    """``root/toy_stripes/images/<class>/<number>.png``: classes that differ in brightness and stripes."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        folder = root / "toy_stripes" / "images" / name
        folder.mkdir(parents=True)
        for number in range(per_class):
            pixels = np.full((size, size, 3), 60.0 + 60 * label)
            pixels[:: 2 + 3 * label] += 30
            noisy = np.clip(pixels + rng.normal(0, 10, pixels.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"{number:02d}.png")
    return root


def words(trainer: str, config: str, root: Path, out: Path, *options: object) -> list[str]:
    """Arguments of tests/third_party/main.py."""
    path = THIRD_PARTY / "configs" / f"{config}.yaml"
    named = ["--root", root, "--output-dir", out, "--trainer", trainer, "--config-file", path, "--seed", 1]
    return [str(word) for word in (*named, *options)]


def third_party_config(trainer: str, config: str, root: Path, out: Path, *options: object) -> CfgNode:
    """What such a repository's own entry point makes of its arguments."""
    import main as entry

    return entry.setup_cfg(entry.parse_args(words(trainer, config, root, out, *options)))
