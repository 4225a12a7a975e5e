"""What all methods share: frozen backbone in, learned tensors out, loss terms by name."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.evaluation import EVALUATOR_REGISTRY
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import UserError, load_checkpoint
from trainers.checkpoints import LEARNER, find_checkpoint, stored_tensors, take_over
from trainers.evaluation import ClassificationPerImage
from trainers.frozen_towers import FrozenTowers, reproducible_gradients, unit

log = logging.getLogger(__name__)

FEATURE_MODES = ("store", "direct")
PRECISIONS = ("fp32", "amp", "fp16", "bf16")


class Diverged(UserError):
    """The loss is not a number any more."""


class VLTrainer(FrozenTowers):
    """Base of every method. A method file gives ``section``, ``defaults``, ``build_learner`` and two arithmetic parts:

    * ``loss_terms(images, labels) -> (terms, logits)``: the weighted loss terms by name; their sum is minimised.
    * ``model_inference(images) -> logits`` (B, C).

    Only the learner's own parameters are registered with Dassl, so a checkpoint is kilobytes.
    """

    learns: bool = True
    transfers: bool = True  # whether what is learned fits classes that it never saw
    uses_optimizer: bool = True  # whether OPTIM.*, TRAIN.* and DATALOADER.TRAIN_X.* decide what is learned
    writes_visual_prompts: bool = False
    tunable: Mapping[str, tuple[float, float]] = {}  # key of the section -> least and most that sweep.tune tries, log scale
    text_sees_image: bool = False  # whether the class features differ from image to image
    released: Mapping[str, Any] = {}  # what the method's own released code has where the default here is another

    # -- configuration ------------------------------------------------------------------------------------

    @classmethod
    def defaults(cls) -> CfgNode:
        """The method's config keys with their published defaults."""
        raise NotImplementedError

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        """Folder name that tells runs of one method apart by the settings they really used."""
        raise NotImplementedError

    @classmethod
    def departures(cls, cfg: CfgNode) -> list[str]:
        """Settings that differ from the published runs, in words, for the results file."""
        own = cfg.TRAINER[cls.section]
        published = cls.defaults()
        said = []
        for key in ("TEXT_DROPOUT", "NAME_LEN"):
            if key in published and own[key] != published[key]:
                said.append(f"{key} {own[key]} (published: {published[key]})")
        said += [f"{key} {own[key]} (released code: {value})" for key, value in cls.released.items() if own[key] != value]
        if cfg.FEATURES.VIEWS and cls.frozen_images:
            said.append(f"FEATURES.VIEWS {cfg.FEATURES.VIEWS}: epochs go round this many views of each image")
        if cfg.MODEL.BACKBONE.TF32:
            said.append("MODEL.BACKBONE.TF32 True: float32 products are rounded to TF32")
        if not cfg.MODEL.BACKBONE.PRETRAINED:
            said.append("the backbone's weights are random (MODEL.BACKBONE.PRETRAINED False)")
        return said

    @classmethod
    def tunable_keys(cls) -> dict[str, tuple[float, float]]:
        """``tunable`` by the keys' full names."""
        return {f"TRAINER.{cls.section}.{name}": ends for name, ends in cls.tunable.items()}

    def check_cfg(self, cfg: CfgNode) -> None:
        if self.has_images and not issubclass(EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR), ClassificationPerImage):
            raise UserError(f"TEST.EVALUATOR is {cfg.TEST.EVALUATOR}, must be ClassificationPerImage or built on it")
        strange = [key for key in cfg.TUNED.KEYS if key not in self.tunable_keys()]
        if strange:
            raise UserError(f"TUNED.KEYS names {strange[0]}, which is not tuned in {type(self).__name__}: take its own file")
        if cfg.FEATURES.MODE not in FEATURE_MODES:
            raise UserError(f'FEATURES.MODE is "{cfg.FEATURES.MODE}", must be {" or ".join(FEATURE_MODES)}')
        if cfg.FEATURES.VIEWS < 0 or (cfg.FEATURES.VIEWS and cfg.FEATURES.MODE != "store"):
            raise UserError(f"FEATURES.VIEWS is {cfg.FEATURES.VIEWS}, must be 0, or a number of views with FEATURES.MODE store")
        for key, value in (
            ("TRAIN.PRINT_FREQ", cfg.TRAIN.PRINT_FREQ),
            ("DATALOADER.TEST.BATCH_SIZE", cfg.DATALOADER.TEST.BATCH_SIZE),
            ("DATALOADER.TRAIN_X.BATCH_SIZE", cfg.DATALOADER.TRAIN_X.BATCH_SIZE),
        ):
            if value < 1:
                raise UserError(f"{key} is {value}, must be 1 or more")
        if self.learns and self.uses_optimizer and cfg.OPTIM.MAX_EPOCH < 1:
            raise UserError(f"OPTIM.MAX_EPOCH is {cfg.OPTIM.MAX_EPOCH}, must be 1 or more (ZeroshotCLIP trains nothing)")
        if cfg.DATALOADER.K_TRANSFORMS != 1 or cfg.INPUT.NO_TRANSFORM:
            raise UserError(
                "DATALOADER.K_TRANSFORMS must be 1 and INPUT.NO_TRANSFORM False: the methods take one view as a tensor"
            )
        precision = cfg.TRAINER[self.section].get("PREC", "fp32")
        if precision not in PRECISIONS:
            raise UserError(f'TRAINER.{self.section}.PREC is "{precision}", must be one of {", ".join(PRECISIONS)}')

    # -- building -----------------------------------------------------------------------------------------

    def build_model(self) -> None:
        self.classnames: list[str] = list(self.facts.classnames)
        self.logit_scale = self.backbone.logit_scale.exp()
        self.backbone.set_text_dropout(False)
        self._text_features: Tensor | None = None
        self._losses = torch.zeros((), device=self.device)  # this epoch's sum: once it is not finite, it stays so
        self.warnings = self.what_to_know()
        if self.trains_here:
            self.build_teacher(self.classnames)
        learner = self.build_learner(self.classnames)
        self.learned_names = [name for name, p in learner.named_parameters() if p.requires_grad]
        self.learned_count = sum(p.numel() for p in learner.parameters() if p.requires_grad)
        if not self.learns:
            return
        setattr(self, LEARNER, learner.to(self.device))
        self.optim, self.sched = self.optimizer_and_schedule(learner)
        self.register_model(LEARNER, learner, self.optim, self.sched)
        precision = self.own.PREC
        scaled = precision in ("amp", "fp16") and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler("cuda") if scaled else None

    def optimizer_and_schedule(self, learner: nn.Module) -> tuple[Any, Any]:
        """What trains the learner: OPTIM's optimiser over its parameters, and OPTIM's schedule."""
        optim = build_optimizer(learner, self.cfg.OPTIM)
        return optim, build_lr_scheduler(optim, self.cfg.OPTIM)

    def build_learner(self, classnames: Sequence[str]) -> nn.Module:
        """The module that holds everything this method learns."""
        raise NotImplementedError

    def build_teacher(self, classnames: Sequence[str]) -> None:
        """Frozen features that only the loss reads, where it reads any; one that does not train does without them."""

    # -- training -----------------------------------------------------------------------------------------

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Weighted loss terms by name, and logits (B, C)."""
        raise NotImplementedError

    def set_model_mode(self, mode: str = "train", names: Any = None) -> None:
        super().set_model_mode(mode, names)
        training = mode == "train"
        self.backbone.set_text_dropout(training and bool(self.own.get("TEXT_DROPOUT", False)))
        self._text_features = None

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """One step; what it reports stays on the device until somebody reads it."""
        self.backbone.announce_step()
        terms, accuracy = self.losses(batch)
        return self.end_step(self.update(terms), terms, accuracy)

    def losses(self, batch: dict[str, Any]) -> tuple[dict[str, Tensor], Tensor]:
        """The loss terms of a batch of ``train_loader_x``, and the accuracy in %."""
        images, labels = self.parse_batch_train(batch)
        with self.precision():
            terms, logits = self.loss_terms(images, labels)
        return terms, compute_accuracy(logits, labels)[0][0]

    def update(self, terms: dict[str, Tensor]) -> Tensor:
        """One optimiser step on the sum of the terms, which is returned."""
        loss = self.total(terms)
        self.optim.zero_grad()
        with reproducible_gradients(self.backbone):
            self.backward(loss, terms)
        self.descend()
        return loss

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The sum of the terms, which the epoch's sum takes in."""
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        self._losses = self._losses + loss.detach()
        return loss

    def descend(self) -> None:
        """Let the optimiser step along the gradients."""
        if self.scaler is None:
            self.optim.step()
        else:
            self.scaler.step(self.optim)
            self.scaler.update()

    def end_step(self, loss: Tensor, terms: dict[str, Tensor], accuracy: Tensor) -> dict[str, Tensor]:
        """Let the schedule step if this was the epoch's last batch; returns what the log says of the step."""
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        summary = {"loss": loss.detach(), "acc": accuracy}
        if len(terms) > 1:
            summary |= {f"loss_{name}": term.detach() for name, term in terms.items()}
        return summary

    def before_epoch(self) -> None:
        super().before_epoch()
        self._losses = torch.zeros_like(self._losses)

    def check_finite(self) -> None:
        """Once per epoch, before anything is saved: a look at every loss would make the device wait at every step.

        Raises:
            Diverged: a loss that was infinite or NaN.
        """
        total = self._losses.item()
        if not math.isfinite(total):
            raise Diverged(
                f"the loss is {total} in epoch {self.epoch + 1}: lower OPTIM.LR, "
                f"or train with TRAINER.{self.section}.PREC fp32 or bf16"
            )

    def backward(self, loss: Tensor, terms: dict[str, Tensor]) -> None:
        """Fill the learner's gradients from ``loss``, the sum of ``terms``, times the GradScaler's factor."""
        self.scaled(loss).backward()

    def scaled(self, loss: Tensor) -> Tensor:
        """``loss`` times the GradScaler's factor, where there is one."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def after_epoch(self) -> None:
        """Keep one checkpoint of the last whole epoch, so that a killed run goes on where it was."""
        self.check_finite()
        super().after_epoch()
        every = self.cfg.TRAIN.CHECKPOINT_FREQ
        done = self.epoch + 1
        folder = Path(self.output_dir) / LEARNER
        if done < self.max_epoch and not (every > 0 and done % every == 0):
            self.save_model(self.epoch, self.output_dir)
        for path in folder.glob("model.pth.tar-*"):  # one that a killed run left behind is older too
            epoch = path.name.rsplit("-", 1)[1]
            if epoch.isdigit() and int(epoch) < done and not (every > 0 and int(epoch) % every == 0):
                path.unlink(missing_ok=True)

    # -- testing ------------------------------------------------------------------------------------------

    def parse_batch_test(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        self.evaluator.paths.extend(batch["impath"])
        return super().parse_batch_test(batch)

    def text_features(self) -> Tensor:
        """(C, D) normalised class features for testing; kept until the mode changes."""
        if self._text_features is None:
            self._text_features = unit(self.encode_classes())
        return self._text_features

    def encode_classes(self) -> Tensor:
        """(C, D) class features of the learned prompts, not normalised."""
        raise NotImplementedError

    def scores(self, features: Tensor) -> Tensor:
        """Normalised image features (B, D) -> logits (B, C)."""
        return self.logit_scale * features @ self.text_features().T

    @torch.no_grad()
    def model_inference(self, images: Tensor) -> Tensor:
        self.backbone.announce_step()
        with self.precision():
            return self.scores(self.image_features(images))

    # -- checkpoints --------------------------------------------------------------------------------------

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load what was learned from ``directory``; the log says which checkpoint.

        Without ``epoch`` the last one, or the best on validation with TEST.FINAL_MODEL best_val. Released full-model
        checkpoints are understood too: only their learned tensors are taken.

        Raises:
            UserError: no checkpoint there, or one whose tensors do not fit this run's classes.
        """
        if not self.learns:
            log.info("%s has nothing to load: it learns nothing", type(self).__name__)
            return
        best = self.cfg.TEST.FINAL_MODEL == "best_val"
        path = find_checkpoint(Path(directory) / LEARNER, epoch, best)
        state = load_checkpoint(str(path))
        stored = stored_tensors(state, path)
        self.make_room(stored)
        take_over(getattr(self, LEARNER), stored, path, type(self).__name__)
        self._text_features = None
        log.info("loaded %s (epoch %s)", path, state.get("epoch"))

    def make_room(self, stored: dict[str, Tensor]) -> None:
        """Called before ``stored`` is loaded: where the learner's sizes follow the training images, they can be taken over."""
