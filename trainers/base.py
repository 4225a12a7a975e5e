"""What all methods share: frozen backbone in, learned tensors out, loss terms by name."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from backbones import VisionLanguageBackbone, build_backbone
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import UserError, load_checkpoint

log = logging.getLogger(__name__)

PRECISIONS = ("fp32", "amp", "fp16", "bf16")
LEARNER = "prompt_learner"


def unit(features: Tensor) -> Tensor:
    """L2-normalised along the last dimension."""
    return F.normalize(features, dim=-1)


class VLTrainer(TrainerX):
    """Base of every method. A method file gives ``section``, ``defaults``, ``build_learner`` and two arithmetic parts:

    * ``loss_terms(images, labels) -> (terms, logits)``: the weighted loss terms by name; their sum is minimised.
    * ``model_inference(images) -> logits`` (B, C).

    Only the learner's own parameters are registered with Dassl, so a checkpoint is kilobytes.
    """

    section: str  # the method's part of the config: cfg.TRAINER.<section>
    learns: bool = True
    writes_visual_prompts: bool = False

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
        if not cfg.MODEL.BACKBONE.PRETRAINED:
            said.append("the backbone's weights are random (MODEL.BACKBONE.PRETRAINED False)")
        return said

    @property
    def own(self) -> CfgNode:
        """This method's section of the config."""
        return self.cfg.TRAINER[self.section]

    def check_cfg(self, cfg: CfgNode) -> None:
        precision = cfg.TRAINER[self.section].get("PREC", "fp32")
        if precision not in PRECISIONS:
            raise UserError(f'TRAINER.{self.section}.PREC is "{precision}", must be one of {", ".join(PRECISIONS)}')

    # -- building -----------------------------------------------------------------------------------------

    def build_data_loader(self) -> None:
        """Load the backbone before the data: it knows the image size, and a missing one is told at once."""
        bb = self.cfg.MODEL.BACKBONE
        self.backbone: VisionLanguageBackbone = build_backbone(bb.NAME, bb.PATH, bb.PRETRAINED, self.device)
        size = self.backbone.image_size
        if tuple(self.cfg.INPUT.SIZE) != (size, size):
            log.info("INPUT.SIZE is %s, as %s takes it", (size, size), self.backbone.name)
            self.cfg.defrost()
            self.cfg.INPUT.SIZE = (size, size)
            self.cfg.freeze()
        super().build_data_loader()

    def build_model(self) -> None:
        dataset = self.dm.dataset
        self.classnames: list[str] = list(dataset.classnames)
        self.logit_scale = self.backbone.logit_scale.exp()
        self.backbone.set_text_dropout(False)
        self._text_features: Tensor | None = None
        learner = self.build_learner(self.classnames)
        self.learned_names = [name for name, p in learner.named_parameters() if p.requires_grad]
        self.learned_count = sum(p.numel() for p in learner.parameters() if p.requires_grad)
        if not self.learns:
            return
        setattr(self, LEARNER, learner.to(self.device))
        self.optim = build_optimizer(learner, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model(LEARNER, learner, self.optim, self.sched)
        precision = self.own.PREC
        scaled = precision in ("amp", "fp16") and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler("cuda") if scaled else None

    def build_learner(self, classnames: Sequence[str]) -> nn.Module:
        """The module that holds everything this method learns."""
        raise NotImplementedError

    # -- training -----------------------------------------------------------------------------------------

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Weighted loss terms by name, and logits (B, C)."""
        raise NotImplementedError

    def precision(self) -> AbstractContextManager[Any]:
        """The autocast of TRAINER.<section>.PREC ("amp" and "fp16" mean float16 on a GPU, bfloat16 on a CPU)."""
        chosen = self.own.get("PREC", "fp32")
        if chosen == "fp32":
            return nullcontext()
        half = torch.float16 if chosen != "bf16" and self.device.type == "cuda" else torch.bfloat16
        return torch.autocast(self.device.type, dtype=half)

    def set_model_mode(self, mode: str = "train", names: Any = None) -> None:
        super().set_model_mode(mode, names)
        training = mode == "train"
        self.backbone.set_text_dropout(training and bool(self.own.get("TEXT_DROPOUT", False)))
        self._text_features = None

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, float]:
        images, labels = self.parse_batch_train(batch)
        with self.precision():
            terms, logits = self.loss_terms(images, labels)
            loss = torch.stack([term.float() for term in terms.values()]).sum()
        self.update(loss)
        summary = {"loss": loss.item(), "acc": compute_accuracy(logits, labels)[0].item()}
        if len(terms) > 1:
            summary |= {f"loss_{name}": term.item() for name, term in terms.items()}
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return summary

    def update(self, loss: Tensor) -> None:
        """One optimiser step; a loss that is not finite ends the run with a readable error."""
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss is {loss.item()} in epoch {self.epoch + 1}: lower OPTIM.LR, "
                f"or train with TRAINER.{self.section}.PREC fp32 or bf16"
            )
        if self.scaler is None:
            self.model_backward_and_update(loss)
            return
        self.optim.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optim)
        self.scaler.update()

    def after_epoch(self) -> None:
        """Keep one checkpoint of the last whole epoch, so that a killed run goes on where it was."""
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

    def text_features(self) -> Tensor:
        """(C, D) normalised class features for testing; kept until the mode changes."""
        if self._text_features is None:
            self._text_features = unit(self.encode_classes())
        return self._text_features

    def encode_classes(self) -> Tensor:
        """(C, D) class features of the learned prompts, not normalised."""
        raise NotImplementedError

    def image_features(self, images: Tensor) -> Tensor:
        """(B, D) normalised features of the frozen image tower, without gradients."""
        with torch.no_grad():
            return unit(self.backbone.encode_image(images))

    @torch.no_grad()
    def model_inference(self, images: Tensor) -> Tensor:
        with self.precision():
            return self.logit_scale * self.image_features(images) @ self.text_features().T

    # -- checkpoints --------------------------------------------------------------------------------------

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load what was learned from ``directory``; without ``epoch`` the last one, and the log says which.

        Released full-model checkpoints are understood too: only their learned tensors are taken.

        Raises:
            UserError: no checkpoint there, or one whose tensors do not fit this run's classes.
        """
        if not self.learns:
            log.info("%s has nothing to load: it learns nothing", type(self).__name__)
            return
        path = self._find_checkpoint(Path(directory) / LEARNER, epoch)
        state = load_checkpoint(str(path))
        learner = getattr(self, LEARNER)
        wanted = dict(learner.named_parameters())
        found = {}
        for key, value in state["state_dict"].items():
            name = key.removeprefix("module.").removeprefix(f"{LEARNER}.")
            if name in wanted:
                found[name] = value
        missing = sorted(set(wanted) - set(found))
        if missing:
            raise UserError(f"{path} lacks {', '.join(missing)}: it was not written by {type(self).__name__}")
        for name, value in found.items():
            if value.shape != wanted[name].shape:
                raise UserError(
                    f"{path}: {name} has shape {tuple(value.shape)}, this run needs {tuple(wanted[name].shape)} "
                    "(another backbone, N_CTX or set of classes; a class-specific context fits no new classes)"
                )
        learner.load_state_dict(found, strict=False)
        self._text_features = None
        log.info("loaded %s (epoch %s)", path, state.get("epoch"))

    @staticmethod
    def _find_checkpoint(folder: Path, epoch: int | None) -> Path:
        if epoch is not None:
            path = folder / f"model.pth.tar-{epoch}"
            if path.is_file():
                return path
        saved = {int(p.name.rsplit("-", 1)[1]): p for p in folder.glob("model.pth.tar-*") if p.name[-1].isdigit()}
        if epoch is None and saved:
            return saved[max(saved)]
        have = ", ".join(map(str, sorted(saved))) or "none"
        raise UserError(f"no checkpoint{f' of epoch {epoch}' if epoch else ''} in {folder} (epochs there: {have})")
