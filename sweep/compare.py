"""``sweep compare``: methods side by side on one dataset, and the paper's two tables of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from analysis.choice import Choice
from analysis.overview import Contents, show
from datasets.base import REHEARSAL
from sweep.command import Asked, alone_in, pairs_of, work_off
from sweep.done import key_of
from sweep.fit import Fit, fit
from sweep.grids import CONFIGS, Grid, GridError, all_methods
from sweep.jobs import Job, in_order
from sweep.journal import Journal
from sweep.outcome import Place

BASE2NEW_SHOTS = [16]


def compare(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Run and tabulate. Exit status: 0 done, 2 a run failed or nothing can run."""
    args.engine, args.again = "local", False
    if Path(args.dataset).resolve().parent == CONFIGS / "datasets":
        args.dataset = Path(args.dataset).stem
    pairs = tuple(pairs_of(overrides))
    status = 0
    for task in args.tasks:
        shots = args.shots if task == "few_shot" else BASE2NEW_SHOTS
        names = args.methods or all_methods()
        jobs = in_order(
            Job(task, method, args.dataset, k, seed, args.backbone, pairs, whole=True)
            for method, k, seed in product(names, shots, args.seeds)
        )
        status = max(status, _task(args, task, jobs, shots))
    return status


def _task(args: argparse.Namespace, task: str, jobs: list[Job], shots: Sequence[int]) -> int:
    place = Place(args.root, str(args.output))
    found = fit(jobs, place)
    if not found.ready and not found.done:
        raise GridError(next(iter({**found.cannot, **found.left_out})))
    with alone_in(args.output):
        failed = _do(args, jobs, found, place)
    chosen = list(dict.fromkeys(job.method for job in jobs if job.id in found.done or job in found.ready))
    _print_unread(found)
    choice = Choice(task, (key_of(args.dataset),), chosen, (args.backbone,), tuple(shots), tuple(args.seeds))
    # beside numbers of generated images nothing published says anything
    status = show(args.output, choice, Contents(published=not (Path(args.root) / REHEARSAL).is_file()), "terminal")
    reasons = {**found.left_out, **found.cannot}
    if reasons:
        print("\nnot in this table:")
        print("\n".join(reasons), flush=True)
    if failed:
        print(f"error: these failed, with the reason above: {' '.join(failed)}", file=sys.stderr)
    return 2 if failed or found.cannot else status


def _do(args: argparse.Namespace, jobs: list[Job], found: Fit, place: Place) -> list[str]:
    """Do what is ready; names of the methods that failed."""
    if not found.ready:
        print(f"all {len(found.done)} runs are done already")
        return []
    journal = Journal(args.output)
    try:
        asked = Asked(Grid(("compare",), tuple(jobs)), jobs, args.root)
        journal.add_grid(asked.hash, asked.grid.names, jobs)
        given_up = work_off(args, found.ready, len(found.done), place, journal, asked.hash)
    finally:
        journal.close()
    return sorted({failure.unit[0].method for failure in given_up})


def _print_unread(found: Fit) -> None:
    for method, key in found.unread:
        print(f"{key} is not read by {method}: it ran without it")
