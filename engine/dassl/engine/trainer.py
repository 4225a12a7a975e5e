"""The loop of a training run, and the parts that plugin trainers override."""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm
from yacs.config import CfgNode

from dassl.data import DataManager
from dassl.evaluation import build_evaluator
from dassl.modeling import build_backbone, build_head
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    UserError,
    count_num_param,
    load_checkpoint,
    load_pretrained_weights,
    mkdir_if_missing,
    resume_from_checkpoint,
    rng_state,
    save_checkpoint,
    tolist_if_not,
)

log = logging.getLogger(__name__)


class SimpleNet(nn.Module):
    """Backbone, optional head, linear classifier: (B, 3, H, W) -> (B, num_classes), and the features on request."""

    def __init__(self, cfg: CfgNode, model_cfg: CfgNode, num_classes: int, **kwargs: Any) -> None:
        super().__init__()
        bb, head = model_cfg.BACKBONE, model_cfg.HEAD
        self.backbone = build_backbone(bb.NAME, verbose=cfg.VERBOSE, pretrained=bb.PRETRAINED, **kwargs)
        width = self.backbone.out_features
        self.head = None
        if head.NAME and head.HIDDEN_LAYERS:
            self.head = build_head(
                head.NAME,
                in_features=width,
                hidden_layers=head.HIDDEN_LAYERS,
                activation=head.ACTIVATION,
                bn=head.BN,
                dropout=head.DROPOUT,
                **kwargs,
            )
            width = self.head.out_features
        self.classifier = nn.Linear(width, num_classes) if num_classes > 0 else None
        self._fdim = width

    @property
    def fdim(self) -> int:
        return self._fdim

    def forward(self, x: Tensor, return_feature: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        features = self.backbone(x)
        if self.head is not None:
            features = self.head(features)
        if self.classifier is None:
            return features
        scores = self.classifier(features)
        return (scores, features) if return_feature else scores


class TrainerBase:
    """Registered models with their optimizers, checkpoints, and the epoch loop."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._optims: OrderedDict[str, Any] = OrderedDict()
        self._scheds: OrderedDict[str, Any] = OrderedDict()
        self._writer: Any = None

    def register_model(self, name: str = "model", model: Any = None, optim: Any = None, sched: Any = None) -> None:
        """Keep a model (with optimizer and schedule) under ``name``: it is saved, resumed and switched with the rest.

        Raises:
            RuntimeError: called before ``TrainerBase.__init__``, or the name is taken.
        """
        if "_models" not in self.__dict__:
            raise RuntimeError("register_model() was called before super().__init__()")
        if name in self._models:
            raise RuntimeError(f"found duplicate model name: {name}")
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
                "best_result": float(getattr(self, "best_result", float("-inf"))),
                "rng": rng_state(),
            }
            save_checkpoint(state, os.path.join(directory, name), is_best=is_best, model_name=model_name)

    def resume_model_if_exist(self, directory: str) -> int:
        """Load every registered model from ``directory`` if all are there; returns the epoch to start from."""
        names = self.get_model_names()
        paths = [os.path.join(directory, name, "checkpoint") for name in names]
        if not names or not all(os.path.exists(path) for path in paths):
            log.info("No checkpoint found, train from scratch")
            return 0
        log.info("Found checkpoint at %s (will resume training)", directory)
        epochs = {
            resume_from_checkpoint(os.path.join(directory, name), self._models[name], self._optims[name], self._scheds[name])
            for name in names
        }
        if len(epochs) > 1:
            raise UserError(f"the models in {directory} were saved after different epochs: {sorted(epochs)}")
        return epochs.pop()

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the weights of every registered model: of ``epoch``, else the best one kept, else the last.

        Raises:
            UserError: no checkpoint there.
        """
        if not directory:
            log.info("Note that load_model() is skipped as no pretrained model is given")
            return
        for name in self.get_model_names():
            path = self._checkpoint_path(os.path.join(directory, name), epoch)
            state = load_checkpoint(path)
            log.info("Load %s from %s (epoch = %s, val_result = %s)", name, path, state["epoch"], state.get("val_result"))
            self._models[name].load_state_dict(state["state_dict"])

    @staticmethod
    def _checkpoint_path(folder: str, epoch: int | None) -> str:
        if epoch is not None:
            return os.path.join(folder, f"model.pth.tar-{epoch}")
        best = os.path.join(folder, "model-best.pth.tar")
        if os.path.exists(best):
            return best
        pointer = os.path.join(folder, "checkpoint")
        if not os.path.exists(pointer):
            raise UserError(f'no model in "{folder}"')
        with open(pointer) as file:
            return os.path.join(folder, file.readline().strip())

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
        """Raise a :class:`UserError` when the loss is not finite."""
        if not torch.isfinite(loss).all():
            raise UserError("the loss is infinite or NaN: lower OPTIM.LR, or train in full precision")

    def init_writer(self, log_dir: str) -> None:
        """Open TensorBoard's event file in ``log_dir``; without the package, say so once and go on."""
        if self._writer is not None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            log.warning("TensorBoard is not installed: no scalars are written (pip install tensorboard)")
            return
        mkdir_if_missing(log_dir)
        self._writer = SummaryWriter(log_dir=log_dir)

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

    # -- loop ---------------------------------------------------------------------------------------------

    def train(self, start_epoch: int, max_epoch: int) -> None:
        """Epochs ``start_epoch`` (or where a checkpoint left off) to ``max_epoch - 1``."""
        self.start_epoch, self.max_epoch = start_epoch, max_epoch
        self.before_train()
        for self.epoch in range(self.start_epoch, self.max_epoch):
            self.before_epoch()
            self.run_epoch()
            self.after_epoch()
        self.after_train()

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


class SimpleTrainer(TrainerBase):
    """One network, one dataset: builds both from the config, tests at the end."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.check_cfg(cfg)
        self.device = torch.device("cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")
        self.start_epoch = self.epoch = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)
        self.best_result = float("-inf")
        self.last_results: OrderedDict[str, float] | None = None

    def check_cfg(self, cfg: CfgNode) -> None:
        """Raise for settings that this trainer cannot use (override)."""

    def build_data_loader(self) -> None:
        """Set ``dm``, the loaders, ``num_classes``, ``num_source_domains`` and ``lab2cname``."""
        dm = DataManager(self.cfg)
        self.train_loader_x, self.train_loader_u = dm.train_loader_x, dm.train_loader_u
        self.val_loader, self.test_loader = dm.val_loader, dm.test_loader
        self.num_classes, self.num_source_domains = dm.num_classes, dm.num_source_domains
        self.lab2cname, self.dm = dm.lab2cname, dm

    def build_model(self) -> None:
        """A :class:`SimpleNet` with its optimizer and schedule (override for anything else)."""
        cfg = self.cfg
        self.model = SimpleNet(cfg, cfg.MODEL, self.num_classes)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        log.info("# params: %s", f"{count_num_param(self.model):,}")
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)

    def train(self) -> None:
        super().train(self.start_epoch, self.max_epoch)

    def before_train(self) -> None:
        self.start_epoch = self.resume_model_if_exist(self.cfg.RESUME or self.cfg.OUTPUT_DIR)
        if self.start_epoch:
            self._restore_best(self.cfg.RESUME or self.cfg.OUTPUT_DIR)
        self.init_writer(os.path.join(self.output_dir, "tensorboard"))
        self.time_start = time.time()

    def _restore_best(self, directory: str) -> None:
        name = self.get_model_names()[0]
        state = load_checkpoint(self._checkpoint_path_last(os.path.join(directory, name)))
        self.best_result = float(state.get("best_result", float("-inf")))

    @staticmethod
    def _checkpoint_path_last(folder: str) -> str:
        with open(os.path.join(folder, "checkpoint")) as file:
            return os.path.join(folder, file.readline().strip())

    def after_train(self) -> None:
        log.info("Finish training")
        if not self.cfg.TEST.NO_TEST:
            if self.cfg.TEST.FINAL_MODEL == "best_val":
                log.info("Deploy the model with the best val performance")
                self.load_model(self.output_dir)
            else:
                log.info("Deploy the last-epoch model")
            self.test()
        log.info("Elapsed: %s", timedelta(seconds=round(time.time() - self.time_start)))
        self.close_writer()

    def after_epoch(self) -> None:
        last = (self.epoch + 1) == self.max_epoch
        frequency = self.cfg.TRAIN.CHECKPOINT_FREQ
        due = frequency > 0 and (self.epoch + 1) % frequency == 0
        if not self.cfg.TEST.NO_TEST and self.cfg.TEST.FINAL_MODEL == "best_val":
            result = self.test(split="val")
            if result > self.best_result:
                self.best_result = result
                self.save_model(self.epoch, self.output_dir, val_result=result, model_name="model-best.pth.tar")
        if due or last:
            self.save_model(self.epoch, self.output_dir)

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate on ``split`` ("val" or "test"; TEST.SPLIT by default). Returns the first metric (accuracy in %)."""
        self.set_model_mode("eval")
        self.evaluator.reset()
        split = split or self.cfg.TEST.SPLIT
        if split == "val" and self.val_loader is not None:
            loader = self.val_loader
        else:
            split, loader = "test", self.test_loader
        log.info("Evaluate on the *%s* set", split)
        for batch in tqdm(loader, desc=f"test on {split}", disable=None, leave=False):
            images, labels = self.parse_batch_test(batch)
            self.evaluator.process(self.model_inference(images), labels)
        results = self.evaluator.evaluate()
        self.last_results = results
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        return next(iter(results.values()))

    def model_inference(self, input: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C) scores (override when the model takes more)."""
        return self.model(input)

    def parse_batch_test(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        return batch["img"].to(self.device), batch["label"].to(self.device)


def set_loader_epoch(loader: DataLoader[Any], epoch: int) -> None:
    """Tell a loader's sampler and dataset which epoch begins."""
    for part in (loader.sampler, loader.dataset):
        if hasattr(part, "set_epoch"):
            part.set_epoch(epoch)
