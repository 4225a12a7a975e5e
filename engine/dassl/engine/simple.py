"""A trainer that builds network and data from the config."""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm
from yacs.config import CfgNode

from dassl.data import DataManager
from dassl.data.loader import set_loader_epoch
from dassl.engine.base import TrainerBase
from dassl.evaluation import build_evaluator
from dassl.modeling import build_backbone, build_head
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import MissingFileError, count_num_param, load_pretrained_weights
from dassl.utils.trackers import DEFAULT as TENSORBOARD
from dassl.utils.trackers import open_tracker, require_tracker, settings_of, title_of

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
                verbose=cfg.VERBOSE,
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


class SimpleTrainer(TrainerBase):
    """One network, one dataset: builds both from the config, tests at the end."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        require_tracker(cfg.get("LOGGER", TENSORBOARD))
        self.check_cfg(cfg)
        self.device = torch.device("cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")
        self.start_epoch = self.epoch = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)
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
        log.info("Building model")
        self.model = SimpleNet(cfg, cfg.MODEL, self.num_classes)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        log.info("# params: %s", f"{count_num_param(self.model):,}")
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)
        devices = torch.cuda.device_count() if self.device.type == "cuda" else 0
        if devices > 1:
            log.info("Detected %d GPUs (use nn.DataParallel)", devices)
            self.model = nn.DataParallel(self.model)

    def train(self) -> None:
        super().train(self.start_epoch, self.max_epoch)

    def announce_epoch(self) -> None:
        for name in ("train_loader_x", "train_loader_u"):
            set_loader_epoch(getattr(self, name, None), self.epoch)

    def before_train(self) -> None:
        """Go on from the checkpoint in RESUME or OUTPUT_DIR if there is one; open the tracker.

        Raises:
            MissingFileError: RESUME names a folder without checkpoints.
        """
        wanted = [os.path.join(self.cfg.RESUME, name) for name in self.get_model_names()] if self.cfg.RESUME else []
        for folder in wanted:
            if not os.path.isfile(os.path.join(folder, "checkpoint")):
                raise MissingFileError(f"--resume {self.cfg.RESUME}: no checkpoint in {folder}")
        self.start_epoch = self.resume_model_if_exist(self.cfg.RESUME or self.cfg.OUTPUT_DIR)
        self.init_writer(os.path.join(self.output_dir, "tensorboard"))
        self.time_start = time.time()

    def init_writer(self, log_dir: str) -> None:
        """Open what LOGGER names: TensorBoard's file in ``log_dir``, or another tracker, with the run's settings."""
        name = self.cfg.get("LOGGER", TENSORBOARD)
        if name == TENSORBOARD:
            super().init_writer(log_dir)
        elif self._writer is None:
            section = getattr(self, "section", self.cfg.TRAINER.NAME.upper())
            self._writer = open_tracker(name, self.output_dir, settings_of(self.cfg, section), title_of(self.cfg))

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
