"""How long a training still takes, from the steps that it has done."""

from __future__ import annotations

from dassl.utils import AverageMeter, format_eta

UNKNOWN = "-:--:--"


class Pace:
    """Seconds that are left.

    Not all steps cost the same: the first of some epochs waits for what several epochs need (views that are encoded ahead), and
    the very first for what happens once (libraries that set themselves up, workers that start). So such steps are reckoned
    apart, and nothing is said before a plain step has been seen.

    Args:
        first_epoch: with which this process starts, from 0.
        max_epoch: where it ends, not counted.
        period: epochs from one such step to the next: 1 where each epoch begins with one.
    """

    def __init__(self, first_epoch: int, max_epoch: int, period: int = 1) -> None:
        self.first_epoch, self.max_epoch, self.period = first_epoch, max_epoch, max(1, period)
        self._plain, self._heavy, self._between = AverageMeter(), AverageMeter(), AverageMeter()
        self._very_first: float | None = None

    def _is_heavy(self, epoch: int) -> bool:
        return (epoch - self.first_epoch) % self.period == 0

    def step(self, epoch: int, batch: int, seconds: float) -> None:
        """Take in step ``batch`` (from 0) of ``epoch`` (from 0)."""
        if batch or not self._is_heavy(epoch):
            self._plain.update(seconds)
        elif self._very_first is None:
            self._very_first = seconds
        else:
            self._heavy.update(seconds)

    def pause(self, seconds: float) -> None:
        """Take in what passed between two epochs (validation, a checkpoint)."""
        self._between.update(seconds)

    def left(self, epoch: int, batch: int, num_batches: int) -> float | None:
        """Seconds after step ``batch`` of ``epoch``; ``None`` while they cannot be known.

        Args:
            num_batches: steps of an epoch.
        """
        coming = range(epoch + 1, self.max_epoch)
        heavy = sum(map(self._is_heavy, coming))
        plain = num_batches - 1 - batch + len(coming) * num_batches - heavy
        if (plain and not self._plain.count) or (heavy and not plain and not self._heavy.count):
            return None
        first = self._plain.avg if self.period == 1 else self._very_first or 0.0  # what only the very first waited for, or not
        each = self._heavy.avg if self._heavy.count else first
        return plain * self._plain.avg + heavy * each + len(coming) * self._between.avg

    def eta(self, epoch: int, batch: int, num_batches: int) -> str:
        """:meth:`left` as ``h:mm:ss``, or :data:`UNKNOWN`."""
        seconds = self.left(epoch, batch, num_batches)
        return UNKNOWN if seconds is None else format_eta(seconds)
