"""Seconds per 100 test images: the reference, the first method on a tower, and a second method on the same tower."""

from __future__ import annotations

import shutil
from typing import Any

from benchmarks.setting import Setting
from benchmarks.units import build, config, cut_test_images, forget, mode_context, need_data, timed

FIRST, SECOND = "CoOp", "KgCoOp"  # neither changes the image tower
DATASET, IMAGES = "kvasir", 100


def evaluations(setting: Setting, mode: str) -> dict[str, Any]:
    """``first_s`` and, of ours, ``second_s``: whole tests, as seconds per 100 images; the first of all is not counted."""
    need_data(setting, DATASET)
    store = setting.folder("evaluation")
    with mode_context(mode):
        trainers = [_trainer(setting, method, mode) for method in (FIRST, SECOND)[: 2 if mode == "ours" else 1]]
        images = min(cut_test_images(trainer, IMAGES) for trainer in trainers)
        seconds: list[list[float]] = [[] for _ in trainers]
        for _ in range(1 + min(3, setting.repeats)):
            shutil.rmtree(store, ignore_errors=True)
            for trainer, found in zip(trainers, seconds, strict=True):
                forget(trainer)
                found.append(timed(trainer.test) * 100 / images)
    return {"images": images} | {f"{name}_s": found[1:] for name, found in zip(("first", "second"), seconds, strict=False)}


def _trainer(setting: Setting, method: str, mode: str) -> Any:
    run = setting.folder("runs") / f"evaluation-{method}-{mode}"
    return build(config(setting, method, DATASET, "all", run, FEATURES__ROOT=setting.folder("evaluation")))
