"""A trained run as an ONNX file, to be served without this project.

    python export.py RUN -o served/        # served/model.onnx and served/model.json

The graph takes normalised images (B, 3, S, S) and gives the class scores (B, C), whose softmax are the probabilities,
and the normalised image features (B, D). The image tower with the run's visual prompts and the class text features are
in it; the text tower is not. ``model.json`` says how an image becomes such an input, and what the classes are. Nothing
is kept unless onnxruntime gives what PyTorch gives, to 1e-4. docs/PREDICT.md has a program of 30 lines that serves it.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from entry import program
from runs.own_dassl import require_own_dassl

require_own_dassl()
from dassl.utils import UserError, atomic, require_writable, write_json  # noqa: E402
from runs.arguments import add_run_arguments, run_place  # noqa: E402

if TYPE_CHECKING:
    from trainers.base import VLTrainer

TOLERANCE = 1e-4  # of features and probabilities, PyTorch against onnxruntime
CHECKED_BATCHES = (1, 3)
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
MODEL, FACTS = "model.onnx", "model.json"
INPUT, OUTPUTS = "images", ("scores", "features")


class Classifier(nn.Module):
    """(B, 3, S, S) normalised images -> class scores (B, C) and normalised features (B, D), in float32.

    Args:
        trainer: in evaluation mode.

    Raises:
        UserError: a method whose class features depend on the image.
    """

    def __init__(self, trainer: VLTrainer) -> None:
        super().__init__()
        if trainer.text_sees_image:
            raise UserError(
                f"{type(trainer).__name__} makes its class features anew for every image, so there are none to export: "
                "serve it with predict.py, or export a run of another method (CoOp, BiomedDPT, …)"
            )
        self.image_tower = trainer.backbone
        self.learner = getattr(trainer, "prompt_learner", None)
        self._trainer = (trainer,)  # in a tuple, as it is no module of this one
        with torch.no_grad():
            trainer.text_features()  # encoded now, a constant of the graph

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        (trainer,) = self._trainer
        features = trainer.image_features(images)
        return trainer.scores(features), features


def preprocessing(trainer: VLTrainer) -> dict[str, Any]:
    """The run's test transform in words and numbers.

    Raises:
        UserError: a transform that is not resize, crop and normalise.
    """
    own = trainer.cfg.INPUT
    if own.NO_TRANSFORM or "instance_norm" in own.TRANSFORMS:
        raise UserError("the run's test transform cannot be exported: INPUT.NO_TRANSFORM or instance_norm is set")
    normalised = "normalize" in own.TRANSFORMS
    return {
        "colour": "RGB",
        "resize_shorter_side": trainer.backbone.image_size,
        "interpolation": own.INTERPOLATION,
        "centre_crop": trainer.backbone.image_size,
        "divide_by": 255,
        "mean": list(own.PIXEL_MEAN) if normalised else [0.0, 0.0, 0.0],
        "std": list(own.PIXEL_STD) if normalised else [1.0, 1.0, 1.0],
    }


def facts(trainer: VLTrainer, run: Path, difference: float) -> dict[str, Any]:
    """What stands in ``model.json``."""
    backbone = trainer.backbone
    return {
        "model": MODEL,
        "run": str(run),
        "method": trainer.cfg.TRAINER.NAME,
        "backbone": backbone.name,
        "backbone_fingerprint": backbone.fingerprint(),
        "dataset": trainer.facts.name,
        "modality": trainer.facts.modality,
        "organ": trainer.facts.organ,
        "classnames": trainer.classnames,
        "preprocessing": preprocessing(trainer),
        "input": {"name": INPUT, "shape": ["batch", 3, backbone.image_size, backbone.image_size], "type": "float32"},
        "outputs": {
            "scores": "(batch, classes); their softmax are the probabilities",
            "features": "(batch, width) of unit length",
        },
        "logit_scale": float(trainer.logit_scale),
        "text_features": trainer.text_features().tolist(),
        "largest_difference": difference,
        "versions": {name: metadata.version(name) for name in ("torch", *PACKAGES)},
    }


def write_onnx(classifier: Classifier, size: int, path: str) -> None:
    """The graph, with the batch size left open."""
    example = torch.zeros(2, 3, size, size)
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad(), _quiet():
        torch.onnx.export(
            classifier,
            (example,),
            path,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamo=True,
            dynamic_shapes=({0: batch},),
            external_data=False,
            verbose=False,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter narrates what it does not need."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@torch.no_grad()
def largest_difference(classifier: Classifier, size: int, path: str) -> float:
    """Between onnxruntime and PyTorch, of features and probabilities, over batches of noise of several sizes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    stream, largest = torch.Generator().manual_seed(0), 0.0
    for count in CHECKED_BATCHES:
        images = torch.randn(count, 3, size, size, generator=stream)
        scores, features = map(torch.from_numpy, session.run(None, {INPUT: images.numpy()}))
        wanted_scores, wanted_features = classifier(images)
        for ours, wanted in ((features, wanted_features), (scores.softmax(dim=1), wanted_scores.softmax(dim=1))):
            largest = max(largest, float((ours - wanted).abs().max()))
    return largest


def export(trainer: VLTrainer, run: Path, folder: Path) -> float:
    """Write ``model.onnx`` and ``model.json``; returns the largest difference from PyTorch.

    Raises:
        UserError: packages are missing, the method cannot be exported, or the difference is too large.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f"exporting needs {', '.join(missing)}: pip install {' '.join(missing)}")
    if "dynamic_shapes" not in inspect.signature(torch.onnx.export).parameters:
        raise UserError(f"exporting needs PyTorch 2.11 or newer, this is {torch.__version__}")
    preprocessing(trainer)  # a run that cannot be exported is told first
    classifier, size = Classifier(trainer).eval(), trainer.backbone.image_size
    with atomic(folder / MODEL) as temporary:
        write_onnx(classifier, size, temporary)
        difference = largest_difference(classifier, size, temporary)
        if not difference <= TOLERANCE:
            raise UserError(f"onnxruntime departs from PyTorch by {difference:.1e} (allowed: {TOLERANCE:.0e}); nothing is kept")
    write_json(facts(trainer, run, difference), str(folder / FACTS))
    return difference


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=run_place, help="folder of a trained run, or hf://ORG/NAME")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write to")
    add_run_arguments(parser)
    return parser.parse_args(argv)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 a user's mistake (told in one line on standard error)."""
    args = parse_arguments(argv)
    from runs.inference import load_run, require_run

    require_run(args.run)
    require_writable(args.output, folder=True)
    for name in (MODEL, FACTS):
        require_writable(args.output / name)
    # on the CPU, where onnxruntime is compared with it
    trainer = load_run(
        args.run,
        epoch=args.epoch,
        backbone_path=args.backbone_path,
        device="cpu",
        classnames=args.classnames,
        full_precision=True,
    )
    difference = export(trainer, args.run, args.output)
    print(f"{args.output / MODEL} and {FACTS}; onnxruntime departs from PyTorch by at most {difference:.1e}")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
