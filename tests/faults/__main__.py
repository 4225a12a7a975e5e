"""The table of faults, run: ``python -m tests.faults [WORD …]`` those whose name has the words, ``--markdown`` for the docs."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.table import FAULTS, markdown


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 all ends are as the table says, 1 some are not."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("words", nargs="*", help="only rows in whose name all of these are")
    parser.add_argument("--markdown", action="store_true", help="print docs/RELIABILITY.md, run nothing")
    parser.add_argument("--verbose", action="store_true", help="what each said")
    args = parser.parse_args(argv)
    if args.markdown:
        print(markdown(), end="")
        return 0
    from tests.faults.running import tried
    from tests.faults.world import build

    chosen = [fault for fault in FAULTS if all(word.lower() in str(fault).lower() for word in args.words)]
    started, failed = time.perf_counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        world = build(Path(folder).resolve() / "world")
        print(f"world: {time.perf_counter() - started:.1f} s", flush=True)
        for number, fault in enumerate(chosen):
            end, wrong = tried(fault, Path(folder).resolve() / f"row{number}", world)
            failed += bool(wrong)
            print(f"{'FAIL' if wrong else 'ok':<4} {end.code:>3} {end.seconds:5.1f} s  {fault}", flush=True)
            for line in wrong:
                print(f"       {line}")
            if args.verbose or wrong:
                print("".join(f"       | {line}\n" for line in (end.err.strip() or end.out.strip()).splitlines()[-4:]), end="")
    print(f"{len(chosen)} faults, {failed} not as the table says, {time.perf_counter() - started:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
