"""A trained run on new images: the trainer from the run's folder and the backbone alone, and images from anywhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from yacs.config import CfgNode

from analysis.files import harmless as harmless  # for predict.py's CSV
from analysis.results import CONFIG, DamagedRun, read_record
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import IMAGE_SUFFIXES, PixelSettings, UnreadableImage, UserError, read_image
from datasets.facts import facts_without_images
from datasets.never_data import LeftOut, image_files, refuse_odd_bytes
from runs.arguments import is_address
from runs.config import default_config, merge_file, section_of
from runs.cross import trained_folder
from runs.hub import fetched
from runs.packed import is_packed, load_packed, packed_config
from runs.ranges import check_values
from trainers.base import VLTrainer

log = logging.getLogger(__name__)

DEVICES = ("cpu", "cuda")


# -- the trainer ------------------------------------------------------------------------------------------


def load_run(
    folder: str | Path,
    *,
    epoch: int | None = None,
    backbone_path: str = "",
    device: str = "",
    classnames: Sequence[str] = (),
    full_precision: bool = False,
) -> VLTrainer:
    """The trainer of a run, with what it learned, in evaluation mode; no image of its dataset is needed.

    Args:
        folder: of the run; ``config.yaml`` and ``prompt_learner/`` suffice. Or of one that was packed (docs/SHARE.md), or the
            address of such a one on the Hugging Face hub, ``hf://ORG/NAME[@REVISION]``.
        epoch: of the checkpoint; the run's last (or best) one by default.
        backbone_path: where the backbone's weights lie now, if not where they lay in training.
        device: "cpu", "cuda", or "" for a GPU where there is one.
        classnames: other classes than the run's, for a method whose prompts transfer; or the run's own, where an old
            ``config.yaml`` does not hold them.
        full_precision: float32 throughout, whatever the run's PREC.

    Raises:
        UserError: no such run, no checkpoint, weights that cannot be had, classes that are not known or do not fit.
    """
    folder = local_folder(folder)
    cfg = _run_config(folder, backbone_path)
    if cfg.TRAINER.NAME not in TRAINER_REGISTRY.registered_names():
        raise UserError(f'{folder / CONFIG} is not the config of a run: its method is "{cfg.TRAINER.NAME}"')
    check_values(cfg, section_of(cfg.TRAINER.NAME), predicts=True)
    record = _results(folder)
    own = list(cfg.DATASET.RUN_CLASSNAMES) or record.get("classnames", [])
    names = list(classnames) or own
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise UserError(f"a class name must be a text with something in it, got {str(names)[:80]}")
    if not names:
        raise UserError(f"{folder} does not tell its classes (an older run, without results): give them with --classnames")
    cls = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    if not issubclass(cls, VLTrainer):
        raise UserError(f"{cfg.TRAINER.NAME} is a trainer of another project: only this project's can be built without data")
    if own and names != own and not cls.transfers:
        raise UserError(f"{cfg.TRAINER.NAME} knows only the classes that it was trained on: {', '.join(own)}")
    if backbone_path:
        cfg.MODEL.BACKBONE.PATH = backbone_path
    if device and device not in DEVICES:
        raise UserError(f'the device is "{device}", must be one of {", ".join(DEVICES)}')
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device here: use --device cpu")
    if full_precision:
        cfg.TRAINER[cls.section].PREC = "fp32"
    cfg.USE_CUDA, cfg.VERBOSE, cfg.LOGGER = device != "cpu", False, "none"
    # how a GPU was made to train faster says nothing of how to predict
    cfg.MODEL.BACKBONE.TF32, cfg.MODEL.BACKBONE.COMPILE = False, ""
    cfg.freeze()
    trainer = cls(cfg, facts_without_images(cfg, names))
    _load(trainer, folder, epoch)
    prints = record.get("fingerprints")
    trained_on = prints.get("backbone") if isinstance(prints, dict) else None
    if trained_on and trained_on != trainer.backbone.fingerprint():
        log.warning("warning: the weights of %s are not those that %s was trained with", trainer.backbone.name, folder)
    trainer.set_model_mode("eval")
    return trainer


def local_folder(run: str | Path) -> Path:
    """The folder of a run that is named by its folder, or by its address on the hub, from where it is fetched.

    Raises:
        UserError: an address where no run can be had.
    """
    return fetched(str(run)) if is_address(run) else Path(run)


def require_run(run: str | Path) -> None:
    """Whether there is a run, as far as its config is there.

    Raises:
        UserError: there is none; with where one is, if there is one below the folder.
    """
    folder = local_folder(run)
    path = folder / CONFIG
    if not os.path.lexists(path):
        below = next(iter(sorted(folder.rglob(CONFIG))), None) if folder.is_dir() else None
        hint = f"; there is a run in {below.parent}" if below else ""
        raise UserError(f"{folder} is not the folder of a run: no {CONFIG} there{hint}")


def _run_config(folder: Path, backbone_path: str) -> CfgNode:
    require_run(folder)
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{path} is not a regular file")
    if is_packed(folder):
        return packed_config(folder, backbone_path)
    cfg = default_config()
    merge_file(cfg, str(path))
    return cfg


def _results(folder: Path) -> dict[str, Any]:
    """The run's results file; empty for a run without a whole one."""
    try:
        return read_record(folder)
    except DamagedRun:
        return {}


