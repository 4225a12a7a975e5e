"""What a person sees of a sweep while it runs: a live picture on a terminal, a line now and then elsewhere, or for each run."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweep.jobs import Job, Unit
from sweep.outcome import Outcome
from sweep.rates import Rates, clock

FEW = 40  # runs: up to so many have a line each
EVERY = 30.0  # seconds between two lines of more runs, where there is no terminal
KNOWN = 5  # runs that must have ended before anything is said of the time left


class LiveScreen:
    """Counts, rate, time left, and what each slot does. Failures are printed as they happen, and of few runs each one's end.

    Args:
        jobs: what is to be done now.
        before: how many were done already.
        rates: of earlier runs.
        slots: that work side by side.
    """

    def __init__(self, jobs: Sequence[Job], before: int, rates: Rates, slots: int = 1) -> None:
        self._left = {job.id: job for job in jobs}
        self._before, self._total, self._slots = before, before + len(jobs), slots
        self._each = len(jobs) <= FEW
        self._rates, self._begun, self._told = rates, time.monotonic(), 0.0
        self._running: dict[str, tuple[Unit, float]] = {}
        self._ended = self._failed = 0
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(get_renderable=self._picture, console=self._console, refresh_per_second=2, transient=True)
        self._terminal = self._console.is_terminal
        # runs print into their logs; these lines go where the sweep began
        self._out = sys.stderr

    def __enter__(self) -> LiveScreen:
        if self._terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            self._live.stop()
        self._say(self._summary())

    # -- what the desk tells ------------------------------------------------------------------------------

    def started(self, slot: str, unit: Unit) -> None:
        self._running[slot] = unit, time.monotonic()

    def ended(self, slot: str, unit: Unit, outcome: Outcome) -> None:
        self._running.pop(slot, None)
        for job in unit:
            self._left.pop(job.id, None)
            self._ended += 1
            if not outcome.done_before:
                self._rates.add(job.title, outcome.seconds / len(unit))
        now = time.monotonic()
        if self._each:
            how = "was done" if outcome.done_before else f"{outcome.accuracy or 'done'} in {outcome.seconds:.1f} s"
            more = f" and {len(unit) - 1} more seeds" * (len(unit) > 1)
            self._say(f"[{self._before + self._ended}/{self._total}] {unit[0].title}{more}: {how}")
        elif not self._terminal and now - self._told >= EVERY:
            self._told = now
            self._say(f"{self._summary()}; last: {unit[-1].title}, {outcome.seconds:.1f} s")

    def failed(self, slot: str, unit: Unit, outcome: Outcome, again: bool) -> None:
        self._running.pop(slot, None)
        what = "failed, comes again at the end" if again else "failed"
        self._say(f"{what}: {unit[0].title}: {outcome.said}")
        if outcome.tail and not again:
            self._say("\n".join(f"    {line}" for line in outcome.tail.splitlines()))
        if not again:
            for job in unit:
                self._left.pop(job.id, None)
                self._failed += 1

    # -- the picture --------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        if self._terminal:
            self._console.print(escape(text))
        else:
            print(text, file=self._out, flush=True)

    def _summary(self) -> str:
        minutes = (time.monotonic() - self._begun) / 60
        said = f"{self._before + self._ended} of {self._total} done"
        if self._failed:
            said += f", {self._failed} failed"
        if self._left:
            said += f", {len(self._left)} left"
        if self._ended and minutes:
            said += f"; {self._ended / minutes:.1f} runs a minute"
        left = self._time_left()
        return said + (f", {clock(left)} to go" if left else "")

    def _time_left(self) -> float | None:
        return self._rates.total(list(self._left.values()), self._slots) if self._rates.known >= KNOWN else None

    def _picture(self) -> Group:
        bar = ProgressBar(total=max(self._total, 1), completed=self._before + self._ended, width=60)
        table = Table.grid(padding=(0, 2))
        for slot, (unit, since) in sorted(self._running.items()):
            table.add_row(f"slot {escape(slot)}", escape(unit[0].title), clock(time.monotonic() - since))
        return Group(Text(self._summary()), bar, table)
