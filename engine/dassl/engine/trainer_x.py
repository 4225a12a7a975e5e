"""Trainers on labelled images, and on labelled and unlabelled ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from dassl.engine.trainer import SimpleTrainer, set_loader_epoch
from dassl.utils import AverageMeter, MetricMeter, UserError, format_eta

log = logging.getLogger(__name__)


class _EpochLoop(SimpleTrainer):
    """What both kinds share: meters, printing, TensorBoard."""

    def report(self, losses: MetricMeter, timers: tuple[AverageMeter, AverageMeter]) -> None:
        """Log the step's line at PRINT_FREQ (and every step of an epoch shorter than that)."""
        batch_time, data_time = timers
        due = (self.batch_idx + 1) % self.cfg.TRAIN.PRINT_FREQ == 0
        if due or self.num_batches < self.cfg.TRAIN.PRINT_FREQ and self.batch_idx + 1 == self.num_batches:
            left = self.num_batches - self.batch_idx - 1 + (self.max_epoch - self.epoch - 1) * self.num_batches
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
                losses,
                self.get_current_lr(),
                format_eta(batch_time.avg * left),
            )
        step = self.epoch * self.num_batches + self.batch_idx
        for name, meter in losses.meters.items():
            self.write_scalar(f"train/{name}", meter.avg, step)
        self.write_scalar("train/lr", self.get_current_lr(), step)

    def steps(self, batches: Iterator[Any]) -> None:
        """Run ``forward_backward`` on each of ``num_batches`` batches."""
        self.set_model_mode("train")
        losses, batch_time, data_time = MetricMeter(), AverageMeter(), AverageMeter()
        end = time.time()
        for self.batch_idx in range(self.num_batches):
            batch = next(batches)
            data_time.update(time.time() - end)
            losses.update(self.train_step(batch))
            batch_time.update(time.time() - end)
            self.report(losses, (batch_time, data_time))
            end = time.time()

    def train_step(self, batch: Any) -> dict[str, float] | None:
        return self.forward_backward(batch)


class TrainerX(_EpochLoop):
    """Labelled images only: an epoch is one pass over ``train_loader_x``."""

    def run_epoch(self) -> None:
        set_loader_epoch(self.train_loader_x, self.epoch)
        self.num_batches = len(self.train_loader_x)
        self.steps(iter(self.train_loader_x))

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, C, H, W), labels (B,) and domains (B,) on the device."""
        return tuple(batch[key].to(self.device) for key in ("img", "label", "domain"))


class TrainerXU(_EpochLoop):
    """Labelled and unlabelled images: TRAIN.COUNT_ITER says whose batches an epoch counts."""

    def run_epoch(self) -> None:
        if self.train_loader_u is None:
            raise UserError(f"{self.cfg.TRAINER.NAME} needs unlabelled images, {self.cfg.DATASET.NAME} has none")
        lengths = {"train_x": len(self.train_loader_x), "train_u": len(self.train_loader_u)}
        lengths["smaller_one"] = min(lengths.values())
        if self.cfg.TRAIN.COUNT_ITER not in lengths:
            raise UserError(f'TRAIN.COUNT_ITER is "{self.cfg.TRAIN.COUNT_ITER}", must be one of {", ".join(lengths)}')
        self.num_batches = lengths[self.cfg.TRAIN.COUNT_ITER]
        self.steps(zip(self._endless(self.train_loader_x), self._endless(self.train_loader_u), strict=False))

    def _endless(self, loader: DataLoader[Any]) -> Iterator[Any]:
        turn = 0
        while True:
            # a loader that runs out within the epoch goes round again in another order
            set_loader_epoch(loader, self.epoch + turn * self.max_epoch)
            yield from loader
            turn += 1

    def train_step(self, batch: Any) -> dict[str, float] | None:
        return self.forward_backward(*batch)

    def parse_batch_train(self, batch_x: dict[str, Any], batch_u: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Labelled images, their labels, unlabelled images."""
        return batch_x["img"].to(self.device), batch_x["label"].to(self.device), batch_u["img"].to(self.device)
