"""What the rehearsal world's pictures must not show: wedges, tints of white, a class told by brightness, lesions of a pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import phantom
from datasets.phantom.__main__ import contact_sheet, main
from datasets.phantom.base import curve, turn

COUNT = 12


def drawn(key: str, classname: str, count: int = COUNT, seed: int = 0) -> list[phantom.Phantom]:
    return [phantom.draw(key, classname, seed, index) for index in range(count)]


@pytest.mark.parametrize("channels", [(), (3,)])
def test_turning_leaves_no_black_corner(channels: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        image, mask = turn(rng, np.full((64, 64, *channels), 0.7, np.float32), np.zeros((64, 64), np.float32), 180, 0.2, 0.3)
        assert image.min() > 0.69 and image.shape == (64, 64, *channels) and mask.max() == 0


def test_what_is_dark_outside_stays_dark_outside() -> None:
    """No mirror image of a head beside the head."""
    x, y = np.meshgrid(*[np.linspace(-1, 1, 64)] * 2)
    head = (np.hypot(x, y) < 0.95).astype(np.float32)
    small, _ = turn(np.random.default_rng(1), head, head, 0, 0, 0.3)
    for seed in range(20):
        small, _ = turn(np.random.default_rng(seed), head, head, 10, 0.0, 0.3)
        assert small[:2, :2].max() == small[-2:, -2:].max() == 0


def test_turning_keeps_image_and_mask_together() -> None:
    rng = np.random.default_rng(0)
    spot = np.zeros((64, 64), np.float32)
    spot[30:40, 20:30] = 1
    for _ in range(5):
        image, mask = turn(rng, spot, spot, 40, 0.1, 0.1)
        assert np.abs(image - mask).mean() < 0.01 and 60 < mask.sum() < 140


def test_an_empty_slide_is_white_or_grey() -> None:
    for one in drawn("chmnist", "empty background"):
        red, green, blue = one.image.reshape(-1, 3).astype(float).mean(axis=0)
        assert max(red, green, blue) - min(red, green, blue) < 25, (red, green, blue)  # another scanner tints a little


def test_brightness_does_not_tell_a_wide_cup() -> None:
    """The mean of the disc overlaps between the classes; the mask of glaucoma is the disc, the same place in a normal eye."""
    from datasets.phantom.base import blob
    from datasets.phantom.retina import _nerve_head

    means = {}
    for name, ratios in (("wide", (0.62, 0.85)), ("small", (0.22, 0.42))):
        rng, found = np.random.default_rng(3), []
        for _ in range(60):
            whole = blob(rng, 128, 0.4, 0.0, 0.17, aspect=0.92)
            colours, weight = _nerve_head(rng, 128, whole, (0.4, 0.0, 0.17), rng.uniform(*ratios))
            found.append(float((colours.mean(axis=-1) * weight).sum() / weight.sum()))
        means[name] = np.array(found)
    assert abs(means["wide"].mean() - means["small"].mean()) < 0.5 * means["small"].std()


def test_a_pituitary_tumour_lies_at_the_skull_base(monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets.phantom import btmri

    seen = []
    head = btmri._head
    monkeypatch.setattr(btmri, "_head", lambda rng, size, basal: seen.append(basal) or head(rng, size, basal))
    for index in range(20):
        btmri.draw("pituitary tumor", np.random.default_rng(index), 64)
    assert all(seen) and len(seen) == 20
    seen.clear()
    for index in range(20):
        btmri.draw("normal brain", np.random.default_rng(index), 64)
    assert True in seen and False in seen


@pytest.mark.parametrize("name, least", [("cyst kidney", 60), ("kidney tumor", 150), ("kidney stone", 8)])
def test_lesions_of_a_kidney_can_be_seen(name: str, least: int) -> None:
    """Wide enough, and of another grey than what is around them, in most images."""
    areas, contrasts = [], []
    for one in drawn("ctkidney", name):
        inside = one.mask
        rim = np.asarray(Image.fromarray(inside).resize((128, 128))) & inside
        around = _grown(inside, 4) & ~_grown(inside, 1)
        areas.append(int(rim.sum()))
        contrasts.append(abs(float(one.image[inside].mean()) - float(one.image[around].mean())) if inside.any() else 0)
    assert np.median(areas) >= least and np.median(contrasts) > (25 if name == "kidney stone" else 8)


def _grown(mask: np.ndarray, steps: int) -> np.ndarray:
    from scipy.ndimage import binary_dilation

    return binary_dilation(mask, iterations=steps)


def test_a_line_is_bent_without_corners() -> None:
    """Through three points: far from both chords in between, where a polyline would lie on them."""
    line = curve(np.random.default_rng(0), 128, [(-0.8, 0.6), (0.0, -0.6), (0.8, 0.6)], 0.03, wiggle=0.0)
    rows, columns = np.nonzero(line > 0.5)
    x, y = columns / 63.5 - 1, rows / 63.5 - 1
    chord = np.where(x < 0, -0.6 - 1.5 * x, -0.6 + 1.5 * x)
    assert np.abs(y - chord).max() > 0.15


def test_a_contact_sheet_says_what_it_is(tmp_path: Path) -> None:
    contact_sheet("busi", tmp_path / "busi.png", 64, 0, columns=3)
    with Image.open(tmp_path / "busi.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    assert pixels.shape == (16 + 3 * (16 + 64), 3 * 64, 3)
    title = pixels[:16].reshape(-1, 3)
    assert (np.abs(title - (176, 0, 32)).sum(axis=1) < 60).sum() > 30  # the red line
    for row in range(3):
        name = pixels[16 + row * 80 : 32 + row * 80]
        assert (name.sum(axis=2) < 200).sum() > 20
    assert main(["--contact-sheet", str(tmp_path / "all"), "--datasets", "busi", "--size", "32"]) == 0
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["busi.png"]
