"""How long jobs take, from those that have run: of the same kind where there are some, else of the nearest kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean

from sweep.jobs import Job


def _kinds(title: str) -> list[str]:
    """From the narrowest kind to all: protocol, dataset, method and shots; without shots; without dataset; without both; …"""
    what = title.rsplit(", seed", 1)[0]
    named, _, shots = what.rpartition(",")
    task, _, rest = named.partition(" ")
    method = f"{task} any {rest.partition(' ')[2]}"
    return [what, named, f"{method},{shots}", method, task, ""]


class Rates:
    """Mean seconds by kind of job.

    Args:
        past: (title of a job, its seconds) of runs that ended well.
    """

    def __init__(self, past: Iterable[tuple[str, float]] = ()) -> None:
        self._seconds: dict[str, list[float]] = {}
        for title, seconds in past:
            self.add(title, seconds)

    def add(self, title: str, seconds: float) -> None:
        for kind in _kinds(title):
            self._seconds.setdefault(kind, []).append(seconds)

    @property
    def known(self) -> int:
        """Of how many runs the seconds are known."""
        return len(self._seconds.get("", ()))

    def seconds(self, job: Job) -> float | None:
        """What a job will take; ``None`` where nothing has run yet."""
        return next((mean(self._seconds[kind]) for kind in _kinds(job.title) if kind in self._seconds), None)

    def total(self, jobs: Sequence[Job], slots: int = 1) -> float | None:
        """Seconds of wall time for jobs shared by slots of the same speed."""
        each = [self.seconds(job) for job in jobs]
        return None if not jobs or None in each else sum(filter(None, each)) / slots


def clock(seconds: float) -> str:
    """``1:02:03``, or ``2 days 3:04:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f"{days} day{'s' * (days > 1)} " if days else "") + f"{hours}:{minutes:02}:{rest:02}"
