"""One trial of a search: settings are trained with, and scored on images that were not trained on."""

from __future__ import annotations

import gc
import io
import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from yacs.config import CfgNode

from runs.config import altered
from runs.run import build
from runs.screen import Console, open_log
from sweep.study import Score
from trainers.base import Diverged

LEFT = ".trial-"  # the folder of a trial's run, which does not outlive it, begins so


def discard_left(place: Path) -> None:
    """Remove what a killed trial left in ``place``."""
    for folder in place.glob(f"{LEFT}*"):
        shutil.rmtree(folder)


def scored(cfg: CfgNode, values: Mapping[str, float], folds: Sequence[int], place: Path) -> Score:
    """The score of ``values`` over the images of all folds together; each fold is trained alone.

    Args:
        cfg: frozen.
        values: dotted key -> value.
        folds: of :func:`datasets.splits.tuning_fold`, so that no test image is looked at.
        place: folder in which the runs may leave files for as long as they last.
    """
    settings = {**values, "TEST.NO_TEST": False, "TEST.FINAL_MODEL": "last_step", "RESUME": ""}
    parts = [_fold(altered(cfg, {**settings, "DATASET.TUNING_FOLD": fold}), place) for fold in folds]
    total = sum(one.total for one in parts)
    return Score(sum(one.correct for one in parts), total, sum(one.nll * one.total for one in parts) / total)


def _fold(cfg: CfgNode, place: Path) -> Score:
    place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=LEFT, dir=place) as folder:
        output = open_log(folder, Console(io.StringIO()), verbose=False)
        try:
            with redirect_stdout(output):
                trainer, _ = build(altered(cfg, {"OUTPUT_DIR": folder}))
                return _trained(trainer)
        finally:
            output.close()
            trainer = None
            gc.collect()  # what it held on a GPU


def _trained(trainer: Any) -> Score:
    total = len(trainer.dm.dataset.test)
    try:
        trainer.train()
    except Diverged:
        return Score(0, total, math.inf)
    _, labels, probabilities = trainer.evaluator.predictions()
    with np.errstate(divide="ignore"):
        nll = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    return Score(int((probabilities.argmax(axis=1) == labels).sum()), total, float(nll))
