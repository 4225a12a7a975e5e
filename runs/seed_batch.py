"""Seeds of one setting, trained in lockstep: one pass of the text tower encodes the class prompts of all of them.

One small prompt cannot fill a GPU. Here each step stacks the S seeds' prompts along the class axis, (S * C, L, W), and goes
through the text tower once, forward and backward. All else is each seed's own: its few shots, batches, context,
optimiser, checkpoints and log. With the text tower's dropout off a seed ends as its lone run does, up to rounding; with
dropout on its masks are others, as one random stream serves all S * C prompts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from operator import methodcaller
from typing import Any, TextIO

import torch
from torch import Tensor

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import AverageMeter, MetricMeter, UserError
from runs.progress import mark
from trainers.base import VLTrainer
from trainers.coop import CoOp
from trainers.frozen_towers import reproducible_gradients

OWN_STEP = ("backward", "forward_backward", "update", "losses", "total", "descend", "end_step")  # who has one is not stacked


def is_stackable(cls: type) -> bool:
    """Whether a method's seeds can be trained together.

    Its class features must be those of ``class_prompts()`` alone, the images' features frozen, and the step along the
    gradient of the summed terms (ProGrad takes two gradients through the text tower).
    """
    return (
        isinstance(cls, type)
        and issubclass(cls, CoOp)
        and cls.encode_classes is CoOp.encode_classes
        and all(getattr(cls, name) is getattr(VLTrainer, name) for name in OWN_STEP)
        and cls.frozen_images
        and not cls.text_sees_image
    )


def stackable_methods() -> list[str]:
    """Names of the registered methods whose seeds can be trained together."""
    return [name for name in TRAINER_REGISTRY.registered_names() if is_stackable(TRAINER_REGISTRY.get(name))]


def cannot(method: str) -> str:
    """Why ``method`` is refused, in a line."""
    can = ", ".join(stackable_methods())
    return f"{method}'s seeds cannot be trained together (those of {can} can): leave out --seeds-together"


@dataclass
class Page:
    """What one seed's log says of the epoch at hand; as in a lone run, a step is read only when a line is due."""

    losses: MetricMeter = field(default_factory=MetricMeter)
    batch_time: AverageMeter = field(default_factory=AverageMeter)
    data_time: AverageMeter = field(default_factory=AverageMeter)
    waiting: list[tuple[int, dict[str, Any] | None, float]] = field(default_factory=list)


