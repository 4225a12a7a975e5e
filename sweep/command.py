"""``sweep plan`` and ``sweep run``: from arguments to jobs, from jobs to an engine, and the end."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock, Timeout

from sweep.done import done_jobs
from sweep.grids import Grid, GridError, near, read_grids
from sweep.jobs import Job, in_order, narrowed, units_of, with_settings
from sweep.journal import FOUND, Event, Journal, read_only
from sweep.plan import described, estimated
from sweep.rates import Rates

if TYPE_CHECKING:
    from sweep.desk import Failure
    from sweep.outcome import Place

LOCK = "sweep.lock"
LISTS = ("tasks", "methods", "datasets", "labels", "shots", "seeds")  # options that leave in only some of the grids' jobs


@dataclass
class Asked:
    """What the arguments ask for, and how far it is done.

    Attributes:
        jobs: all of them, in order.
        done: id -> folders of the runs.
        rest: the jobs that are not known to be done.
    """

    grid: Grid
    jobs: list[Job]
    root: str
    done: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def rest(self) -> list[Job]:
        return [job for job in self.jobs if job.id not in self.done]

    @property
    def hash(self) -> str:
        """Of the jobs; the same for the same runs."""
        return hashlib.sha256(" ".join(sorted(job.id for job in self.jobs)).encode()).hexdigest()[:16]


def asked_for(args: argparse.Namespace, overrides: Sequence[str]) -> Asked:
    """The jobs of the arguments' grids, narrowed and changed as they say.

    Raises:
        GridError: an unreadable grid, or filters that leave nothing.
    """
    grid = read_grids(args.grids)
    only = {"shots" if name == "shots" else name[:-1]: getattr(args, name) for name in LISTS}
    for name, values in only.items():
        there = {getattr(job, name) for job in grid.jobs}
        for value in (value for value in values if value not in there):
            listed = ", ".join(map(str, sorted(there)))
            raise GridError(f"{' '.join(args.grids)} has no {name} {value!r}.{near(value, map(str, there))} It has {listed}")
    jobs = narrowed(grid.jobs, **only)
    if not jobs:
        raise GridError(f"{' '.join(args.grids)}: no run fits --{', --'.join(LISTS[:-1])} and --{LISTS[-1]} together")
    jobs = in_order(with_settings(jobs, pairs_of(overrides), args.backbone))
    root = args.root or ("data/phantom" if grid.phantom else "data")
    return Asked(grid, jobs, root)


def pairs_of(words: Sequence[str]) -> list[tuple[str, Any]]:
    """``KEY VALUE …`` as pairs; a value is read as YAML where it can be.

    Raises:
        GridError: a key without a value.
    """
    if len(words) % 2:
        raise GridError(f"overrides are KEY VALUE pairs, {words[-1]} has no value")
    return [(key, _value(value)) for key, value in zip(words[::2], words[1::2], strict=True)]


def _value(word: str) -> Any:
    try:
        value = yaml.safe_load(word)
    except yaml.YAMLError:
        return word
    if isinstance(value, list):
        return tuple(value)
    return value if isinstance(value, (bool, int, float, str)) else word


def plan(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Print what there is to do; nothing is written. Exit status 0."""
    asked = asked_for(args, overrides)
    journal = read_only(args.output)
    rates = Rates(journal.seconds() if journal else ())
    asked.done = done_jobs(args.output, asked.jobs, journal.folders() if journal else {})
    if not asked.rest:
        print("\n".join([*described(asked.jobs, asked.done, []), estimated([], rates)]))
        return 0
    from sweep.fit import fit
    from sweep.outcome import Place

    place = Place(asked.root, str(args.output), args.backbone_path)
    if asked.grid.phantom:
        print(
            f"rehearsal images, {asked.grid.phantom['per_class']} a class, are drawn in {asked.root} where they are not there"
        )
    found = fit(asked.rest, place, drawn_later=bool(asked.grid.phantom))
    print("\n".join(described(asked.jobs, asked.done | found.done, found.ready, found.cannot, found.left_out, [*found.unread])))
    if args.probe and found.ready and not rates.known:
        print(_tried(found.ready, place))
    else:
        print(estimated(found.ready, rates))
    return 0


