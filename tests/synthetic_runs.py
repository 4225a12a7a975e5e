"""Run folders as a training run leaves them, written without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.metrics import metrics
from analysis.predictions import Predictions, write_predictions
from analysis.results import files_of

PARTS = {"all": "few_shot", "base": "base2new/train_base", "new": "base2new/test_new"}


def outputs(correct: Sequence[int], classes: int) -> Predictions:
    """Predictions in which image i, of class i mod ``classes``, is classified right if ``correct[i]``, else as the next."""
    labels = np.arange(len(correct)) % classes
    chosen = np.where(np.array(correct) == 1, labels, (labels + 1) % classes)
    probabilities = np.full((len(labels), classes), 0.2 / (classes - 1) if classes > 1 else 0.0)
    probabilities[np.arange(len(labels)), chosen] = 0.8 if classes > 1 else 1.0
    return Predictions([f"class_{n}/{i}.png" for i, n in enumerate(labels)], labels, probabilities)


def write_run(
    root: Path,
    method: str = "CoOp",
    dataset: str = "BTMRI",
    *,
    split: str = "all",
    shots: int = 16,
    seed: int = 1,
    accuracy: int = 50,
    correct: Sequence[int] | None = None,
    backbone: str = "BiomedCLIP",
    variant: str = "nctx4",
    modality: str = "MRI",
    changed: Mapping[str, tuple[Any, Any]] | None = (),
    rehearsal: bool = False,
    classes: int = 2,
) -> Path:
    """A finished run with ``accuracy`` of 100 test images classified right (the first ones), or those of ``correct``."""
    folder = root / PARTS[split] / dataset.lower() / f"shots_{shots}" / f"{method}_{backbone}" / variant / f"seed{seed}"
    for part in ("prompt_learner", "tensorboard"):
        (folder / part).mkdir(parents=True)
    (folder / "config.yaml").write_text(f"SEED: {seed}\nOPTIM:\n  LR: 0.002\n")
    (folder / "log.txt").write_text("=> result\n* accuracy: 50.00%\n* macro_f1: 40.00%\n")
    (folder / "prompt_learner" / "model.pth.tar-50").write_bytes(b"learned" * 20)
    (folder / "prompt_learner" / "checkpoint").write_text("model.pth.tar-50\n")
    (folder / "tensorboard" / "events.out").write_bytes(b"curve" * 20)
    kept = outputs(correct if correct is not None else [1] * accuracy + [0] * (100 - accuracy), classes)
    write_predictions(folder / "predictions.csv.gz", kept)
    classnames = [f"class {n}" for n in range(classes)]
    record = {
        "schema": 2, "complete": True, "method": method, "backbone": backbone, "dataset": dataset, "modality": modality,
        "split": split, "num_shots": shots, "seed": seed, "variant": variant, "classnames": classnames,
        "changed": None if changed is None else {k: {"config_file": a, "run": b} for k, (a, b) in dict(changed).items()},
        "departures": [], "config_hash": "0123456789abcdef", "git": {"revision": "f" * 40, "dirty": False},
        "rehearsal": rehearsal, "files": files_of(folder),
        **metrics(kept.labels, kept.probabilities, classnames),
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(record))
    return folder