def _load(trainer: VLTrainer, folder: Path, epoch: int | None) -> None:
    if is_packed(folder):
        if epoch is not None:
            raise UserError(f"{folder} holds what was learned after one epoch alone: leave out --epoch")
        return load_packed(trainer, folder)
    elsewhere = trained_folder(folder) if trainer.cfg.DATASET.TRAINED_ON else None
    if trainer.learns and elsewhere and not (folder / "prompt_learner").is_dir():
        names = " ".join(f'"{name}"' for name in trainer.classnames)
        raise UserError(f"{folder} only tested what {elsewhere} learned: name that run, with --classnames {names}")
    parts = ["train_base" if part == "test_new" else part for part in folder.resolve().parts]
    trained = Path(*parts)
    if trainer.learns and not (folder / "prompt_learner").is_dir() and trained != folder.resolve() and trained.is_dir():
        names = " ".join(f'"{name}"' for name in trainer.classnames)
        raise UserError(f"{folder} only tested what {trained} learned: name that run, with --classnames {names}")
    trainer.load_model(str(folder), epoch)


# -- images -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unreadable:
    """A file that is no image, and why."""

    path: Path
    reason: str


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """The files among ``paths``, and the images in the folders among them (sub-folders too), each once, in order.

    What is never data (:mod:`datasets.never_data`) is left out of folders and counted in the log.

    Raises:
        UserError: a path that does not exist or is no UTF-8, or no image at all.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            left_out = LeftOut()
            found |= dict.fromkeys(image_files(path, IMAGE_SUFFIXES, left_out))
            if str(left_out):
                log.info("%s: %s", path, left_out)
        elif path.exists():
            refuse_odd_bytes(path)
            found[path] = None
        else:
            raise UserError(f"no such file or folder: {path}")
    if not found:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(f"no images in {', '.join(map(str, paths)) or 'nothing'} (looked for {suffixes})")
    return list(found)


class ImageFiles(Dataset[tuple[int, Any]]):
    """Items: the number of a file, and its image as ``transform`` makes it, or an :class:`Unreadable`."""

    def __init__(self, paths: Sequence[Path], transform: Callable[[Image.Image], Any], pixels: PixelSettings) -> None:
        self.paths, self.transform, self.pixels = paths, transform, pixels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        path = self.paths[index]
        try:
            image = read_image(str(path), self.pixels)
        except UnreadableImage as error:
            return index, Unreadable(path, error.reason)
        return index, self.transform(image)


def image_batches(
    trainer: VLTrainer, paths: Sequence[Path], batch_size: int, workers: int = 0
) -> Iterator[tuple[list[Path], Tensor, list[Unreadable]]]:
    """Batches of the files under the run's test transform: their paths, images (B, 3, H, W), and what was skipped.

    A batch in which nothing could be read has no image: (0, 3, H, W).
    """
    files = ImageFiles(paths, build_transform(trainer.cfg, is_train=False), PixelSettings.from_cfg(trainer.cfg))
    size = trainer.backbone.image_size
    for items in DataLoader(files, batch_size=batch_size, num_workers=workers, collate_fn=list):
        readable = [(paths[index], image) for index, image in items if not isinstance(image, Unreadable)]
        images = torch.stack([image for _, image in readable]) if readable else torch.empty(0, 3, size, size)
        skipped = [image for _, image in items if isinstance(image, Unreadable)]
        yield [path for path, _ in readable], images.to(trainer.device), skipped


def probabilities(trainer: VLTrainer, images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, C) class probabilities, float64 on the CPU.

    Raises:
        UserError: scores that are not finite.
    """
    scores = trainer.model_inference(images).double().cpu()
    if not torch.isfinite(scores).all():
        raise UserError("the model's scores are infinite or NaN: was it trained to its end, in a precision that fits?")
    return scores.softmax(dim=1)
