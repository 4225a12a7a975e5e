"""A trained run on labelled images: ``predict.py --calibrate`` and ``--evaluate``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from analysis.conformal import COVERAGE, labelled_needed, percent
from analysis.evaluation import as_text, evaluation
from analysis.words import count_of
from dassl.utils import UserError, require_writable, write_json
from datasets.labelled import Labelled, labelled_images, mapping_of
from runs.calibration import FILE, Kept, calibration_for, check_measuring, new_calibration, write_calibration
from runs.inference import Unreadable, image_batches, load_run, probabilities, require_run
from trainers.base import VLTrainer

BATCH = 32
SKIPPED = 3  # exit status: done, but some files could not be read


@dataclass
class Scored:
    """Labelled images that could be read, with the run's probabilities (N, C); and those that could not."""

    paths: list[Path] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    raw: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    unreadable: list[Unreadable] = field(default_factory=list)


def scored(trainer: VLTrainer, images: Labelled, batch_size: int, workers: int = 0) -> Scored:
    """The run's probabilities of labelled images; what cannot be read is named on standard error.

    Raises:
        UserError: none can be read, or scores that are not finite.
    """
    labels = dict(zip(images.paths, images.labels, strict=True))
    found, rows = Scored(), []
    with tqdm(total=len(images.paths), unit="image", disable=None, leave=False) as bar:
        for paths, batch, skipped in image_batches(trainer, images.paths, batch_size, workers):
            for one in skipped:
                bar.write(f"unreadable, skipped: {one.path}: {one.reason}", file=sys.stderr)
            found.unreadable += skipped
            found.paths += paths
            if paths:
                rows.append(probabilities(trainer, batch).numpy())
            bar.update(len(paths) + len(skipped))
    if not rows:
        raise UserError(f"none of the {len(images.paths)} labelled images can be read")
    found.raw = np.concatenate(rows)
    found.labels = [labels[path] for path in found.paths]
    return found


def measure(args: argparse.Namespace) -> int:
    """``--calibrate`` or ``--evaluate`` of predict.py's arguments; the exit status.

    Raises:
        UserError: arguments that do not go together, or images that cannot be used.
    """
    require_run(args.run)
    if args.images or args.explain or args.top_k is not None or args.format:
        raise UserError("--calibrate and --evaluate take no images beside their own, and no --top-k, --format or --explain")
    if args.calibrate and args.evaluate:
        raise UserError("--calibrate and --evaluate exclude each other: images that calibrated a run say too much good of it")
    if args.batch_size < 1 or args.workers < 0:
        raise UserError("--batch-size must be 1 or more, --workers 0 or more")
    check_measuring(args)
    if args.calibrate and (args.output or args.calibrated):
        raise UserError(f"--calibrate writes {args.run / FILE} from the run's own probabilities: leave out -o and --calibrated")
    if args.output and args.output.suffix.lower() != ".json":
        raise UserError(f"{args.output}: metrics are written as JSON, name a file that ends in .json")
    if args.calibrate or args.output:
        require_writable(args.output or args.run / FILE)
    trainer = load_run(
        args.run, epoch=args.epoch, backbone_path=args.backbone_path, device=args.device, classnames=args.classnames
    )
    if args.calibrate:
        kept, found = fitted(
            trainer, args.calibrate, args.data, args.part, args.coverage, args.penalty, args.batch_size, args.workers
        )
        path = write_calibration(kept, args.run)
        print("\n".join([*described(kept, trainer.classnames), f"written: {path} (predict.py … --calibrated reads it)"]))
    else:
        kept = calibration_for(trainer, args) if args.calibrated else None
        images = _images(trainer, args.evaluate, args.data, args.part)
        found = scored(trainer, images, args.batch_size, args.workers)
        _evaluate(trainer, found, kept, args)
    return SKIPPED if found.unreadable else 0


def fitted(
    trainer: VLTrainer,
    source: Path,
    data: Sequence[str] = (),
    part: str = "",
    coverage: float = COVERAGE,
    penalty: float = 0.0,
    batch_size: int = BATCH,
    workers: int = 0,
) -> tuple[Kept, Scored]:
    """A calibration from labelled images; what was read and how stands on standard error.

    Args:
        source, data, part: as :func:`datasets.labelled.labelled_images` has them.
        coverage, penalty: as :func:`analysis.conformal.calibrated` has them.

    Raises:
        UserError: images that cannot be used, or too few of them.
    """
    images = _images(trainer, source, data, part)
    _require_enough(source, len(images.paths), coverage)
    if len(set(images.labels)) == 1:
        name = trainer.classnames[images.labels[0]]
        raise UserError(f"all labelled images in {source} are of {name}: a calibration on one class says nothing of the others")
    found = scored(trainer, images, batch_size, workers)
    _require_enough(source, len(found.paths), coverage)  # of those that can be read
    named = str(source) + (f", {part}" if part else "")
    return new_calibration(trainer, named, found.paths, found.labels, found.raw, coverage, penalty), found


