"""The loop of a training run, its registered models and their checkpoints."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dassl.engine.gradients import project
from dassl.utils import (
    NotFiniteError,
    UserError,
    last_checkpoint,
    load_checkpoint,
    restore,
    rng_state,
    save_checkpoint,
    tolist_if_not,
)
from dassl.utils.trackers import open_tracker

log = logging.getLogger(__name__)


class TrainerBase:
    """Registered models with their optimizers, checkpoints, and the epoch loop."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._optims: OrderedDict[str, Any] = OrderedDict()
        self._scheds: OrderedDict[str, Any] = OrderedDict()
        self._writer: Any = None
        self.best_result = float("-inf")  # on the validation images, with TEST.FINAL_MODEL best_val

    def register_model(self, name: str = "model", model: Any = None, optim: Any = None, sched: Any = None) -> None:
        """Keep a model (with optimizer and schedule) under ``name``: it is saved, resumed and switched with the rest.

        Raises:
            AttributeError: called before ``TrainerBase.__init__``.
            ValueError: the name is taken.
        """
        if "_models" not in self.__dict__:
            raise AttributeError("register_model() was called before super().__init__()")
        if name in self._models:
            raise ValueError(f"found duplicate model name: {name}")
        self._models[name], self._optims[name], self._scheds[name] = model, optim, sched

    def get_model_names(self, names: str | Sequence[str] | None = None) -> list[str]:
        """All registered names, or ``names`` after checking that each is one."""
        known = list(self._models)
        if names is None:
            return known
        wanted = tolist_if_not(names) if isinstance(names, (str, list)) else list(names)
        for name in wanted:
            if name not in known:
                raise KeyError(f"no model is registered as {name}")
        return wanted

    # -- checkpoints --------------------------------------------------------------------------------------

    def save_model(
        self, epoch: int, directory: str, is_best: bool = False, val_result: float | None = None, model_name: str = ""
    ) -> None:
        """Save every registered model after ``epoch`` (counted from 0) under ``directory/<name>``."""
        for name in self.get_model_names():
            optim, sched = self._optims[name], self._scheds[name]
            state = {
                "state_dict": self._models[name].state_dict(),
                "epoch": epoch + 1,
                "optimizer": optim.state_dict() if optim is not None else None,
                "scheduler": sched.state_dict() if sched is not None else None,
                "val_result": None if val_result is None else float(val_result),
                "best_result": float(self.best_result),
                "rng": rng_state(),
            }
            save_checkpoint(state, os.path.join(directory, name), is_best=is_best, model_name=model_name)

    def resume_model_if_exist(self, directory: str) -> int:
        """Load every registered model from ``directory`` if all are there; returns the epoch to start from.

        Raises:
            UserError: the models were saved after different epochs.
        """
        folders = {name: os.path.join(directory, name) for name in self.get_model_names()}
        if not folders or not all(os.path.exists(os.path.join(folder, "checkpoint")) for folder in folders.values()):
            log.info("No checkpoint found, train from scratch")
            return 0
        log.info("Found checkpoint at %s (will resume training)", directory)
        epochs = {}
        for name, folder in folders.items():
            state = restore(folder, self._models[name], self._optims[name], self._scheds[name])
            epochs[name] = int(state["epoch"])
            self.best_result = float(state.get("best_result", float("-inf")))
        if len(set(epochs.values())) > 1:
            raise UserError(
                f"the models in {directory} were saved after different epochs ({epochs}): name the same one in each "
                'model\'s file "checkpoint"'
            )
        return epochs[name]

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the weights of every registered model: of ``epoch``, else the best one kept, else the last.

        Raises:
            MissingFileError: no checkpoint there.
        """
        if not directory:
            log.info("Note that load_model() is skipped as no pretrained model is given (ignore this if it's done on purpose)")
            return
        for name in self.get_model_names():
            folder = os.path.join(directory, name)
            path = os.path.join(folder, "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}")
            if epoch is None and not os.path.exists(path):
                path = last_checkpoint(folder)  # a model is best only where TEST.FINAL_MODEL is best_val
            state = load_checkpoint(path)
            result = state.get("val_result")
            shown = "None" if result is None else f"{result:.1f}"
            log.info("Load %s to %s (epoch=%s, val_result=%s)", path, name, state["epoch"], shown)
            self._models[name].load_state_dict(state["state_dict"])

    # -- modes, rates, logs -------------------------------------------------------------------------------

    def set_model_mode(self, mode: str = "train", names: str | Sequence[str] | None = None) -> None:
        """Switch to "train", or to "eval" (also called "test")."""
        if mode not in ("train", "eval", "test"):
            raise KeyError(f"mode must be train, eval or test, got {mode}")
        for name in self.get_model_names(names):
            if self._models[name] is not None:
                self._models[name].train(mode == "train")

    def update_lr(self, names: str | Sequence[str] | None = None) -> None:
        """Step the schedules: an epoch is finished."""
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    def get_current_lr(self, names: str | Sequence[str] | None = None) -> float:
        """The learning rate of the first group of the first model."""
        name = self.get_model_names(names)[0]
        return self._optims[name].param_groups[0]["lr"]

    def detect_anomaly(self, loss: Tensor) -> None:
        """Raise a :class:`NotFiniteError` when the loss is not finite."""
        if not torch.isfinite(loss).all():
            raise NotFiniteError("Loss is infinite or NaN! Lower OPTIM.LR, or train in full precision")

    def init_writer(self, log_dir: str) -> None:
        """Open TensorBoard's event file in ``log_dir``; without the package, say so once and go on."""
        if self._writer is None:
            self._writer = open_tracker("tensorboard", log_dir)

    def close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def write_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        if self._writer is not None:
            self._writer.add_scalar(tag, scalar_value, global_step)

    # -- steps --------------------------------------------------------------------------------------------

    def model_zero_grad(self, names: str | Sequence[str] | None = None) -> None:
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].zero_grad()

    def model_backward(self, loss: Tensor) -> None:
        self.detect_anomaly(loss)
        loss.backward()

    def model_update(self, names: str | Sequence[str] | None = None) -> None:
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].step()

    def model_backward_and_update(self, loss: Tensor, names: str | Sequence[str] | None = None) -> None:
        """Zero gradients, backward, optimizer steps."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)

    def prograd_backward_and_update(
        self, loss_a: Tensor, loss_b: Tensor, lambda_: float = 1, names: str | Sequence[str] | None = None
    ) -> None:
        """A step that lowers ``loss_a`` and does not raise ``loss_b``, as forks of Dassl for ProGrad have it.

        Of each parameter's gradient of ``loss_a``, ``lambda_`` times the component against the gradient of ``loss_b`` is
        taken away. A parameter that ``loss_a`` does not depend on stays; one that ``loss_b`` does not is not projected.

        Raises:
            NotFiniteError: a loss is infinite or NaN.
        """
        names = self.get_model_names(names)
        self.model_zero_grad(names)
        self.detect_anomaly(loss_b)
        loss_b.backward(retain_graph=True)
        learned = [parameter for name in names for parameter in self._models[name].parameters()]
        of_b = [None if parameter.grad is None else parameter.grad.clone() for parameter in learned]
        self.model_zero_grad(names)
        self.model_backward(loss_a)
        for parameter, g_b in zip(learned, of_b, strict=True):
            if parameter.grad is not None and g_b is not None:
                parameter.grad = project(parameter.grad, g_b, lambda_)
        self.model_update(names)

    # -- loop ---------------------------------------------------------------------------------------------

    def train(self, start_epoch: int, max_epoch: int) -> None:
        """Epochs ``start_epoch`` (or where a checkpoint left off) to ``max_epoch - 1``."""
        self.start_epoch, self.max_epoch = start_epoch, max_epoch
        self.before_train()
        for self.epoch in range(self.start_epoch, self.max_epoch):
            self.announce_epoch()
            self.before_epoch()
            self.run_epoch()
            self.after_epoch()
        self.after_train()

    def announce_epoch(self) -> None:
        """Tell the loaders, where there are any, which epoch begins."""

    def before_train(self) -> None: ...

    def after_train(self) -> None: ...

    def before_epoch(self) -> None: ...

    def after_epoch(self) -> None: ...

    def run_epoch(self) -> None:
        raise NotImplementedError

    def test(self, split: str | None = None) -> Any:
        raise NotImplementedError

    def parse_batch_train(self, batch: Any) -> Any:
        raise NotImplementedError

    def parse_batch_test(self, batch: Any) -> Any:
        raise NotImplementedError

    def forward_backward(self, batch: Any) -> Any:
        raise NotImplementedError

    def model_inference(self, input: Any) -> Any:
        raise NotImplementedError
