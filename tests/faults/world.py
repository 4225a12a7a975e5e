"""What the rows share: own images, a finished run on them that no row may touch, and the words that commands are made of."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

REPO = Path(__file__).parents[2]
KINDS = {"bright": 210, "dark": 40, "grey": 120}
PER_CLASS = 8


def build(world: Path) -> Path:
    """Images, their YAML file, and a run of CoOp on PhantomCLIP, finished (``finished``, below ``out``)."""
    import train

    os.environ["BIOMED_DPT_CACHE"] = str(world / "cache")
    rng = np.random.default_rng(0)
    for name, level in KINDS.items():
        folder = world / "images" / name
        folder.mkdir(parents=True)
        for number in range(PER_CLASS):
            pixels = rng.normal(level, 12, (24, 24)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    (world / "mine.yaml").write_text(f"DATASET:\n  NAME: ImageFolderSplit\n  FOLDER: {world}/images\n  MODALITY: photograph\n")
    # a published dataset with these images
    paths = sorted((world / "images").rglob("*.png"))
    rows = [[f"{path.parent.name}/{path.name}", list(KINDS).index(path.parent.name), path.parent.name] for path in paths]
    parts = {"train": (0, 1, 2, 3), "val": (4, 5), "test": (6, 7)}
    split = {part: [row for row in rows if int(Path(row[0]).stem) in numbers] for part, numbers in parts.items()}
    (world / "split.json").write_text(json.dumps(split))
    (world / "data" / "BTMRI").mkdir(parents=True)
    (world / "data" / "BTMRI" / "BTMRI").symlink_to("../../images")
    (world / "data" / "BTMRI" / "split_BTMRI.json").write_text(json.dumps(split))
    status = train.main("{few} --output-root {world}/out {quick}".format(**words(world)).split())
    if status:
        raise RuntimeError("the world's own run failed")
    (found,) = (world / "out").rglob("results.json")
    (world / "finished").symlink_to(found.parent)
    return world


def words(world: Path) -> dict[str, str]:
    """What ``{…}`` in commands stands for."""
    configs = REPO / "configs"
    base = f"--root {world} --trainer CoOp --backbone PhantomCLIP"
    own, method = f"--dataset-config-file {world}/mine.yaml", f"--config-file {configs}/trainers/CoOp/few_shot.yaml"
    task = "--task few_shot --shots 2 --seeds 1"
    quick = "DATALOADER.NUM_WORKERS 0 USE_CUDA False OPTIM.MAX_EPOCH 1"
    return {
        "world": str(world), "repo": str(REPO), "configs": str(configs), "run": str(world / "finished"),
        "base": base, "own": own, "method": method, "task": task, "quick": quick,
        "few": f"{base} {own} {method} {task}",
        "train": f"{base} {own} {method} {task} --output-root out {quick}",
        "published": f"--root . --trainer CoOp --backbone PhantomCLIP --dataset-config-file {configs}/datasets/btmri.yaml "
                     f"{method} {task} --output-root out {quick}",
    }  # fmt: skip


def fingerprint(world: Path) -> str:
    """Of the finished neighbour run and the images, names and bytes."""
    total = hashlib.sha256()
    for part in ("out", *(f"images/{kind}" for kind in KINDS)):  # a draw of few shots may be kept beside the classes
        for path in sorted((world / part).rglob("*")):
            total.update(str(path.relative_to(world)).encode())
            total.update(path.read_bytes() if path.is_file() else b"")
    return total.hexdigest()
