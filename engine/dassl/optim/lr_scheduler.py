"""Learning-rate schedules, stepped once per epoch, with a warm-up in front."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from yacs.config import CfgNode

from dassl.utils import UserError, check_availability

AVAI_SCHEDS = ("single_step", "multi_step", "cosine")
AVAI_WARMUPS = ("constant", "linear")


class EpochSchedule:
    """Sets the learning rate of each parameter group to a closed form of the number of finished epochs e.

    ``e < warmup``: the warm-up's rate. Afterwards ``base_lr * factor(e - warmup)``; without recount the schedule's
    clock has run during the warm-up, so the rate is ``base_lr * factor(e) / factor(warmup)``.

    Args:
        optimizer: its groups' ``lr`` at construction are the base rates.
        factor: epoch -> factor of the schedule proper.
        warmup_epoch: 0 for none.
        warmup_lr: (base_lr, epoch) -> rate during the warm-up.
        recount: whether the schedule's own clock starts after the warm-up.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        factor: Callable[[int], float],
        warmup_epoch: int = 0,
        warmup_lr: Callable[[float, int], float] | None = None,
        recount: bool = True,
    ) -> None:
        self.optimizer = optimizer
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        self._factor, self._warmup_lr = factor, warmup_lr
        self.warmup_epoch, self.recount = warmup_epoch, recount
        self.last_epoch = 0
        self._apply()

    def lr_at(self, base_lr: float, epoch: int) -> float:
        """The rate after ``epoch`` finished epochs."""
        if epoch < self.warmup_epoch and self._warmup_lr is not None:
            return self._warmup_lr(base_lr, epoch)
        if self.recount:
            return base_lr * self._factor(epoch - self.warmup_epoch)
        start = self._factor(self.warmup_epoch)
        return base_lr * (self._factor(epoch) / start if start else 0.0)

    def step(self, epoch: int | None = None) -> None:
        """An epoch is finished (or: ``epoch`` of them are)."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._apply()

    def get_last_lr(self) -> list[float]:
        return list(self._last_lr)

    def _apply(self) -> None:
        self._last_lr = [self.lr_at(base, self.last_epoch) for base in self.base_lrs]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate

    def state_dict(self) -> dict[str, Any]:
        """Plain values only."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.last_epoch, self.base_lrs = int(state["last_epoch"]), list(state["base_lrs"])
        self._apply()


def build_lr_scheduler(optimizer: torch.optim.Optimizer, optim_cfg: CfgNode) -> EpochSchedule:
    """The schedule ``optim_cfg.LR_SCHEDULER`` with its warm-up.

    Raises:
        UserError: an unknown name or an unusable step size.
    """
    check_availability(optim_cfg.LR_SCHEDULER, AVAI_SCHEDS)
    warmup = max(int(optim_cfg.WARMUP_EPOCH), 0)
    warmup_lr: Callable[[float, int], float] | None = None
    if warmup:
        check_availability(optim_cfg.WARMUP_TYPE, AVAI_WARMUPS)
        if optim_cfg.WARMUP_TYPE == "constant":
            constant = float(optim_cfg.WARMUP_CONS_LR)
            warmup_lr = lambda base, epoch: constant  # noqa: E731
        else:
            least = float(optim_cfg.WARMUP_MIN_LR)
            warmup_lr = lambda base, epoch: base * epoch / warmup if epoch else least  # noqa: E731
    return EpochSchedule(optimizer, _factor(optim_cfg), warmup, warmup_lr, bool(optim_cfg.WARMUP_RECOUNT))


def _factor(cfg: CfgNode) -> Callable[[int], float]:
    steps = cfg.STEPSIZE if isinstance(cfg.STEPSIZE, (list, tuple)) else (cfg.STEPSIZE,)
    if cfg.LR_SCHEDULER == "cosine":
        return lambda epoch: 0.5 * (1 + math.cos(math.pi * epoch / cfg.MAX_EPOCH))
    if cfg.LR_SCHEDULER == "single_step":
        if not all(isinstance(step, int) for step in steps):
            raise UserError(f"OPTIM.STEPSIZE is {cfg.STEPSIZE}, must hold whole numbers of epochs")
        size = steps[-1] if steps[-1] > 0 else cfg.MAX_EPOCH
        return lambda epoch: cfg.GAMMA ** (epoch // size)
    if not all(isinstance(step, int) and step > 0 for step in steps):
        raise UserError(f"OPTIM.STEPSIZE is {cfg.STEPSIZE}, multi_step needs the epochs at which the rate drops")
    return lambda epoch: cfg.GAMMA ** sum(epoch >= step for step in steps)
