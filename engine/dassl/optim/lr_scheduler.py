"""Learning-rate schedules, stepped once per epoch, with a warm-up in front."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from yacs.config import CfgNode

from dassl.utils import SettingError, check_availability

AVAI_SCHEDS = ["single_step", "multi_step", "cosine"]
AVAI_WARMUPS = ["constant", "linear"]


class EpochSchedule:
    """Sets each group's learning rate to ``base_lr * ratio(start, e)`` after e epochs, its own clock beginning at start.

    Args:
        optimizer: its groups' rates at construction are the base rates.
        ratio: (start, epoch) -> factor; 1 at ``epoch == start``.
        start: what the clock shows at the beginning.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, ratio: Callable[[int, int], float], start: int = 0) -> None:
        self.optimizer, self.ratio, self.start = optimizer, ratio, start
        self.base_lrs = _base_lrs(optimizer)
        self.last_epoch = start
        self._apply()

    def step(self, epoch: int | None = None) -> None:
        """An epoch is finished (or: the clock shows ``epoch``)."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._apply()

    def get_last_lr(self) -> list[float]:
        return list(self._last_lr)

    def _apply(self) -> None:
        factor = self.ratio(self.start, self.last_epoch) if self.last_epoch > self.start else 1.0
        self._last_lr = [base * factor for base in self.base_lrs]
        _set_lrs(self.optimizer, self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """Plain values only."""
        return {"last_epoch": self.last_epoch, "start": self.start, "base_lrs": list(self.base_lrs)}

    def understands(self, state: Any) -> bool:
        """Whether ``state`` is of this kind: upstream's has other keys."""
        return isinstance(state, dict) and set(state) >= set(self.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.last_epoch, self.start, self.base_lrs = int(state["last_epoch"]), int(state["start"]), list(state["base_lrs"])
        self._apply()


class _WarmupScheduler:
    """Rates of its own for ``warmup_epoch`` epochs, then those of ``successor``, whose clock starts to run then.

    Args:
        optimizer: its groups' rates, as they were before any schedule, are the base rates.
        successor: an :class:`EpochSchedule` or one of PyTorch's schedulers of the same optimizer.
        warmup_epoch: length of the warm-up.
        last_epoch: number of finished epochs - 1.
        verbose: ignored, as PyTorch does now.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, successor: Any, warmup_epoch: int, last_epoch: int = -1, verbose: bool = False
    ) -> None:
        self.optimizer, self.successor, self.warmup_epoch = optimizer, successor, warmup_epoch
        self.base_lrs = _base_lrs(optimizer)
        self.last_epoch = last_epoch + 1
        self._apply()

    def get_lr(self) -> list[float]:
        """The warm-up's rates after ``last_epoch`` epochs."""
        raise NotImplementedError

    def step(self, epoch: int | None = None) -> None:
        """An epoch is finished."""
        if self.last_epoch < self.warmup_epoch:
            self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
            self._apply()
        else:
            self.successor.step(*(() if epoch is None else (epoch,)))
            self._last_lr = self.successor.get_last_lr()

    def get_last_lr(self) -> list[float]:
        return list(self._last_lr)

    def _apply(self) -> None:
        self._last_lr = self.get_lr() if self.last_epoch < self.warmup_epoch else self.successor.get_last_lr()
        _set_lrs(self.optimizer, self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """Plain values and the successor's state (upstream pickles the successor itself, optimizer and all)."""
        state = {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs), "last_lr": list(self._last_lr)}
        return state | {"successor": self.successor.state_dict()}

    def understands(self, state: Any) -> bool:
        """Whether ``state`` is of this kind: upstream's has other keys, and for a successor the object itself."""
        return isinstance(state, dict) and set(state) >= set(self.state_dict()) and isinstance(state["successor"], dict)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.successor.load_state_dict(state["successor"])
        self.last_epoch, self.base_lrs = int(state["last_epoch"]), list(state["base_lrs"])
        self._last_lr = list(state["last_lr"])
        _set_lrs(self.optimizer, self._last_lr)


class ConstantWarmupScheduler(_WarmupScheduler):
    """All groups at ``cons_lr`` during the warm-up."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, successor: Any, warmup_epoch: int, cons_lr: float, *args: Any, **kwargs: Any
    ) -> None:
        self.cons_lr = cons_lr
        super().__init__(optimizer, successor, warmup_epoch, *args, **kwargs)

    def get_lr(self) -> list[float]:
        return [self.cons_lr] * len(self.base_lrs)


class LinearWarmupScheduler(_WarmupScheduler):
    """``min_lr`` in the first epoch, then ``base_lr * e / warmup_epoch``."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, successor: Any, warmup_epoch: int, min_lr: float, *args: Any, **kwargs: Any
    ) -> None:
        self.min_lr = min_lr
        super().__init__(optimizer, successor, warmup_epoch, *args, **kwargs)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return [self.min_lr] * len(self.base_lrs)
        return [base * self.last_epoch / self.warmup_epoch for base in self.base_lrs]