def _tried(ready: Sequence[Job], place: Place) -> str:
    """The time that is left, from some of the runs tried now."""
    from sweep.probe import SECONDS, chosen, probed

    if not Path(place.root).expanduser().is_dir():
        return f"time: not known, {place.root} is not there to try a run on"
    found = probed(ready, place)
    if not found:
        return f"time: not known, the first run, {chosen(ready)[0].title}, did not end within {SECONDS:.0f} s"
    return estimated(ready, Rates(found), origin=f"run{'s' * (len(found) > 1)} tried now")


def run(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Do what is missing. Exit status: 0 all runs are done, 2 not all."""
    asked = asked_for(args, overrides)
    with alone_in(args.output):
        complete = _run(args, asked)
    if args.notify:
        subprocess.run(args.notify, shell=True, check=False)  # noqa: S602  (the user's own command, as given)
    return 0 if complete else 2


@contextmanager
def alone_in(output: Path) -> Iterator[None]:
    """Keep other sweeps out of a folder of all runs.

    Raises:
        GridError: one is at work there.
    """
    output.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise GridError(
            f"another sweep is at work in {output}: wait for it (python -m sweep status {output}), or take another --output"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _run(args: argparse.Namespace, asked: Asked) -> bool:
    journal = Journal(args.output)
    try:
        if journal.put_aside:
            print(f"the journal was damaged and is put aside as {journal.put_aside}; what is done is read from the results")
        journal.add_grid(asked.hash, asked.grid.names, asked.jobs)
        known = journal.folders()
        asked.done = done_jobs(args.output, asked.jobs, known)
        _note_found(journal, asked, {job: folders for job, folders in asked.done.items() if job not in known})
        complete = not asked.rest or _do(args, asked, journal)
    finally:
        journal.close()
    from sweep.finish import finish

    finish(args.output, asked.jobs, pages=not args.no_report)
    return complete


def _note_found(journal: Journal, asked: Asked, found: dict[str, tuple[str, ...]]) -> None:
    """Runs that are done though the journal does not know of them."""
    titles = {job.id: job.title for job in asked.jobs}
    journal.add(*(Event(FOUND, job, titles[job], asked.hash, folders=folders) for job, folders in found.items()))


def _do(args: argparse.Namespace, asked: Asked, journal: Journal) -> bool:
    """Have an engine do the rest; whether all is done then."""
    from sweep.fit import fit
    from sweep.outcome import Place

    place = Place(asked.root, str(args.output), args.backbone_path, args.restart)
    if asked.grid.phantom:
        _draw(asked)
    found = fit(asked.rest, place)
    _note_found(journal, asked, found.done)
    asked.done |= found.done
    print("\n".join(described(asked.jobs, asked.done, found.ready, found.cannot, found.left_out, [*found.unread])), flush=True)
    given_up = work_off(args, found.ready, len(asked.done), place, journal, asked.hash)
    for failure in given_up:
        print(f"failed: {failure.unit[0].title}: {failure.outcome.said}", file=sys.stderr)
    return not given_up and not found.cannot


def work_off(
    args: argparse.Namespace, ready: Sequence[Job], before: int, place: Place, journal: Journal, grid: str
) -> list[Failure]:
    """Have the engine of the arguments do these jobs; what was given up."""
    from runs.protocols import fitting_methods
    from sweep.desk import Desk
    from sweep.screen import LiveScreen

    units = units_of(ready, fitting_methods("seeds-together") if args.seeds_together else ())
    losses = {} if args.again else journal.losses()
    with LiveScreen(ready, before, Rates(journal.seconds())) as screen:
        desk = Desk(units, journal, screen, grid, losses)
        if args.engine == "ray":
            from sweep.ray_engine import RayOptions, run_ray

            run_ray(desk, place, RayOptions(args.ray_address, args.slots_per_gpu, args.cpus_per_slot, args.collect))
        else:
            from sweep.local import run_local

            run_local(desk, place)
    return desk.given_up


def _draw(asked: Asked) -> None:
    """The rehearsal images of the grid's datasets, where they are not there."""
    from datasets.phantom import EVALUATION_SEED
    from datasets.phantom.__main__ import SIZE, generate

    for key in sorted({key for job in asked.jobs for key in (job.dataset, *job.targets) if not Path(key).suffix}):
        generate(Path(asked.root), key, asked.grid.phantom["per_class"], SIZE, EVALUATION_SEED)
