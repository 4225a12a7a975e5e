"""Trainers on labelled images, and on labelled and unlabelled ones.

Upstream's module has everything in one place and hides nothing, so other people's code imports from here what it uses
itself: those names are here too.
"""

from __future__ import annotations

import datetime
import logging
import os.path as osp
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from dassl.data import DataManager
from dassl.data.loader import set_loader_epoch
from dassl.engine.base import TrainerBase
from dassl.engine.pace import UNKNOWN, Pace
from dassl.engine.simple import SimpleNet, SimpleTrainer
from dassl.evaluation import build_evaluator
from dassl.modeling import build_backbone, build_head
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    AverageMeter,
    MetricMeter,
    SettingError,
    check_availability,
    count_num_param,
    load_checkpoint,
    load_pretrained_weights,
    mkdir_if_missing,
    resume_from_checkpoint,
    save_checkpoint,
    tolist_if_not,
)

log = logging.getLogger(__name__)


def __getattr__(name: str) -> Any:
    """``SummaryWriter``, once somebody asks for it: TensorBoard is slow to import, and need not be installed."""
    if name != "SummaryWriter":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter


class Screen(Protocol):
    """What a person sees of a training while it runs, beside the log."""

    def show(self, trainer: Any, losses: MetricMeter) -> None:
        """``trainer`` has done step ``batch_idx`` of ``num_batches`` in ``epoch``; ``losses`` average over the epoch so far."""


class _EpochLoop(SimpleTrainer):
    """What both kinds share: meters, printing, TensorBoard.

    Attributes:
        screen: shown whenever a step has its line in the log, and at the end of each epoch; nobody looks by default.
        pace: tells the time that is left; begun with the first epoch.
    """

    screen: Screen | None = None
    pace: Pace | None = None

    def begin_steps(self) -> None:
        """Before the first step of each epoch."""
        now = time.time()
        if self.pace is None or self.epoch == self.start_epoch:
            self.pace = Pace(self.epoch, self.max_epoch, getattr(self.train_loader_x, "epochs_ahead", 1))
        else:
            self.pace.pause(now - self._steps_ended)

    def end_steps(self, losses: MetricMeter) -> None:
        """After the last step of each epoch."""
        self._steps_ended = time.time()
        if self.screen is not None:
            self.screen.show(self, losses)

    def report(self, losses: MetricMeter, timers: tuple[AverageMeter, AverageMeter]) -> None:
        """Log the step's line; show it where somebody looks."""
        batch_time, data_time = timers
        eta = self.pace.eta(self.epoch, self.batch_idx, self.num_batches) if self.pace else UNKNOWN
        if self.screen is not None and self.batch_idx + 1 < self.num_batches:
            self.screen.show(self, losses)
        log.info(
            "epoch [%d/%d] batch [%d/%d] time %.3f (%.3f) data %.3f (%.3f) %s lr %.4e eta %s",
            self.epoch + 1,
            self.max_epoch,
            self.batch_idx + 1,
            self.num_batches,
            batch_time.val,
            batch_time.avg,
            data_time.val,
            data_time.avg,
            str(losses),
            self.get_current_lr(),
            eta,
        )

    def is_reported(self) -> bool:
        """Whether the step has a line in the log: every PRINT_FREQ-th, and all of an epoch shorter than that."""
        frequency = self.cfg.TRAIN.PRINT_FREQ
        return (self.batch_idx + 1) % frequency == 0 or self.num_batches < frequency

    def read(self, waiting: list[tuple[int, dict[str, Any] | None, float]], losses: MetricMeter) -> None:
        """Add the summaries of some steps to the meters and to TensorBoard's file; from now on their tensors are known."""
        for step, summary, rate in waiting:
            losses.update(summary)
            for name in summary or ():
                self.write_scalar(f"train/{name}", losses.meters[name].avg, step)
            self.write_scalar("train/lr", rate, step)
        waiting.clear()

    def steps(self, batches: Iterator[Any]) -> None:
        """Run ``forward_backward`` on each of ``num_batches`` batches.

        What a step reports may be tensors, and is read when a line is due and at the end: to read a tensor is to wait
        for the device, which at every step would leave a GPU idle.
        """
        self.set_model_mode("train")
        self.begin_steps()
        losses, batch_time, data_time = MetricMeter(), AverageMeter(), AverageMeter()
        waiting: list[tuple[int, dict[str, Any] | None, float]] = []
        end = time.time()
        for self.batch_idx, batch in zip(range(self.num_batches), batches, strict=False):
            data_time.update(time.time() - end)
            summary = self.train_step(batch)
            waiting.append((self.epoch * self.num_batches + self.batch_idx, summary, self.get_current_lr()))
            batch_time.update(time.time() - end)
            self.pace.step(self.epoch, self.batch_idx, batch_time.val)
            if self.is_reported():
                self.read(waiting, losses)
                self.report(losses, (batch_time, data_time))
            end = time.time()
        self.read(waiting, losses)
        self.end_steps(losses)

    def train_step(self, batch: Any) -> dict[str, float] | None:
        return self.forward_backward(batch)


class TrainerX(_EpochLoop):
    """Labelled images only: an epoch is one pass over ``train_loader_x``."""

    def run_epoch(self) -> None:
        self.num_batches = len(self.train_loader_x)
        self.steps(iter(self.train_loader_x))

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, C, H, W), labels (B,) and domains (B,) on the device."""
        return tuple(batch[key].to(self.device) for key in ("img", "label", "domain"))


class TrainerXU(_EpochLoop):
    """Labelled and unlabelled images: TRAIN.COUNT_ITER says whose batches an epoch counts."""

    def run_epoch(self) -> None:
        if self.train_loader_u is None:
            raise SettingError(f"{self.cfg.TRAINER.NAME} needs unlabelled images, {self.cfg.DATASET.NAME} has none")
        lengths = {"train_x": len(self.train_loader_x), "train_u": len(self.train_loader_u)}
        lengths["smaller_one"] = min(lengths.values())
        check_availability(self.cfg.TRAIN.COUNT_ITER, lengths)
        self.num_batches = lengths[self.cfg.TRAIN.COUNT_ITER]
        if not lengths["smaller_one"]:
            raise SettingError(f"a loader has no batch: {lengths}")
        self.steps(zip(endless(self.train_loader_x), endless(self.train_loader_u), strict=True))

    def train_step(self, batch: Any) -> dict[str, float] | None:
        return self.forward_backward(*batch)

    def parse_batch_train(self, batch_x: dict[str, Any], batch_u: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Labelled images, their labels, unlabelled images."""
        return batch_x["img"].to(self.device), batch_x["label"].to(self.device), batch_u["img"].to(self.device)


def endless(loader: Iterable[Any]) -> Iterator[Any]:
    """The loader's batches, from the start again whenever it has run out."""
    while True:
        yield from loader


# Upstream's module has no such list: ``import *`` gives all of these
__all__ = [
    "AverageMeter", "DataManager", "MetricMeter", "OrderedDict", "SimpleNet", "SimpleTrainer", "TrainerBase", "TrainerX",
    "TrainerXU", "build_backbone", "build_evaluator", "build_head", "build_lr_scheduler", "build_optimizer",
    "count_num_param", "datetime", "load_checkpoint", "load_pretrained_weights", "mkdir_if_missing", "nn", "np", "osp",
    "resume_from_checkpoint", "save_checkpoint", "set_loader_epoch", "time", "tolist_if_not", "torch", "tqdm",
    "SummaryWriter",  # noqa: F822  (by __getattr__)
]  # fmt: skip
