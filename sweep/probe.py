"""How long jobs take on this machine before any has run here: some of them are run for a while, in a scratch folder."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from multiprocessing.connection import Connection
from pathlib import Path

from sweep.jobs import Job
from sweep.outcome import Place

SECONDS = 20.0
STARTING = 120.0  # seconds that loading the libraries may take


def chosen(jobs: Sequence[Job]) -> list[Job]:
    """One job of each protocol, method and number of shots, the number in the middle first."""
    kinds: dict[tuple[str, str, int], Job] = {}
    for job in jobs:
        kinds.setdefault((job.task, job.method, job.shots), job)
    methods: dict[tuple[str, str], list[Job]] = {}
    for job in sorted(kinds.values(), key=lambda job: job.shots):
        methods.setdefault((job.task, job.method), []).append(job)
    from_middle = [[*own[len(own) // 2 :], *reversed(own[: len(own) // 2])] for own in methods.values()]
    return [job for rank in zip_longest(*from_middle) for job in rank if job is not None]


def probed(jobs: Sequence[Job], place: Place, seconds: float = SECONDS) -> list[tuple[str, float]]:
    """(title of a job, its seconds) of those that ended in time; nothing of what they write is kept."""
    found: list[tuple[str, float]] = []
    spawn = multiprocessing.get_context("spawn")  # a forked child would hang on the threads of this one
    ours, theirs = spawn.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as scratch:
        child = spawn.Process(target=_work, args=(chosen(jobs), replace(place, output=scratch), theirs), daemon=True)
        child.start()
        theirs.close()
        try:
            deadline = time.monotonic() + STARTING
            while ours.poll(max(0.0, deadline - time.monotonic())):
                told = ours.recv()
                if told is None:  # ready
                    deadline = time.monotonic() + seconds
                else:
                    found.append(told)
        except EOFError:  # it has tried them all
            pass
        finally:
            child.kill()
            child.join()
            ours.close()
    return found


def _work(jobs: Sequence[Job], place: Place, told: Connection) -> None:
    """Run jobs until the parent has heard enough."""
    os.environ["BIOMED_DPT_CACHE"] = str(Path(place.output) / "cache")  # what is stored already would make them too quick
    from sweep.work import perform

    told.send(None)
    for job in jobs:
        outcome = perform((job,), place)
        if not outcome.said:
            told.send((job.title, outcome.seconds))
