"""Jobs of a sweep that take no model, and a driver of them to be killed. Slots import this: it brings no model library."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sweep.jobs import Job, Unit
from sweep.outcome import Outcome, Place

TOGETHER = 3  # jobs that wait for each other
HELD = 12  # quick jobs from this number on wait while the file HOLD is there
HOLD = "hold"


def jobs(number: int) -> list[Job]:
    """Quick jobs of 0.15, 0.3 and 0.45 seconds: slots fall out of step, and at the end of one another is in the middle."""
    return [Job("few_shot", "quick", f"d{index}", 150 * (1 + index % 3), index) for index in range(number)]


def with_poison(number: int) -> list[Job]:
    """Quick jobs, among them one that takes its process along, and at the end some that need as many slots at once."""
    quick = jobs(number)
    return [*quick[:2], Job("few_shot", "poison", "d", 1, 0), *quick[2:], *together_jobs()]


def together_jobs() -> list[Job]:
    """Jobs that wait until all of them have begun, each on a slot of its own."""
    return [Job("few_shot", "together", f"t{index}", 1, index) for index in range(TOGETHER)]


def marker(output: str | Path, job: Job) -> Path:
    """What a done job leaves."""
    return Path(output) / job.dataset / "results.json"


def lines(output: str | Path, job: Job) -> list[str]:
    """``begin PID PARENT`` and ``end PID`` of every time that a job was really done."""
    path = Path(output) / f"{job.id}.log"
    return path.read_text().splitlines() if path.is_file() else []


def quick(unit: Unit, place: Place) -> Outcome:
    """Wait, and write what follows from the job; nothing where that is there."""
    for job in unit:
        if marker(place.output, job).is_file():
            continue
        with (Path(place.output) / f"{job.id}.log").open("a") as file:
            print("begin", os.getpid(), os.getppid(), file=file, flush=True)
            if job.method == "poison":
                os._exit(7)
            if job.method == "broken":
                raise ValueError("not two in one line")
            time.sleep(job.shots / 1000)
            if job.method == "together":
                wait_for(lambda: all(lines(place.output, other) for other in together_jobs()))
            if job.seed >= HELD:
                wait_for(lambda: not (Path(place.output) / HOLD).exists())
            path = marker(place.output, job)
            path.parent.mkdir(exist_ok=True)
            path.with_suffix(".part").write_text(job.title)
            path.with_suffix(".part").replace(path)
            print("end", os.getpid(), file=file)
    return Outcome(folders={job.id: (job.dataset,) for job in unit})


def wait_for(true: Callable[[], bool], seconds: float = 90) -> None:
    """Until that is so."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("waited in vain")
        time.sleep(0.02)


class Watcher:
    """A screen that calls ``then[n]`` when the n-th unit has ended."""

    def __init__(self, then: dict[int, object] | None = None) -> None:
        self.then, self.count, self.slots, self.failures = then or {}, 0, [], []

    def started(self, slot: str, unit: Unit) -> None:
        self.slots.append(slot)

    def ended(self, slot: str, unit: Unit, outcome: Outcome) -> None:
        self.count += 1
        call = self.then.get(self.count)
        if callable(call):
            call()

    def failed(self, slot: str, unit: Unit, outcome: Outcome, again: bool) -> None:
        self.failures.append((unit[0], outcome.said, again))


def left(output: Path, asked: Sequence[Job]) -> list[Unit]:
    """The units that are not done."""
    return [(job,) for job in asked if not marker(output, job).is_file()]


def main(output: str, address: str, number: str) -> None:
    """Do quick jobs on a cluster."""
    from sweep.desk import Desk
    from sweep.journal import Journal
    from sweep.ray_engine import RayOptions, run_ray

    desk = Desk(left(Path(output), jobs(int(number))), Journal(output), Watcher(), "g")
    run_ray(desk, Place("", output), RayOptions(address, cpus_per_slot=1), quick)


if __name__ == "__main__":
    main(*sys.argv[1:])
