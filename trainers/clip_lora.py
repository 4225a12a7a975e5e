"""CLIP-LoRA: low-rank adapters in the attention of both towers (Zanella and Ben Ayed, CVPR Workshops 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from yacs.config import CfgNode

from backbones.low_rank import LowRank, adapted, require_peft
from dassl.engine import TRAINER_REGISTRY
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import UserError
from trainers.base import VLTrainer, unit
from trainers.prompt_learner import fill
from trainers.visual_prompt_learner import require_patch_tokens


class CountedLoader:
    """Stands where a training loader stood and gives ``steps`` batches per epoch: as many passes as it takes, or a part of one.

    Length, sampler and dataset are as the engine's epoch loop expects them.
    """

    def __init__(self, loader: DataLoader[Any], steps: int) -> None:
        self._loader, self._steps = loader, steps

    @property
    def sampler(self) -> Sampler[int]:
        return self._loader.sampler

    @property
    def dataset(self) -> Any:
        return self._loader.dataset

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._loader.turn = 0  # an epoch's first pass, whether or not a pass went before it in this process
        given = 0
        while given < self._steps:
            for batch in self._loader:
                yield batch
                given += 1
                if given == self._steps:
                    return


@TRAINER_REGISTRY.register()
class CLIPLoRA(VLTrainer):
    """Cross-entropy on ``s * v t^T``; queries, keys and values of all layers are ``W x + α / sqrt(r) B A drop(x)``.

    v, t: features of the image and of the clinical template under the adapted towers; A (r, W) and B (W, r) are learned,
    W is frozen. STEPS_PER_SHOT times shots steps make an epoch, and the rate follows its schedule step by step, as released.
    """

    section = "CLIPLORA"
    frozen_images = False
    needs_patch_tokens = True

    @classmethod
    def defaults(cls) -> CfgNode:
        return CfgNode(
            {
                "PREC": "fp32",  # fp32, amp, bf16
                "RANK": 2,  # r
                "ALPHA": 1.0,  # α
                "DROPOUT": 0.25,  # of the input of A, in training
                "STEPS_PER_SHOT": 10,  # steps of an epoch, for each shot: 500 per shot in 50 epochs
                "TEXT_DROPOUT": False,  # CLIP's text tower, for which it was published, has none
            }
        )

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        own = cfg.TRAINER[cls.section]
        name = f"r{own.RANK}_alpha{own.ALPHA:g}_drop{own.DROPOUT:g}_steps{own.STEPS_PER_SHOT}"
        return name if not own.TEXT_DROPOUT else f"{name}_textdrop"

    @classmethod
    def departures(cls, cfg: CfgNode) -> list[str]:
        said, steps = super().departures(cfg), cfg.TRAINER[cls.section].STEPS_PER_SHOT * cfg.OPTIM.MAX_EPOCH
        return said if steps == 500 else [*said, f"{steps} steps per shot (published: 500)"]

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        require_peft(type(self).__name__)
        own, where = cfg.TRAINER[self.section], f"TRAINER.{self.section}"
        for key in ("RANK", "STEPS_PER_SHOT"):
            if own[key] < 1:
                raise UserError(f"{where}.{key} is {own[key]}, must be at least 1")
        if own.ALPHA <= 0:
            raise UserError(f"{where}.ALPHA is {own.ALPHA}, must be above 0")
        if not 0 <= own.DROPOUT < 1:
            raise UserError(f"{where}.DROPOUT is {own.DROPOUT}, must be 0 or more and below 1")
        if cfg.MODEL.BACKBONE.COMPILE:
            raise UserError(
                f"MODEL.BACKBONE.COMPILE is not read by {type(self).__name__}: its text layers are others. Leave it empty"
            )

    # -- building -----------------------------------------------------------------------------------------

    def build_loaders(self) -> None:
        super().build_loaders()
        if self.trains_here:
            steps = self.own.STEPS_PER_SHOT * max(1, self.cfg.DATASET.NUM_SHOTS)
            self.train_loader_x = CountedLoader(self.train_loader_x, steps)

    def build_model(self) -> None:
        require_patch_tokens(self, "learns in the attention among image patches")
        super().build_model()

    def build_learner(self, classnames: Sequence[str]) -> LowRank:
        own = self.own
        self.sentences = fill(self.facts.template, classnames)
        self.backbone, learner = adapted(self.backbone, rank=own.RANK, alpha=own.ALPHA, dropout=own.DROPOUT)
        return learner

    def optimizer_and_schedule(self, learner: nn.Module) -> tuple[Any, Any]:
        """OPTIM's, with its epochs counted in steps."""
        stepwise = self.cfg.OPTIM.clone()
        stepwise.defrost()
        steps = len(self.train_loader_x) if self.train_loader_x is not None else 1
        stepwise.MAX_EPOCH, stepwise.WARMUP_EPOCH = stepwise.MAX_EPOCH * steps, stepwise.WARMUP_EPOCH * steps
        optim = build_optimizer(learner, stepwise)
        return optim, build_lr_scheduler(optim, stepwise)

    # -- training and testing -----------------------------------------------------------------------------

    def set_model_mode(self, mode: str = "train", names: Any = None) -> None:
        super().set_model_mode(mode, names)
        self.prompt_learner.train(mode == "train")  # behind the text tower's mode, which reaches the adapters' dropout too

    def image_features(self, images: Tensor) -> Tensor:
        """(B, D) normalised features of the adapted image tower, with gradients to the adapters."""
        return unit(self.backbone.encode_image(images))

    def encode_classes(self) -> Tensor:
        return self.backbone.encode_text(self.sentences)

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.logit_scale * self.image_features(images) @ unit(self.encode_classes()).T
        return {"ce": F.cross_entropy(logits, labels)}, logits

    def end_step(self, loss: Tensor, terms: dict[str, Tensor], accuracy: Tensor) -> dict[str, Tensor]:
        if self.batch_idx + 1 < self.num_batches:
            self.update_lr()  # behind the epoch's last step the base class does
        return super().end_step(loss, terms, accuracy)
