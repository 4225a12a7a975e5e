"""Drawn X-rays in folders of parts, and what a check finds in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from datasets import phantom
from datasets.check.__main__ import check, config_of
from tests.own_images import write_yaml

SIDE = 96


def xray(number: int, key: str = "kneexray") -> Image.Image:
    """A drawn X-ray, another for each number."""
    pixels = phantom.draw(key, "healthy knee" if key == "kneexray" else "normal lungs", seed=1, index=number, size=SIDE).image
    return Image.fromarray(pixels).convert("L")


def own_split(place: Path, **parts: dict[str, dict[str, Image.Image]]) -> Path:
    """A YAML of images by part, class and name, in folders of parts."""
    for part, classes in parts.items():
        for name, images in classes.items():
            (place / "images" / part / name).mkdir(parents=True, exist_ok=True)
            for stem, image in images.items():
                image.save(place / "images" / part / name / f"{stem}.png")
    return write_yaml(place / "mine.yaml", FOLDER=str(place / "images"), MODALITY="X-ray")


def three_parts(**more: Image.Image) -> dict[str, dict[str, dict[str, Image.Image]]]:
    """Different X-rays in each part and class; ``more`` are added to the test images of class b."""
    numbers = iter(range(100))
    parts = {part: {name: {f"{part}{n}": xray(next(numbers)) for n in range(3)} for name in "ab"}
             for part in ("train", "val", "test")}  # fmt: skip
    parts["test"]["b"] |= more
    return parts


def checked(config: Path | str, *opts: str, root: Path | str = "data") -> dict[str, Any]:
    return check(config_of(str(config), str(root), opts))


def kinds(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The findings by kind."""
    found = {one["kind"]: one for one in record["findings"]}
    assert len(found) == len(record["findings"])
    return found


def wrong(record: dict[str, Any]) -> set[str]:
    return {one["kind"] for one in record["findings"] if one["matters"]}
