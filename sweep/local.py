"""The engine ``local``: one process, job after job, its backbone kept from one to the next."""

from __future__ import annotations

from collections.abc import Callable

from sweep.desk import Desk
from sweep.jobs import Unit
from sweep.outcome import Outcome, Place
from sweep.work import perform

Perform = Callable[[Unit, Place], Outcome]


def run_local(desk: Desk, place: Place, do: Perform = perform) -> None:
    """Do all that waits at ``desk`` in this process."""
    while (unit := desk.take("0")) is not None:
        try:
            outcome = do(unit, place)
        except KeyboardInterrupt:  # the person's doing, not the job's
            desk.put_back(unit)
            raise
        desk.ended(unit, outcome, "0")
