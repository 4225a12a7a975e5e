"""The calibration of a run: fitted from labelled images, kept beside it, and refused for another model than its own."""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from analysis.conformal import Calibration, calibrated, percent, threshold
from dassl.utils import UserError, read_json, regular, write_json
from trainers.base import VLTrainer
from trainers.checkpoints import LEARNER

FILE = "calibration.json"
FORM = 1


def model_id(trainer: VLTrainer) -> str:
    """What decides a run's probabilities: the backbone's weights, what was learned, the class names (SHA-256, 16 digits)."""
    found = hashlib.sha256(f"{trainer.backbone.fingerprint()}\n{chr(10).join(trainer.classnames)}\n".encode())
    if trainer.learns:
        for name, value in sorted(getattr(trainer, LEARNER).state_dict().items()):
            found.update(name.encode())
            found.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    return found.hexdigest()[:16]


def image_ids(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of each file, 16 digits, by which an image is known wherever it lies."""
    return [hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in paths]


@dataclass(frozen=True)
class Kept:
    """A calibration with where it comes from.

    Attributes:
        record: what ``calibration.json`` holds.
    """

    calibration: Calibration
    record: dict[str, Any]

    def seen(self, paths: Sequence[Path]) -> int:
        """How many of these images it was made of or measured on."""
        return len(set(image_ids(paths)) & set(self.record["image_ids"]))

    def about(self, coverage: float) -> dict[str, Any]:
        """What a JSON of calibrated predictions says of them."""
        own = {key: self.record[key] for key in ("source", "temperature", "score", "penalty", "images")}
        return own | {"coverage": coverage}

    def said(self, coverage: float) -> str:
        """One line: temperature, sets, and of which images they are."""
        own, measured = self.record["images"], self.record["held_out"]
        return (
            f"calibrated on {sum(own.values())} images of {self.record['source']}: temperature "
            f"{self.record['temperature']:.3g}, sets of {percent(coverage)} from {own['threshold']} of them; of "
            f"{own['held out']} held out, sets of "
            f"{percent(measured['coverage_asked'])} held the true class of {percent(round(measured['coverage'], 3))}"
        )


def new_calibration(
    trainer: VLTrainer, source: str, paths: Sequence[Path], labels: ArrayLike, raw: ArrayLike, coverage: float, penalty: float
) -> Kept:
    """A calibration from labelled images.

    Args:
        source: what the images were named by.
        paths, labels: (N,) of the images.
        raw: (N, C) the run's probabilities.
        coverage, penalty: as :func:`analysis.conformal.calibrated` has them.

    Raises:
        analysis.conformal.TooFewImages: too few images for this coverage.
    """
    found, report = calibrated(labels, raw, coverage, penalty)
    record = {
        "form": FORM,
        "source": source,
        "model": model_id(trainer),
        "classes": list(trainer.classnames),
        "temperature": found.temperature,
        "score": "raps" if penalty else "aps",
        "penalty": penalty,
        **report,
        "scores": list(found.scores),
        "image_ids": image_ids(paths),
    }
    return Kept(found, record)


def answers(
    kept: Kept | None, raw: ArrayLike, classnames: Sequence[str], coverage: float
) -> tuple[list[list[float]], list[tuple[str, ...]]]:
    """Probabilities (N, C) and prediction sets, likeliest class first, of ``raw`` (N, C); without ``kept`` raw, and no sets."""
    p = np.asarray(raw, dtype=np.float64)
    if kept is None:
        return p.tolist(), [()] * len(p)
    calm, inside = kept.calibration.probabilities(p), kept.calibration.sets(p, coverage)
    order = np.argsort(-calm, axis=1, kind="stable")
    sets = [tuple(classnames[c] for c in ranks if row[c]) for ranks, row in zip(order, inside, strict=True)]
    return calm.tolist(), sets


def calibration_for(trainer: VLTrainer, args: argparse.Namespace) -> Kept:
    """The calibration that ``predict.py --calibrated`` asks for; standard error says what it is.

    Raises:
        UserError: as :func:`read_calibration`, or a coverage that cannot be.
        analysis.conformal.TooFewImages: a coverage for which its images are too few.
    """
    check_measuring(args)
    kept = read_calibration(args.run, trainer)
    threshold(kept.calibration.scores, args.coverage)
    print(kept.said(args.coverage), file=sys.stderr)
    return kept


def check_coverage(coverage: float) -> None:
    """Refuse one that cannot be."""
    if not 0 < coverage < 1:
        raise UserError(f"--coverage is {coverage:g}, must be between 0 and 1 (0.9: nine sets of ten hold the true class)")


def check_measuring(args: argparse.Namespace) -> None:
    """Refuse a coverage or penalty that cannot be."""
    check_coverage(args.coverage)
    if not 0 <= args.penalty < float("inf"):
        raise UserError(f"--penalty is {args.penalty:g}, must be 0 or more")


def write_calibration(kept: Kept, folder: Path) -> Path:
    """Into a run's folder, whole or not at all."""
    write_json(kept.record, str(folder / FILE))
    return folder / FILE


def read_calibration(folder: Path, trainer: VLTrainer) -> Kept:
    """The calibration beside a run.

    Raises:
        UserError: there is none, it is damaged, or it was made of another model than ``trainer``.
    """
    path = folder / FILE
    again = f"python predict.py {folder} --calibrate LABELLED_FOLDER"
    if not path.exists():
        raise UserError(f"no {path}: make it of labelled images, {again}")
    try:
        regular(path)
        record = read_json(str(path))
        kept = Kept(_checked(record), record)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())[:80]}): make it again, {again}") from error
    if record["model"] != model_id(trainer):
        raise UserError(
            f"{path} was made of another checkpoint, backbone or list of classes than this one: make it again, {again}"
        )
    return kept


def _checked(record: Any) -> Calibration:
    if record["form"] != FORM:
        raise ValueError(f"its form is {record['form']}, {FORM} is read here")
    numbers = np.asarray([record["temperature"], record["penalty"], *record["scores"]], dtype=np.float64)
    if not np.isfinite(numbers).all() or not record["temperature"] > 0 or record["penalty"] < 0 or not record["scores"]:
        raise ValueError("a number in it cannot be")
    if not all(isinstance(one, str) for one in (record["model"], record["source"], *record["classes"], *record["image_ids"])):
        raise ValueError("a text in it is none")
    shown = [record["held_out"][key] for key in ("coverage_asked", "coverage")]
    shown += [record["images"][part] for part in ("temperature", "threshold", "held out")]
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in shown):
        raise ValueError("what was measured is garbled")
    return Calibration(float(record["temperature"]), tuple(map(float, sorted(record["scores"]))), float(record["penalty"]))
