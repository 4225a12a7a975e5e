"""Build a trainer, run train.py on toy data, look into a backbone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from backbones import VisionLanguageBackbone
from tests.conftest import REPO, THREADS


def arguments(method: str, folder: Path | None, root: Path, out: Path, *, split: str, dataset: str = "btmri", seed: int = 1,
              backbone: str = "BiomedCLIP", shots: int = 2, epochs: int = 2, extra: tuple[str, ...] = (),
              cuda: bool = False, **own: object) -> list[str]:  # fmt: skip
    """train.py's arguments for a short run; ``folder`` has the backbone's weights, where it needs some."""
    if method == "CLIPLoRA":
        pytest.importorskip("peft", reason="peft is not installed: it is in requirements-dev.txt")
    config = REPO / "configs" / "trainers" / method / "base_to_novel" / f"{dataset}.yaml"
    if not config.is_file():
        config = config.parent.with_suffix(".yaml")
    if not config.is_file():  # a method without base-to-new
        config = config.with_name("few_shot.yaml")
    from trainers import methods

    cls = methods()[method]
    words = ["--root", str(root), "--seed", str(seed), "--trainer", method, "--backbone", backbone,
             "--dataset-config-file", str(REPO / "configs" / "datasets" / f"{dataset}.yaml"),
             "--config-file", str(config), "--output-dir", str(out), *extra,
             "DATASET.NUM_SHOTS", str(shots), "DATASET.SUBSAMPLE_CLASSES", split, "DATALOADER.NUM_WORKERS", "0",
             "USE_CUDA", str(cuda)]  # fmt: skip
    if folder:
        words += ["MODEL.BACKBONE.PATH", str(folder)]
    if cls.learns and cls.uses_optimizer:
        words += ["OPTIM.MAX_EPOCH", str(epochs)]
    for key, value in own.items():
        words += [f"TRAINER.{cls.section}.{key}", str(value)]
    return words


def build(method: str, folder: Path, root: Path, out: Path, **kwargs: object):
    """The built, untrained trainer."""
    import train
    from dassl.engine import build_trainer

    cfg = train.setup_cfg(train.parse_arguments(arguments(method, folder, root, out, **kwargs)))
    return build_trainer(cfg)


# Settings with which a method learns in a moment what it otherwise takes long for
QUICK = {
    "TipAdapter": {"SEARCH_STEP": "[7, 5]"},
    "TipAdapterF": {"SEARCH_STEP": "[7, 5]", "INIT_ALPHA_SCALE": 4},
    "LPPlusPlus": {"ITERATIONS": 30},
    "GDA": {"AUGMENT_EPOCH": 2},
    "TIMO": {"AUGMENT_EPOCH": 2},
    "TIMOS": {"AUGMENT_EPOCH": 2, "BETA_STEP": 3},
    "ProKeR": {"AUGMENT_EPOCH": 2, "BETA_SEARCH": "[0.5, 8.0, 3]", "LAMBDA_SEARCH": "[0.01, 1.0, 3]"},
}


def quick(method: str, folder: Path, root: Path, out: Path, split: str = "all", **kwargs: object):
    """The built, untrained trainer of all classes, with :data:`QUICK`'s settings."""
    return build(method, folder, root, out, split=split, **(QUICK.get(method, {}) | kwargs))


def command(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """train.py in a process of its own, without network."""
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(THREADS)} | environment
    call = [sys.executable, str(REPO / "train.py"), *words]
    return subprocess.run(call, env=env, cwd=REPO, capture_output=True, text=True, timeout=300)


def last_tokens(backbone: VisionLanguageBackbone) -> tuple[int, int]:
    """How many tokens come out of the last image block and the last text layer."""
    seen: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out: seen.append(out.shape[1]))
        for layer in (backbone.visual_layers[-1], backbone.text_layers[-1])
    ]
    with torch.no_grad():
        backbone.encode_image(torch.randn(1, 3, backbone.image_size, backbone.image_size))
        backbone.encode_text(["a photo of a tumor"])
    for hook in hooks:
        hook.remove()
    return seen[0], seen[1]
