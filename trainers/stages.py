"""Training in stages: each has loss weights and a learning rate of its own, and its schedule is that of a run of its own."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from yacs.config import CfgNode

from dassl.optim import build_lr_scheduler
from dassl.utils import UserError, nearest

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
WEIGHTS = ("ce", "l1", "kl")
KEYS = ("name", "epochs", *WEIGHTS, "lr")


@dataclass(frozen=True)
class LossStage:
    """Some epochs of a training.

    Attributes:
        name: letters, digits, ``_`` and ``-``.
        first: its first epoch, counted from 0.
        epochs: how many; 0 where the stage is as given, and nothing is trained.
        ce, l1, kl: weights of the loss terms, 0 or more.
        lr: the base learning rate, more than 0.
    """

    name: str
    first: int
    epochs: int
    ce: float
    l1: float
    kl: float
    lr: float

    @property
    def end(self) -> int:
        """The epoch behind its last one."""
        return self.first + self.epochs

    def told(self) -> str:
        """Its settings in words."""
        if not self.epochs:
            return f"{self.name}: as given, no epoch"
        return f"{self.name}: {self.epochs} epochs, ce {self.ce:g}, l1 {self.l1:g}, kl {self.kl:g}, lr {self.lr:g}"


def read_stages(given: Any, where: str, weights: Mapping[str, float], optim: CfgNode) -> list[LossStage]:
    """The stages that a config lists; none for the single joint stage.

    Args:
        given: a list of mappings with ``name`` and ``epochs``, and whichever of ``ce``, ``l1``, ``kl`` and ``lr`` differ
            from what the config has for all epochs.
        where: the config key, for what is said of a mistake.
        weights: of the joint stage, for the weights that a stage leaves out.
        optim: the section OPTIM: LR for a stage without its own, MAX_EPOCH for the sum, WARMUP_EPOCH.

    Raises:
        UserError: no such list, an unknown key, a value out of range, or epochs that do not sum up to OPTIM.MAX_EPOCH.
    """
    if not isinstance(given, (list, tuple)):
        raise UserError(f"{where} must be a list of stages, such as [{{name: tune, epochs: 100}}], got {str(given)[:60]!r}")
    stages: list[LossStage] = []
    for number, one in enumerate(given, start=1):
        stages.append(_stage(one, f"{where}, stage {number}", weights, optim, stages))
    total = sum(stage.epochs for stage in stages)
    if stages and total != optim.MAX_EPOCH:
        raise UserError(f"{where} has {total} epochs, but OPTIM.MAX_EPOCH is {optim.MAX_EPOCH}: the two must be the same")
    return stages


def _stage(one: Any, where: str, weights: Mapping[str, float], optim: CfgNode, before: Sequence[LossStage]) -> LossStage:
    if not isinstance(one, Mapping):
        raise UserError(f"{where} must be like {{name: tune, epochs: 100}}, got {str(one)[:60]!r}")
    for key in one:
        if key not in KEYS:
            raise UserError(f'{where}: unknown key "{key}".{nearest(str(key), KEYS)} A stage has {", ".join(KEYS)}')
    name, epochs = one.get("name"), one.get("epochs")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f"{where}: name must be letters, digits, _ and -, got {name!r}")
    where = f'{where} "{name}"'
    if name in [stage.name for stage in before]:
        raise UserError(f"{where}: another stage has this name")
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 0:
        raise UserError(f"{where}: epochs must be a whole number, 0 or more, got {epochs!r}")
    usual = {**weights, "lr": optim.LR}
    numbers = {key: _number(one.get(key, usual[key]), f"{where}: {key}") for key in (*WEIGHTS, "lr")}
    if numbers["lr"] == 0:
        raise UserError(f"{where}: lr must be more than 0, got {one['lr']!r}")
    if epochs and not any(numbers[key] for key in WEIGHTS):
        raise UserError(f"{where}: ce, l1 and kl are all 0, so there is nothing to minimise")
    if 0 < epochs <= optim.WARMUP_EPOCH:
        warm = f"OPTIM.WARMUP_EPOCH is {optim.WARMUP_EPOCH}"
        raise UserError(f"{where}: epochs is {epochs}, but {warm}, so all of it would be warm-up: give it more epochs")
    return LossStage(name, before[-1].end if before else 0, epochs, **numbers)


def _number(value: Any, what: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= sys.float_info.max:
        raise UserError(f"{what} must be a finite number, 0 or more, got {str(value)[:40]!r}")
    return float(value)


def short_name(stages: Sequence[LossStage]) -> str:
    """Number of stages and a hash of their settings, for the name of a run's folder; empty for the joint stage."""
    if not stages:
        return ""
    said = json.dumps([asdict(stage) for stage in stages], sort_keys=True)
    return f"_{len(stages)}stages-{hashlib.sha256(said.encode()).hexdigest()[:6]}"


def stage_at(stages: Sequence[LossStage], epoch: int) -> int | None:
    """The place of the stage that ``epoch`` (from 0) is in; ``None`` behind the last one."""
    return next((at for at, stage in enumerate(stages) if stage.first <= epoch < stage.end), None)


class StagedSchedule:
    """OPTIM's schedule, warm-up and all, over each stage in turn, from the stage's own learning rate.

    Where a stage begins, the optimiser forgets its momentum: each stage is what a run of its own would be, which starts
    from what the stage before has learned.

    Args:
        optimizer: its groups' rates are those of ``optim.LR``; groups with other rates keep their ratio to it.
        optim: the section OPTIM; LR and MAX_EPOCH are each stage's own.
        stages: with one that trains at least.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, optim: CfgNode, stages: Sequence[LossStage]) -> None:
        self.optimizer, self.optim, self.stages = optimizer, optim, list(stages)
        self.ratios = [group["lr"] / optim.LR for group in optimizer.param_groups]
        self.last_epoch = 0
        self._begin(stage_at(self.stages, 0))

    def _begin(self, at: int | None) -> None:
        assert at is not None, "a schedule needs a stage that trains"
        self.stage, stage = at, self.stages[at]
        for group, ratio in zip(self.optimizer.param_groups, self.ratios, strict=True):
            group["lr"] = group["initial_lr"] = stage.lr * ratio
        self.optimizer.state.clear()
        own = self.optim.clone()
        own.defrost()
        own.LR, own.MAX_EPOCH = stage.lr, stage.epochs
        self.inner = build_lr_scheduler(self.optimizer, own)

    def step(self) -> None:
        """An epoch is finished."""
        self.last_epoch += 1
        at = stage_at(self.stages, self.last_epoch)
        if at in (None, self.stage):  # none: the training is at its end
            self.inner.step()
        else:
            self._begin(at)

    def get_last_lr(self) -> list[float]:
        return self.inner.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """Plain values only."""
        return {"last_epoch": self.last_epoch, "stage": self.stage, "inner": self.inner.state_dict()}

    def understands(self, state: Any) -> bool:
        """Whether ``state`` is of a schedule in stages."""
        own = isinstance(state, dict) and set(state) >= {"last_epoch", "stage", "inner"}
        return own and self.inner.understands(state["inner"])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        momentum = dict(self.optimizer.state)  # loaded before, and of the stage that the state is of
        self._begin(int(state["stage"]))
        self.optimizer.state.update(momentum)
        self.last_epoch = int(state["last_epoch"])
        self.inner.load_state_dict(state["inner"])
