"""The mutants, run: ``python -m tests.mutants`` all, ``--room features`` one room's, ``--only disk.py`` those of some files.

Each is put into a copy of the project, and the tests that are to notice are run there. A survivor is a place in the code that
no test guards. ``--list`` shows the table, ``--record`` keeps the counts, ``--markdown`` prints docs/MUTANTS.md from them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.runner import NotClean, run_mutants
from tests.mutants.table import MUTANTS, WANTED, counted, enough, markdown, overview, record


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--room", choices=sorted({mutant.room for mutant in MUTANTS}), help="only this room's")
    parser.add_argument("--only", default="", metavar="TEXT", help="only those in whose file's name this is")
    parser.add_argument("--slots", type=int, default=1, metavar="N", help="processes at a time (each has a copy)")
    parser.add_argument("--list", action="store_true", help="show the mutants, run nothing")
    parser.add_argument("--markdown", action="store_true", help="print docs/MUTANTS.md, run nothing")
    parser.add_argument("--record", action="store_true", help="keep the counts for --markdown (whole rooms only)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write what became of each")
    args = parser.parse_args(argv)
    if args.slots < 1:
        parser.error(f"--slots is {args.slots}, must be at least 1")
    if args.record and args.only:
        parser.error("--record keeps the counts of whole rooms: leave --only out")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 enough were killed, 1 too few or an error, 2 the tests do not pass without a mutant."""
    args = arguments(argv)
    if args.markdown:
        print(markdown(), end="")
        return 0
    chosen = [mutant for mutant in MUTANTS if args.room in (None, mutant.room) and args.only in mutant.file]
    if args.list:
        for mutant in chosen:
            print(f"{mutant}{'  (equivalent: ' + mutant.equivalent + ')' if mutant.equivalent else ''}")
        print(f"{len(chosen)} mutants")
        return 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            outcomes = run_mutants(chosen, Path(folder).resolve(), args.slots)
        except NotClean as error:
            print(f"error: tests fail without any mutant\n{error}", file=sys.stderr)
            return 2
    for found in outcomes:
        if found.end in ("survived", "error"):
            print(f"{found.end}: {found.mutant}\n    {', '.join(found.mutant.test_names)}: {found.how}")
    rooms = counted(outcomes)
    print(overview(rooms))
    print(f"{len(outcomes)} mutants in {time.monotonic() - started:.0f} s; at least {WANTED} % are to be killed")
    if args.json:
        args.json.write_text(json.dumps([dataclasses.asdict(found) for found in outcomes], indent=1), encoding="utf-8")
    if args.record:
        record(rooms)
    return 0 if enough(rooms) else 1


if __name__ == "__main__":
    sys.exit(main())
