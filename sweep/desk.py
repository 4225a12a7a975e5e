"""The desk of a sweep: hands out units, takes back what became of them, and decides what is tried again."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sweep.jobs import Unit
from sweep.journal import DONE, FAILED, FOUND, LOST, START, STOPPED, Event, Journal
from sweep.outcome import Outcome

TRIES = 2  # of a run that ends in an error
LOSSES = 3  # of a job whose process goes away with it


class Screen(Protocol):
    """What a person sees of a sweep while it runs."""

    def started(self, slot: str, unit: Unit) -> None: ...

    def ended(self, slot: str, unit: Unit, outcome: Outcome) -> None: ...

    def failed(self, slot: str, unit: Unit, outcome: Outcome, again: bool) -> None: ...


@dataclass(frozen=True)
class Failure:
    """A unit that was given up."""

    unit: Unit
    outcome: Outcome


class Desk:
    """Units in order; one that failed comes again once, behind the others.

    Args:
        grid: hash of the sweep, for the journal.
        losses: how often each job took its process along before, in this sweep or one that was killed.
    """

    def __init__(
        self, units: Sequence[Unit], journal: Journal, screen: Screen, grid: str, losses: Mapping[str, int] | None = None
    ) -> None:
        self._waiting: deque[Unit] = deque()
        self._journal, self._screen, self._grid = journal, screen, grid
        self._tries: dict[Unit, int] = {}
        self._losses: dict[Unit, int] = {}
        self.done: list[Unit] = []
        self.given_up: list[Failure] = []
        for unit in units:
            self._losses[unit] = max((losses or {}).get(job.id, 0) for job in unit)
            if self._losses[unit] >= LOSSES:
                self._give_up(unit, Outcome(said=self._lost_often(unit, "")), "0")
            else:
                self._waiting.append(unit)

    @property
    def left(self) -> int:
        """Units that wait to be handed out."""
        return len(self._waiting)

    def take(self, slot: str, host: str = "", pid: int = 0) -> Unit | None:
        """The next unit for a slot; ``None`` where none waits (one that is under way may still come back)."""
        if not self._waiting:
            return None
        unit = self._waiting.popleft()
        self._tries[unit] = self._tries.get(unit, 0) + 1
        self._note(START, unit, slot, host=host, pid=pid)
        self._screen.started(slot, unit)
        return unit

    def ended(self, unit: Unit, outcome: Outcome, slot: str, host: str = "") -> None:
        """What became of a unit whose process is still there."""
        if not outcome.said:
            self._note(FOUND if outcome.done_before else DONE, unit, slot, outcome, host)
            self.done.append(unit)
            self._screen.ended(slot, unit, outcome)
            return
        self._note(FAILED, unit, slot, outcome, host)
        self._again(unit, outcome, slot, self._tries[unit] < TRIES)

    def lost(self, unit: Unit, slot: str, why: str, host: str = "") -> None:
        """The process that had a unit is gone."""
        self._losses[unit] += 1
        outcome = Outcome(said=why)
        self._note(LOST, unit, slot, outcome, host)
        if self._losses[unit] < LOSSES:
            self._again(unit, outcome, slot, True)
        else:
            self._again(unit, Outcome(said=self._lost_often(unit, why)), slot, False)

    def put_back(self, unit: Unit, slot: str = "0", host: str = "") -> None:
        """A unit that was stopped with the sweep, which is no fault of its own."""
        self._note(STOPPED, unit, slot, host=host)
        self._tries[unit] -= 1
        self._waiting.appendleft(unit)

    def _again(self, unit: Unit, outcome: Outcome, slot: str, again: bool) -> None:
        if again:
            self._waiting.append(unit)
            self._screen.failed(slot, unit, outcome, True)
        else:
            self._give_up(unit, outcome, slot)

    def _give_up(self, unit: Unit, outcome: Outcome, slot: str) -> None:
        self.given_up.append(Failure(unit, outcome))
        self._screen.failed(slot, unit, outcome, False)

    def _lost_often(self, unit: Unit, why: str) -> str:
        last = f", last: {why}" if why else ""
        return (
            f"its process went away {self._losses[unit]} times{last}; run it alone to see why (train.py), "
            "or give --again to try once more here"
        )

    def _note(self, kind: str, unit: Unit, slot: str, outcome: Outcome | None = None, host: str = "", pid: int = 0) -> None:
        about = {"host": host} if host else {}
        if pid:
            about["pid"] = pid
        told = outcome or Outcome()
        self._journal.add(
            *(
                Event(
                    kind,
                    job.id,
                    job.title,
                    self._grid,
                    self._tries.get(unit, 0),
                    slot=slot,
                    seconds=told.seconds / len(unit) if outcome else None,
                    peak_mb=told.peak_mb if outcome else None,
                    folders=told.folders.get(job.id, ()),
                    said=told.said,
                    **about,
                )
                for job in unit
            )
        )
