"""How far the sweep in a folder has come, read from its journal and the results files while it runs."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from sweep.done import done_jobs
from sweep.jobs import Job
from sweep.journal import FAILED, LOST, START, Event, read_only
from sweep.plan import described
from sweep.rates import Rates, clock

RECENT = 600.0  # seconds over which the rate is taken
SHOWN = 20  # lines of one kind


def show(output: Path) -> int:
    """Print counts, what runs now, what failed, rate and time left. Exit status: 0 all done, 2 not, or no sweep there."""
    journal = read_only(output)
    latest = journal.latest_grid() if journal else None
    if journal is None or latest is None:
        print(f"error: no sweep in {output}: python -m sweep run GRID --output {output} begins one", file=sys.stderr)
        return 2
    _, names, jobs = latest
    done = done_jobs(output, jobs, journal.folders())
    left = [job for job in jobs if job.id not in done]
    print(f"{names} in {output}")
    print("\n".join(described(jobs, done, left)))
    events = journal.last_events()
    _print_slots({job.id: events[job.id] for job in left if job.id in events}, left)
    now = time.time()
    recent = journal.recent(since=now - RECENT)
    if left and len(recent) > 1:
        rate = (len(recent) - 1) / max(recent[-1] - recent[0], 1e-9) * 60
        rest = Rates(journal.seconds()).total(left)
        print(f"{rate:.1f} runs a minute over the last {clock(min(RECENT, now - recent[0]))}" + (
            f"; the rest is {clock(rest)} of work for one slot" if rest else ""
        ))  # fmt: skip
    return 0 if not left else 2


def _print_slots(events: Mapping[str, Event], left: list[Job]) -> None:
    titles = {job.id: job.title for job in left}
    for kind, what in ((START, "running"), (FAILED, "failed"), (LOST, "lost its process")):
        own = [event for event in events.values() if event.kind == kind]
        for event in own[:SHOWN]:
            since = clock(time.time() - event.at)
            if kind == START:
                gone = event.host == socket.gethostname() and not _alive(event.pid)
                state = "was killed in" if gone else f"running for {since}"
                print(f"  slot {event.slot} on {event.host}: {state}: {titles[event.job]}")
            else:
                print(f"  {what}, attempt {event.attempt}, {since} ago: {titles[event.job]}: {event.said}")
        if len(own) > SHOWN:
            print(f"  {len(own) - SHOWN} more {what}")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
