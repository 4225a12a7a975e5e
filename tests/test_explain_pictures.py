"""Pictures of maps, read back from their pixels; who is asked for which map, and what stands above it. No model is loaded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from backbones import VisualPrompt
from explain import compare, figures
from explain.figures import OPACITY, OverlayWriter, Panel, displayed, draw, shares
from explain.saliency import Saliency

GREY = torch.full((64, 64, 3), 0.5)
PROMPT = VisualPrompt(torch.zeros(2, 4), "replace", True)


def panels(path: Path) -> list[np.ndarray]:
    """The panels of a picture of one row without titles, each as (H, W, 3) in 0..1."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")) / 255
    drawn = (pixels < 0.99).any(axis=2)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), drawn.any(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], columns.astype(int), [0]])))
    return [pixels[rows[0] : rows[-1] + 1, left:right] for left, right in zip(edges[::2], edges[1::2], strict=True)]


def colour(panel: np.ndarray, row: int, column: int, side: int = 4) -> np.ndarray:
    """What is seen in the middle of a patch."""
    height, width = panel.shape[:2]
    y, x = (row + 0.5) * height / side, (column + 0.5) * width / side
    return panel[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].mean(axis=(0, 1))


def over_grey(value: float) -> np.ndarray:
    """A map's colour over mid grey: the more there is, the less of the image is seen."""
    opacity = OPACITY[0] + (OPACITY[1] - OPACITY[0]) * value
    return opacity * np.array(matplotlib.colormaps["viridis"](value)[:3]) + (1 - opacity) * 0.5


def test_the_maps_of_a_row_share_a_scale_of_colours_and_opacity(tmp_path: Path) -> None:
    narrow, wide = torch.zeros(4, 4), torch.zeros(4, 4)
    narrow[0, 0] = narrow[3, 3] = 7.0  # half of the sum each
    wide[:2, :2] = 1.0  # a quarter each
    draw([[Panel("", GREY), Panel("", GREY, narrow), Panel("", GREY, wide)]], tmp_path / "map.png")
    plain, first, second = panels(tmp_path / "map.png")
    np.testing.assert_allclose(colour(plain, 0, 0), 0.5, atol=0.02)
    for panel, place, value in ((first, (0, 0), 1.0), (first, (0, 3), 0.0), (second, (0, 0), 0.5), (second, (3, 3), 0.0)):
        np.testing.assert_allclose(colour(panel, *place), over_grey(value), atol=0.1, err_msg=str((place, value)))


def test_a_masks_border_is_drawn_light_on_dark_where_it_divides_the_image(tmp_path: Path) -> None:
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[16:48, 16:48] = True
    for number, (outline, there) in enumerate([(mask, True), (mask | True, False), (mask & False, False), (None, False)]):
        draw([[Panel("", GREY)]], tmp_path / f"{number}.png", outline=outline)
        (panel,) = panels(tmp_path / f"{number}.png")
        inner = panel[6:-6, 6:-6]
        assert bool((inner > 0.9).all(axis=2).any() and (inner < 0.2).all(axis=2).any()) is there, number


def test_a_name_that_is_no_utf8_and_a_map_of_zeros(tmp_path: Path) -> None:
    draw([[Panel("scan\udcff.png", GREY, torch.zeros(4, 4))]], tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 0
    assert torch.equal(shares(torch.zeros(2, 2)), torch.zeros(2, 2))
    assert torch.equal(shares(torch.tensor([[1.0, 3.0]])), torch.tensor([[0.25, 0.75]]))


def test_normalised_pixels_are_shown_as_they_were() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.1)
    was = torch.rand(2, 5, 5, 3, generator=torch.Generator().manual_seed(1))
    normalised = ((was - torch.tensor(mean)) / torch.tensor(std)).permute(0, 3, 1, 2)
    torch.testing.assert_close(displayed(normalised, mean, std), was)
    far = displayed(torch.full((1, 3, 2, 2), 9.0), mean, std), displayed(torch.full((1, 3, 2, 2), -9.0), mean, std)
    assert [float(one.max()) for one in far] == [1.0, 0.0]


