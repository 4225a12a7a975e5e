"""All runs of a table in one command: what is missing is run, what fails is told, what is done is kept.

    python -m sweep plan paper_few_shot --root data             # what there is to do, what cannot be done, how long it takes
    python -m sweep run rehearsal                               # do it, then tables, figures and report
    python -m sweep run paper_few_shot --methods CoOp BiomedDPT --seeds 1 -- OPTIM.MAX_EPOCH 20
    python -m sweep run paper_few_shot --engine ray --ray-address auto --slots-per-gpu 4
    python -m sweep status output                               # from another shell
    python -m sweep grids                                       # which grids there are
    python -m sweep compare btmri --seeds 1                     # all methods on one dataset, without a grid

The same command goes on where a killed one was. docs/SWEEP.md has the grids' form, docs/CLUSTER.md several machines.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from entry import program

ENGINES = ("local", "ray")


def parser() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    top = argparse.ArgumentParser(
        prog="python -m sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True)
    for name, what in (("run", "do what is missing"), ("plan", "only say what is to be done")):
        one = commands.add_parser(name, help=what)
        add_choice(one)
        if name == "run":
            add_running(one)
        one.add_argument("--probe", action="store_true", help="plan: where nothing has run yet, try some runs for 20 seconds")
    add_compare(commands.add_parser("compare", help="methods side by side on one dataset (scripts/compare.sh)"))
    status = commands.add_parser("status", help="how far the sweep in a folder has come")
    status.add_argument("output", type=Path)
    commands.add_parser("grids", help="list the project's grids")
    return top


def add_choice(one: argparse.ArgumentParser) -> None:
    """What the jobs are."""
    one.add_argument("grids", nargs="+", metavar="GRID", help="names of files in configs/sweeps, or YAML files")
    one.add_argument("--root", default="", help="folder of the datasets (data; data/phantom for a rehearsal)")
    one.add_argument("--output", type=Path, default=Path("output"), help="folder of all runs (output)")
    one.add_argument("--backbone", default="", help="instead of the grids' own")
    one.add_argument("--backbone-path", default="", help="local folder with its weights")
    for name in ("tasks", "methods", "datasets", "labels"):
        one.add_argument(f"--{name}", nargs="+", default=[], help=f"only these {name} of the grids")
    for name in ("shots", "seeds"):
        one.add_argument(f"--{name}", nargs="+", type=int, default=[], help=f"only these {name} of the grids")


def add_compare(one: argparse.ArgumentParser) -> None:
    """A comparison, which needs no grid."""
    one.add_argument("dataset", help="name of a file in configs/datasets, or a YAML file")
    one.add_argument("--tasks", nargs="+", default=["few_shot", "base2new"], choices=["few_shot", "base2new"])
    one.add_argument("--methods", nargs="+", default=[], help="all that can run, by default")
    one.add_argument("--shots", nargs="+", type=int, default=[1, 2, 4, 8, 16], help="of few_shot; base2new has 16")
    one.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    one.add_argument("--root", default="data", help="folder of the datasets (data)")
    one.add_argument("--output", type=Path, default=Path("output"), help="folder of all runs (output)")
    one.add_argument("--backbone", default="BiomedCLIP")
    one.add_argument("--seeds-together", action="store_true", help="seeds of a setting as one batch, by methods that can")


def add_running(one: argparse.ArgumentParser) -> None:
    """How they are done."""
    one.add_argument("--dry-run", action="store_true", help="the same as plan")
    one.add_argument("--engine", choices=ENGINES, default="local", help="one process here, or a Ray cluster's")
    one.add_argument("--ray-address", default="", help="auto or HOST:PORT of a cluster; by default one is started here")
    one.add_argument("--slots-per-gpu", type=int, default=4, help="runs that share a GPU (4; with ray)")
    one.add_argument("--cpus-per-slot", type=int, default=2, help="processor cores of a run (2; with ray)")
    one.add_argument("--collect", action="store_true", help="no shared file system: results come back to this machine (ray)")
    one.add_argument("--seeds-together", action="store_true", help="seeds of a setting as one batch, by methods that can")
    one.add_argument("--restart", action="store_true", help="unfinished runs begin anew, not from their last checkpoint")
    one.add_argument("--again", action="store_true", help="try jobs once more that took their process along three times")
    one.add_argument("--no-report", action="store_true", help="tables only, no figures and no report at the end")
    one.add_argument("--notify", default="", metavar="CMD", help="a shell command to run at the end")


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 all runs of the grids are done, 2 not all, or a user's mistake."""
    words = list(sys.argv[1:] if argv is None else argv)
    cut = words.index("--") if "--" in words else len(words)
    args = parser().parse_args(words[:cut])
    if args.command == "grids":
        return grids()
    if args.command == "status":
        from sweep.status import show

        return show(args.output)
    if args.command == "compare":
        from sweep.compare import compare

        return compare(args, words[cut + 1 :])
    from sweep.command import plan, run

    if args.command == "plan" or args.dry_run:
        return plan(args, words[cut + 1 :])
    return run(args, words[cut + 1 :])


def grids() -> int:
    """Print the names of the project's grids, and what each is for."""
    from sweep.grids import known_grids

    for name, about in known_grids().items():
        print(f"{name}: {about}")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
