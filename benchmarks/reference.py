"""The reference mode: this very code, doing over and over what the released code does over and over.

    python -m benchmarks.reference TRAIN.PY'S ARGUMENTS

Texts are padded to the context length (the mask stays), every image is encoded whenever it is seen, class features are
encoded for every test batch, the weights are drawn and then loaded for every run, and the whole model is saved where the
released code saves it. The numbers that come out are the same.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import open_clip
import torch
from torch import Tensor, nn

import backbones
import trainers.frozen_towers as frozen_towers
from backbones import TokenBatch, VisionLanguageBackbone, open_clip_tower
from backbones.open_clip_tower import OpenClipBackbone
from dassl.engine import TrainerX
from dassl.utils import UserError
from trainers.base import VLTrainer
from trainers.checkpoints import LEARNER
from trainers.frozen_towers import FrozenTowers, unit

# whose released trainers register the whole model, so that it is saved; the others register the prompt learner alone
SAVED_WHOLE = ("BiomedDPT", "BiomedCoOp", "MaPLe", "DPT")


@contextmanager
def reference_mode() -> Iterator[None]:
    """Everything built and run inside does the released code's repeated work.

    Raises:
        UserError: from a trainer whose config sets FEATURES.VIEWS, which the released code has no counterpart for.
    """
    with ExitStack() as stack:
        stack.enter_context(padded_texts())
        stack.enter_context(plain_loading())
        for shortcut in ("quicken", "skip_what_is_not_pooled"):  # products by PyTorch's own choice of library, of all tokens
            stack.enter_context(patch.object(backbones, shortcut, lambda model: None))
        for where, name, value in (
            (FrozenTowers, "build_loaders", _images_every_time(FrozenTowers.build_loaders)),
            (frozen_towers, "build_backbone", _built_anew),
            (VLTrainer, "text_features", _text_features),
            (VLTrainer, "save_model", _save_whole(VLTrainer.save_model)),
            (VLTrainer, "after_epoch", _after_epoch),
        ):
            stack.enter_context(patch.object(where, name, value))
        backbones._loaded.clear()
        try:
            yield
        finally:
            backbones._loaded.clear()


@contextmanager
def padded_texts() -> Iterator[None]:
    """Token batches stay as long as the context, behind their mask."""

    def trimmed(self: OpenClipBackbone, ids: Tensor, mask: Tensor, keep_padding: bool = False) -> TokenBatch:
        return VisionLanguageBackbone.trimmed(self, ids, mask, keep_padding=True)

    with patch.object(OpenClipBackbone, "trimmed", trimmed):
        yield


@contextmanager
def plain_loading() -> Iterator[None]:
    """A model gets random weights first, and then the file's, copied."""

    def fill(model: nn.Module, path: Path) -> None:
        open_clip.factory.load_checkpoint(model, str(path))

    with patch.object(open_clip_tower, "Undrawn", nullcontext), patch.object(open_clip_tower, "fill", fill):
        yield


def _images_every_time(build: Callable[[FrozenTowers], None]) -> Callable[[FrozenTowers], None]:
    def build_loaders(self: FrozenTowers) -> None:
        if self.cfg.FEATURES.VIEWS:
            raise UserError("FEATURES.VIEWS has no counterpart in the reference mode: leave it at 0")
        self.cfg.FEATURES.MODE = "direct"  # the config is open here: the base class writes into it, too
        build(self)

    return build_loaders


def _built_anew(name: str, path: str = "", pretrained: bool = True, device: torch.device | str = "cpu") -> Any:
    backbones._loaded.clear()
    return backbones.build_backbone(name, path, pretrained, device)


def _text_features(self: VLTrainer) -> Tensor:
    return unit(self.encode_classes())


class _Whole:
    """The registered learner's state, with the frozen model's beside it."""

    def __init__(self, learner: nn.Module, backbone: nn.Module) -> None:
        self.learner, self.backbone = learner, backbone

    def state_dict(self) -> OrderedDict[str, Tensor]:
        parts = ((LEARNER, self.learner), ("backbone", self.backbone))
        return OrderedDict((f"{name}.{key}", value) for name, part in parts for key, value in part.state_dict().items())


def _save_whole(save: Callable[..., None]) -> Callable[..., None]:
    def save_model(self: VLTrainer, *args: Any, **kwargs: Any) -> None:
        if self.cfg.TRAINER.NAME not in SAVED_WHOLE:
            return save(self, *args, **kwargs)
        learner = self._models[LEARNER]
        self._models[LEARNER] = _Whole(learner, self.backbone)
        try:
            return save(self, *args, **kwargs)
        finally:
            self._models[LEARNER] = learner

    return save_model


def _after_epoch(self: VLTrainer) -> None:
    """The released code saves when CHECKPOINT_FREQ says so and at the end: not after every epoch, as runs here do."""
    self.check_finite()
    TrainerX.after_epoch(self)


def main(argv: Sequence[str] | None = None) -> int:
    """Run train.py in the reference mode; its exit status."""
    import train

    with reference_mode():
        return train.main(argv)


if __name__ == "__main__":
    sys.exit(main())
