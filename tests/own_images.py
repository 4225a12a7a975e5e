"""Images of a user's own, and short runs on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import train
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UserError
from runs.config import configured
from tests.conftest import REPO

KINDS = {"bright": 210, "dark": 40, "grey": 120}


def draw(folder: Path, kind: str, count: int, start: int = 0) -> list[Path]:
    """``count`` small grey PNGs ``<kind>_<n>.png``; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([len(kind), start])
    paths = [folder / f"{kind}_{number}.png" for number in range(start, start + count)]
    for path in paths:
        pixels = rng.normal(KINDS.get(kind, 90), 12, (24, 24)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def write_yaml(path: Path, **own: Any) -> Path:
    """A dataset's file with these keys of DATASET."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"DATASET": {"NAME": "ImageFolderSplit", **own}}, sort_keys=False))
    return path


def run(config: Path, out: Path, *words: object, method: str = "CoOp", task: str = "few_shot", seeds: tuple[int, ...] = (1,),
        shots: int = 2) -> int:  # fmt: skip
    """train.py on PhantomCLIP for an epoch; its exit status."""
    quick = ["DATALOADER.NUM_WORKERS", 0, "USE_CUDA", False, *(["OPTIM.MAX_EPOCH", 1] if method == "CoOp" else [])]
    split = "few_shot" if task == "few_shot" else "base_to_novel"
    own = REPO / "configs" / "trainers" / method / f"{split}.yaml"
    call = ["--root", out.parent, "--trainer", method, "--backbone", "PhantomCLIP", "--dataset-config-file", config,
            "--config-file", own if own.is_file() else own.with_name("few_shot.yaml"), "--task", task, "--shots", shots,
            "--seeds", *seeds, "--output-root", out, *quick, *words]  # fmt: skip
    return train.main([str(word) for word in call])


def records(out: Path) -> list[dict[str, Any]]:
    """The results below a folder, in the order of their folders."""
    return [json.loads(path.read_text()) for path in sorted(out.rglob("results.json"))]


def dataset(config: Path, **more: Any) -> Any:
    """The dataset that a run with this file would train on, all of its images."""
    cfg = configured("CoOp", files=[config], settings={f"DATASET.{key}": value for key, value in more.items()})
    return DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)


def parts(found: Any, field: str = "classname") -> dict[str, list[str]]:
    """A field of every image, by part."""
    return {part: [getattr(item, field) for item in items] for part, items in
            (("train", found.train_x), ("val", found.val), ("test", found.test))}  # fmt: skip


def refused(config: Path, **more: Any) -> str:
    """The one line with which a dataset is refused."""
    with pytest.raises(UserError) as caught:
        dataset(config, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)