def build_lr_scheduler(
    optimizer: torch.optim.Optimizer, optim_cfg: CfgNode
) -> EpochSchedule | ConstantWarmupScheduler | LinearWarmupScheduler:
    """The schedule ``optim_cfg.LR_SCHEDULER`` with its warm-up.

    With WARMUP_RECOUNT the schedule's own clock starts after the warm-up; without, it has run during the warm-up, and
    only what it does afterwards is seen: the rate is ``base_lr * factor(e) / factor(warm-up)``.

    Raises:
        UnknownNameError: an unknown schedule or warm-up.
        SettingError: an unusable step size.
    """
    check_availability(optim_cfg.LR_SCHEDULER, AVAI_SCHEDS, "OPTIM.LR_SCHEDULER")
    warmup = optim_cfg.WARMUP_EPOCH
    if warmup <= 0:
        return EpochSchedule(optimizer, _ratio(optim_cfg))
    check_availability(optim_cfg.WARMUP_TYPE, AVAI_WARMUPS, "OPTIM.WARMUP_TYPE")
    schedule = EpochSchedule(optimizer, _ratio(optim_cfg), 0 if optim_cfg.WARMUP_RECOUNT else warmup)
    if optim_cfg.WARMUP_TYPE == "constant":
        return ConstantWarmupScheduler(optimizer, schedule, warmup, optim_cfg.WARMUP_CONS_LR)
    return LinearWarmupScheduler(optimizer, schedule, warmup, optim_cfg.WARMUP_MIN_LR)


def _ratio(cfg: CfgNode) -> Callable[[int, int], float]:
    steps = cfg.STEPSIZE if isinstance(cfg.STEPSIZE, (list, tuple)) else (cfg.STEPSIZE,)
    if cfg.LR_SCHEDULER == "cosine":
        return lambda start, epoch: _raised_cosine(epoch / cfg.MAX_EPOCH) / _raised_cosine(start / cfg.MAX_EPOCH)
    if cfg.LR_SCHEDULER == "single_step":
        if not all(isinstance(step, int) for step in steps):
            raise SettingError(f"OPTIM.STEPSIZE is {cfg.STEPSIZE}, must hold whole numbers of epochs")
        size = steps[-1] if steps[-1] > 0 else cfg.MAX_EPOCH
        return lambda start, epoch: cfg.GAMMA ** (epoch // size - start // size)
    if not all(isinstance(step, int) and step > 0 for step in steps):
        raise SettingError(f"OPTIM.STEPSIZE is {cfg.STEPSIZE}, multi_step needs the epochs at which the rate drops")
    return lambda start, epoch: cfg.GAMMA ** sum(start < step <= epoch for step in steps)


def _raised_cosine(part: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * part))


def _base_lrs(optimizer: torch.optim.Optimizer) -> list[float]:
    # PyTorch's schedulers keep the rate that a group had before any of them under the same name
    return [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]


def _set_lrs(optimizer: torch.optim.Optimizer, rates: list[float]) -> None:
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