class SeedBatch:
    """S built trainers that differ in their seed (and what follows from it) alone.

    Args:
        trainers: of a method that :func:`is_stackable`, each built right after ``set_random_seed`` of its own seed.
        outputs: where each one's log goes; standard output by default.

    Raises:
        UserError: they cannot be trained together: another method, backbone object, classes, number of batches.
    """

    def __init__(self, trainers: Sequence[CoOp], outputs: Sequence[TextIO] = ()) -> None:
        self.trainers = list(trainers)
        self.outputs = list(outputs) or [sys.stdout] * len(self.trainers)
        self.first = self.trainers[0]
        for trainer in self.trainers:
            self.check(trainer)
        self.tokens = self.first.prompt_learner.token_batch().repeat(len(self.trainers))

    def check(self, trainer: CoOp) -> None:
        """Raise where ``trainer`` does not fit the first one."""
        first = self.first
        pair = f"seeds {first.cfg.SEED} and {trainer.cfg.SEED}"
        if not is_stackable(type(trainer)):
            raise UserError(cannot(trainer.cfg.TRAINER.NAME))
        if type(trainer) is not type(first) or trainer.backbone is not first.backbone:
            raise UserError("seeds trained together must be of one method on one backbone")
        if not torch.equal(trainer.prompt_learner.tokens.ids, first.prompt_learner.tokens.ids):
            raise UserError(f"{pair} have different classes: they cannot be trained together")
        ours, theirs = len(first.train_loader_x), len(trainer.train_loader_x)
        if ours != theirs or first.max_epoch != trainer.max_epoch:
            counts = f"{first.max_epoch} x {ours} and {trainer.max_epoch} x {theirs}"
            raise UserError(f"{pair} have {counts} epochs x batches: they cannot be trained together")

    def each(self, call: Callable[..., Any], *columns: Iterable[Any]) -> list[Any]:
        """``call(trainer, *row)`` for each trainer and its row of ``columns``; what it prints goes to the seed's own log."""
        results = []
        for trainer, output, *row in zip(self.trainers, self.outputs, *columns, strict=True):
            try:
                with redirect_stdout(output):
                    results.append(call(trainer, *row))
            except UserError as error:
                raise UserError(f"seed {trainer.cfg.SEED}: {error}") from error
        return results

    def train(self) -> None:
        """What ``trainer.train()`` does, for all: resume, epochs, checkpoints, test.

        Raises:
            UserError: the seeds' checkpoints are of different epochs, or a loss was not finite.
        """
        self.each(methodcaller("before_train"))
        starts = {trainer.start_epoch for trainer in self.trainers}
        if len(starts) > 1:
            raise UserError(f"the seeds go on from different epochs ({sorted(starts)}): they cannot be trained together")
        epochs = range(starts.pop(), self.first.max_epoch)
        if epochs:
            seeds = [trainer.cfg.SEED for trainer in self.trainers]
            self.each(lambda trainer: mark(trainer.output_dir, seeds))
        for epoch in epochs:
            self.each(partial(begin, epoch=epoch))
            self.run_epoch()
            self.each(methodcaller("after_epoch"))
        self.each(methodcaller("after_train"))

    def run_epoch(self) -> None:
        """The engine's loop over an epoch's batches, with a batch of each seed in every step."""
        pages = [Page() for _ in self.trainers]
        loaders = self.each(lambda trainer: iter(trainer.train_loader_x))
        end = time.time()
        for index in range(self.first.num_batches):
            batches = self.each(lambda trainer, loader: next(loader), loaders)
            data_seconds = time.time() - end
            for trainer in self.trainers:
                trainer.batch_idx = index
            summaries = self.step(batches)
            took = {"seconds": time.time() - end, "data_seconds": data_seconds}
            self.each(partial(note, **took), pages, summaries)
            end = time.time()
        self.each(turn, pages)

    def step(self, batches: Sequence[dict[str, Any]]) -> list[dict[str, Tensor]]:
        """``forward_backward`` of every seed on its batch, with one pass of the text tower for all, there and back."""
        self.first.backbone.announce_step()
        with self.first.precision():
            prompts = torch.cat([trainer.class_prompts()[0] for trainer in self.trainers])  # (S C, L, W)
            features = self.first.backbone.encode_embeddings(prompts, self.tokens)  # (S C, D)
        for trainer, own in zip(self.trainers, features.chunk(len(self.trainers)), strict=True):
            trainer.encoded_classes = own
        try:
            found = self.each(lambda trainer, batch: trainer.losses(batch), batches)
        finally:
            for trainer in self.trainers:
                trainer.encoded_classes = None
        losses = self.each(lambda trainer, one: trainer.total(one[0]), found)
        self.each(lambda trainer: trainer.optim.zero_grad())
        # No seed's loss depends on another's context, so one pass back gives each its own gradient, by its own factor
        with reproducible_gradients(self.first.backbone):
            torch.autograd.backward(self.each(lambda trainer, loss: trainer.scaled(loss), losses))
        self.each(lambda trainer: trainer.descend())
        return self.each(lambda trainer, loss, one: trainer.end_step(loss, *one), losses, found)


def begin(trainer: CoOp, epoch: int) -> None:
    """What a lone run does before the first step of ``epoch``."""
    trainer.epoch = epoch
    trainer.announce_epoch()
    trainer.before_epoch()
    trainer.num_batches = len(trainer.train_loader_x)
    trainer.set_model_mode("train")
    trainer.begin_steps()


def turn(trainer: CoOp, page: Page) -> None:
    """What a lone run does after the last step of an epoch."""
    trainer.read(page.waiting, page.losses)
    trainer.end_steps(page.losses)


def note(trainer: CoOp, page: Page, summary: dict[str, Tensor], seconds: float, data_seconds: float) -> None:
    """Take in a step that took all seeds together ``seconds``, of which ``data_seconds`` for their batches."""
    page.data_time.update(data_seconds)
    page.batch_time.update(seconds)
    trainer.pace.step(trainer.epoch, trainer.batch_idx, seconds)
    step = trainer.epoch * trainer.num_batches + trainer.batch_idx
    page.waiting.append((step, summary, trainer.get_current_lr()))
    if trainer.is_reported():
        trainer.read(page.waiting, page.losses)
        trainer.report(page.losses, (page.batch_time, page.data_time))
