"""Going on from a folder's checkpoints: the last that can be read, into model, optimiser, schedule and random sources."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from dassl.utils import inert
from dassl.utils.checkpoints import DAMAGE, load_checkpoint, set_rng_state
from dassl.utils.errors import MisfitError, MissingFileError, UserError

log = logging.getLogger(__name__)


def last_checkpoint(fdir: str) -> str:
    """Path of the checkpoint that ``fdir/checkpoint`` names.

    Raises:
        MissingFileError: nothing was saved there.
    """
    pointer = os.path.join(fdir, "checkpoint")
    if not os.path.exists(pointer):
        raise MissingFileError(f'no model was saved in "{fdir}"')
    with open(pointer, errors="replace") as file:
        name = file.readline().strip()
    if not name or os.path.basename(name) != name:
        raise UserError(f"{pointer} names no checkpoint beside it: write the name of one into it, or remove it to train anew")
    return os.path.join(fdir, name)


def last_good(fdir: str) -> tuple[str, dict[str, Any]]:
    """The last checkpoint of ``fdir`` that can be read, and what it holds; the log names those that cannot.

    Raises:
        MissingFileError: nothing was saved there.
        UserError: none can be read.
    """
    epochs = (name.rpartition("-")[2] for name in os.listdir(fdir) if name.startswith("model.pth.tar-"))
    newest_first = sorted(filter(str.isdigit, epochs), key=int, reverse=True)
    kept = [os.path.join(fdir, f"model.pth.tar-{epoch}") for epoch in newest_first]
    faults: list[UserError] = []
    try:
        last = last_checkpoint(fdir)
        kept = [last, *(path for path in kept if path != last)]
    except MissingFileError:
        raise
    except UserError as error:
        faults.append(error)
    for path in kept:
        try:
            state = load_checkpoint(path)
            check_state(state, path)
        except UserError as error:
            faults.append(error)
            continue
        for fault in faults:
            log.warning("%s: going on from an earlier epoch, %s", fault, path)
        return path, state
    raise UserError(f"{faults[0]}; no other epoch can be read: call again with --restart, or remove {fdir}, to train anew")


def check_state(state: Any, fpath: str) -> None:
    """
    Raises:
        UserError: not what :func:`save_checkpoint` writes.
    """
    if not isinstance(state, dict):
        raise UserError(f"{fpath} holds a {type(state).__name__}, not a checkpoint's dictionary")
    weights, epoch = state.get("state_dict"), state.get("epoch")
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise UserError(f"{fpath} has no tensors by name under state_dict")
    if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
        raise UserError(f"{fpath}: its epoch is {epoch!r}, must be a number of finished epochs")


def resume_from_checkpoint(fdir: str, model: nn.Module, optimizer: Any = None, scheduler: Any = None) -> int:
    """Load the last checkpoint of ``fdir`` as :func:`restore` does; returns the number of finished epochs."""
    return int(restore(fdir, model, optimizer, scheduler)["epoch"])


def restore(fdir: str, model: nn.Module, optimizer: Any = None, scheduler: Any = None) -> dict[str, Any]:
    """Load the last checkpoint of ``fdir`` into model, optimizer, scheduler and the random sources; returns it.

    A schedule that upstream wrote, or that holds pickled objects, is not loaded: this run's own is stepped to the epoch.

    Raises:
        MisfitError: the tensors are those of another model.
        UserError: no checkpoint can be read, or optimizer, schedule or random state do not fit.
    """
    fpath, state = last_good(fdir)
    log.info('Loading checkpoint from "%s"', fpath)
    try:
        model.load_state_dict(state["state_dict"])
    except RuntimeError as error:
        raise MisfitError(f"{fpath} cannot be resumed from: {' '.join(str(error).split())}") from error
    log.info("Loaded model weights")
    schedule = state.get("scheduler") if scheduler is not None else None
    rebuilt = schedule is not None and not understands(scheduler, schedule)
    if rebuilt:  # before the optimizer has its rates of then: some schedules go on from those
        replay(scheduler, int(state["epoch"]))
        log.info("Rebuilt scheduler: %s epochs of this run's own", state["epoch"])
    if optimizer is not None and state.get("optimizer") is not None:
        for where, what in inert.unread(state["optimizer"], "optimizer"):
            raise UserError(f"{fpath} cannot be resumed from: {where} is a pickled {what}, which is not read")
        with _told(fpath, "the optimizer's state"):
            optimizer.load_state_dict(state["optimizer"])
        log.info("Loaded optimizer")
    if schedule is not None and not rebuilt:
        with _told(fpath, "the schedule's state"):
            scheduler.load_state_dict(schedule)
        log.info("Loaded scheduler")
    if state.get("rng") is not None:
        with _told(fpath, "the state of the random sources"):
            set_rng_state(state["rng"])
    log.info("Previous epoch: %s", state["epoch"])
    return state


@contextmanager
def _told(fpath: str, what: str) -> Iterator[None]:
    """Whatever the loading of a state raises, as one line."""
    try:
        yield
    except (*DAMAGE, SystemError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise UserError(f"{fpath} cannot be resumed from: {what} is none of this run's ({reason})") from error


def understands(scheduler: Any, state: Any) -> bool:
    """Whether ``scheduler.load_state_dict(state)`` makes sense: not where objects are missing, or keys of its own."""
    own = getattr(scheduler, "understands", None)
    return own(state) if own is not None else not any(inert.unread(state))


def replay(scheduler: Any, epochs: int) -> None:
    """Step a new schedule to where ``epochs`` epochs had brought it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step", category=UserWarning)
        for _ in range(epochs):
            scheduler.step()