class Trainer:
    """Scores of two classes, and what explain asks a trainer for."""

    backbone = SimpleNamespace(image_size=8)
    cfg = SimpleNamespace(INPUT=SimpleNamespace(PIXEL_MEAN=(0, 0, 0), PIXEL_STD=(1, 1, 1)))
    device, classnames, scores = "cpu", ["cyst", "stone"], None

    def model_inference(self, images: torch.Tensor) -> torch.Tensor:
        return torch.tensor([0.0, 1.0986123]).expand(len(images), 2)  # 25 % and 75 %

    def visual_prompt(self) -> VisualPrompt:
        return PROMPT


def test_overlays_say_the_likeliest_class_and_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    drawn: list[tuple[str, list[str]]] = []

    def saliency(kind: str, backbone: object, images: torch.Tensor, *rest: object) -> Saliency:
        asked.append((kind, len(images), rest[0], rest[-1].tolist()))
        return Saliency(torch.ones(len(images), 2, 2), torch.zeros(len(images)))

    monkeypatch.setattr(figures, "saliency", saliency)
    monkeypatch.setattr(figures, "draw", lambda rows, path: drawn.append((path.name, [panel.title for panel in rows[0]])))
    write = OverlayWriter(Trainer(), tmp_path / "maps", "rollout")
    assert asked == [("rollout", 1, PROMPT, [1])] and not (tmp_path / "maps").exists()  # a mistake would be told here
    write([Path("a.png"), Path("b.png")], torch.zeros(2, 3, 8, 8))
    write([Path("a.png")], torch.zeros(1, 3, 8, 8))
    said = "rollout: stone 75.0 %"
    assert drawn == [(f"000{n}_{name}.png", [f"{name}.png", said]) for n, name in enumerate("aba", start=1)]
    assert asked[1] == ("rollout", 2, PROMPT, [1, 1])


def test_two_maps_of_each_image_with_and_without_the_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, prompted = torch.tensor([[4.0, 1.0], [1.0, 4.0]]), torch.tensor([[0.0, 0.0], [1.0, 3.0]])
    seen: list[object] = []

    def saliency(kind: str, backbone: object, images: torch.Tensor, prompt: object, *_: object) -> Saliency:
        seen.append(prompt)
        return Saliency((plain if prompt is None else prompted).expand(2, 2, 2), torch.full((2,), 0.25))

    monkeypatch.setattr(compare, "saliency", saliency)
    paths, images = [Path("a.png"), Path("b.png")], torch.zeros(2, 3, 8, 8)
    pictures, numbers = compare.compare_images(Trainer(), paths, images, PROMPT, ["gradcam", "rollout"], torch.tensor([1, 0]))
    assert seen == [None, PROMPT] * 2
    titles = [[panel.title for panel in row] for row in pictures[0]]
    assert titles[0] == ["a.png\ngradcam: stone", "without visual prompt", "with visual prompt"]
    assert titles[1][0] == "a.png\nrollout" and pictures[1][0][0].title == "b.png\ngradcam: cyst"
    # the first two patches are the prompts': of the rest 1 and 4 of 5 lie there without, 1 and 3 of 4 with
    assert numbers[0][0].moved == pytest.approx((abs(1 / 5 - 1 / 4) + abs(4 / 5 - 3 / 4)) / 2)
    assert numbers[0][0].prompt_share == 0.25


def test_the_border_of_an_images_own_mask_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, mask = tmp_path / "X" / "X" / "c" / "0.png", tmp_path / "X" / "masks" / "c" / "0.png"
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:4] = 255
    for path in (image, mask):
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path)
    drawn: list[tuple[str, object]] = []
    monkeypatch.setattr(compare, "draw", lambda rows, path, outline: drawn.append((path.name, outline)))
    compare.write_pictures(tmp_path, [image, Path("/elsewhere/b.png")], [[], []], 3, 8)
    assert [name for name, _ in drawn] == ["0003_0.png", "0004_b.png"] and drawn[1][1] is None
    assert torch.equal(drawn[0][1], torch.from_numpy(pixels > 0))
