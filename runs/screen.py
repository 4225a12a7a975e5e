"""What a person sees of a run: what it is, a line for each epoch, warnings, the result. ``log.txt`` has everything."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from shutil import get_terminal_size
from typing import Any, TextIO

from yacs.config import CfgNode

from dassl.utils import Logger, MetricMeter, format_eta, setup_logger

LONG = 30.0  # seconds of an epoch from which on it has more than its one line
OFTEN = 0.1  # seconds between two lines that replace each other on a terminal
METERS = ("loss", "acc")  # of an epoch's line, where the trainer has them; the log has all
RESULTS = {"accuracy": "accuracy", "macro_f1": "macro F1"}  # of a run's last line, where its evaluator has them


class Console:
    """A text stream whose last line can be rewritten where it is a terminal; whatever else is written goes below that line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._shown = stream, 0

    def write(self, text: str) -> int:
        if text:
            self.end_line()
        return self._stream.write(text)

    def rewrite(self, line: str, keep: bool) -> None:
        """Show ``line`` in place of the last one of this kind; ``keep`` leaves it there. No terminal gets only what is kept."""
        if self._stream.isatty():
            line = line[: get_terminal_size().columns - 1]
            self._stream.write(f"\r{line.ljust(self._shown)}")
            self._shown = len(line)
            if keep:
                self.end_line()
        elif keep:
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def end_line(self) -> None:
        """What comes next begins a line."""
        if self._shown:
            self._stream.write("\n")
            self._shown = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Labelled:
    """A console with a label in front of each line that is written at once."""

    def __init__(self, console: Console, label: str) -> None:
        self._console, self._label = console, label

    def write(self, text: str) -> int:
        return self._console.write(self._label + text if text.strip() else text)

    def rewrite(self, line: str, keep: bool) -> None:
        self._console.rewrite(self._label + line, keep)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._console, name)


def open_log(folder: str | Path, console: Console | Labelled, verbose: bool) -> Logger:
    """A stream into the run's log.txt and to the console, which gets the log's warnings alone if not ``verbose``."""
    with redirect_stdout(console):  # type: ignore[type-var]
        setup_logger(str(folder))
        output = sys.stdout
    assert isinstance(output, Logger)
    output.level = logging.NOTSET if verbose else logging.WARNING
    return output


class EpochLines:
    """A line for each epoch, which takes the last one's place on a terminal; an epoch that takes long has more of them."""

    def __init__(self, console: Console | Labelled) -> None:
        self._console = console
        self._begun = self._told = time.monotonic()

    def show(self, trainer: Any, losses: MetricMeter) -> None:
        now, whole = time.monotonic(), trainer.batch_idx + 1 >= trainer.num_batches
        waited = now - self._told
        if not whole and waited < (OFTEN if self._console.isatty() else LONG):
            return
        self._told = now
        last = whole and trainer.epoch + 1 >= trainer.max_epoch
        keep = last or not self._console.isatty()
        self._console.rewrite(self._line(trainer, losses, whole, now - self._begun), keep)

    def _line(self, trainer: Any, losses: MetricMeter, whole: bool, seconds: float) -> str:
        words = [f"epoch [{trainer.epoch + 1}/{trainer.max_epoch}]"]
        if not whole:
            words.append(f"batch [{trainer.batch_idx + 1}/{trainer.num_batches}]")
        names = [name for name in METERS if name in losses.meters] or list(losses.meters)
        words += [f"{name} {losses.meters[name].avg:.4f}" for name in names]
        words.append(f"lr {trainer.get_current_lr():.2e}")
        left = trainer.pace.left(trainer.epoch, trainer.batch_idx, trainer.num_batches) if trainer.pace else None
        # after the first epoch alone, too little is known of the others, unless it was a long one
        if left and (trainer.epoch > trainer.start_epoch or seconds > LONG):
            words.append(f"eta {format_eta(left)}")
        return " ".join(words)


def title(cfg: CfgNode, seeds: Sequence[int]) -> str:
    """What is run, in a line."""
    own = cfg.DATASET
    split = {"base": ", base classes", "new": ", new classes"}.get(own.SUBSAMPLE_CLASSES, "")
    if own.get("TRAINED_ON"):
        split += f", trained on {own.TRAINED_ON}"
    shots = f", {own.NUM_SHOTS} shot{'s' * (own.NUM_SHOTS != 1)}" if own.NUM_SHOTS > 0 else ""
    fixed = min(seeds) >= 0
    named = f", seed{'s' * (len(seeds) > 1)} {' '.join(map(str, seeds))}" if fixed else ", no fixed seed"
    return f"{cfg.TRAINER.NAME} on {cfg.MODEL.BACKBONE.NAME}, {own.get('TITLE') or own.NAME}{split}{shots}{named}"


def result(found: Mapping[str, float] | None, folder: str | Path, seconds: float) -> str:
    """How a run came out, in a line."""
    found = found or {}
    names = [name for name in RESULTS if name in found] or list(found)
    said = ", ".join(f"{RESULTS.get(name, name)} {found[name]:.2f} %" for name in names) or "not tested"
    return f"{said} ({seconds:.1f} s): {folder}"