def _images(trainer: VLTrainer, source: Path, data: Sequence[str], part: str) -> Labelled:
    images = labelled_images(source, trainer.classnames, data, part, mapping_of(trainer.cfg))
    for note in images.notes:
        print(f"{source}: {note}", file=sys.stderr)
    return images


def _require_enough(source: Path, count: int, coverage: float) -> None:
    needed = labelled_needed(coverage)
    if count < needed:
        raise UserError(
            f"{source} has {count_of(count, 'labelled image')}: sets of {percent(coverage)} need {needed} (half of them for "
            "the threshold); give more images, or a lower --coverage"
        )


def described(kept: Kept, classnames: Sequence[str]) -> list[str]:
    """What a calibration is and does, a line each."""
    own, measured = kept.record["images"], kept.record["held_out"]
    low, high = (percent(round(value, 3)) for value in measured["coverage_interval"])
    lines = [
        f"{sum(own.values())} images: {own['temperature']} for the temperature, {own['threshold']} for the threshold, "
        f"{own['held out']} held out",
        f"temperature {kept.record['temperature']:.3f}",
        f"held out, sets of {percent(measured['coverage_asked'])}: hold the true class of "
        f"{percent(round(measured['coverage'], 3))} (95 % interval {low} to {high}), {measured['mean_set_size']:.2f} classes "
        f"on average, one class alone in {percent(round(measured['alone'], 3))}",
    ]
    shares = zip(classnames, measured["coverage_per_class"], strict=True)
    each = ", ".join(f"{name} {'no image' if share is None else percent(round(share, 3))}" for name, share in shares)
    lines.append(f"by class, of which nothing is promised: {each}")
    ece, nll = measured["ece"], measured["nll"]
    lines.append(
        f"held out, calibration error {100 * ece['raw']:.1f} % -> {100 * ece['calibrated']:.1f} %, "
        f"negative log-likelihood {nll['raw']:.3f} -> {nll['calibrated']:.3f}"
    )
    return lines + [f"note: {note}" for note in kept.record["notes"]]


def _evaluate(trainer: VLTrainer, found: Scored, kept: Kept | None, args: argparse.Namespace) -> None:
    p = kept.calibration.probabilities(found.raw) if kept else found.raw
    told: dict[str, Any] = evaluation(found.labels, p, trainer.classnames, trainer.facts.ordered)
    about = {
        "run": str(args.run),
        "method": trainer.cfg.TRAINER.NAME,
        "backbone": trainer.backbone.name,
        "dataset": trainer.facts.name,
        "classes": list(trainer.classnames),
        "evaluated": str(args.evaluate),
        "part": args.part,
        "unreadable": [{"image": str(one.path), "reason": one.reason} for one in found.unreadable],
        "calibrated": None,
    }
    lines = [as_text(told, trainer.classnames).rstrip("\n")]
    if kept:
        about["calibrated"] = _of_sets(found, kept, args.coverage)
        lines.append(_sets_in_words(about["calibrated"], len(found.paths)))
    else:
        lines.append("probabilities as the run gives them, not calibrated (--calibrated)")
    if args.output:
        write_json(about | told, str(args.output))
        lines.append(f"written: {args.output}")
    print("\n".join(lines))


def _of_sets(found: Scored, kept: Kept, coverage: float) -> dict[str, Any]:
    inside = kept.calibration.sets(found.raw, coverage)
    hit = inside[np.arange(len(found.labels)), found.labels]
    return {
        "temperature": kept.record["temperature"],
        "source": kept.record["source"],
        "coverage_asked": coverage,
        "coverage": float(hit.mean()),
        "mean_set_size": float(inside.sum(axis=1).mean()),
        "images_of_the_calibration": kept.seen(found.paths),
    }


def _sets_in_words(told: dict[str, Any], count: int) -> str:
    text = (
        f"probabilities calibrated, temperature {told['temperature']:.3g}\n"
        f"here, sets of {percent(told['coverage_asked'])} hold the true class of {percent(round(told['coverage'], 3))}, "
        f"{told['mean_set_size']:.2f} classes on average"
    )
    seen = told["images_of_the_calibration"]
    return text + (f"\nwarning: {seen} of the {count} images were used for the calibration: no fair measure" if seen else "")
