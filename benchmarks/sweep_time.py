"""What a sweep's time went into, from its journal and its results, and whether sweeps of the same runs gave the same tables.

    python -m benchmarks.sweep_time output                      # of one sweep
    python -m benchmarks.sweep_time output/local output/ray     # side by side; exit status 1 where their tables differ

Shares are of the slots' time from the first start of a run to the last end: building (data, towers, text features), training
and testing (encoding images is in it), the rest of a run (settings, records, files), and nothing at all (between runs). A sweep
that was stopped and called again counts the time between as nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from analysis.results import RESULTS
from entry import program
from sweep.journal import DONE, START, Journal, read_only

TABLES = "tables.txt"


@dataclass(frozen=True)
class Spent:
    """Of a sweep: runs, slots, seconds of wall time, and seconds of slots in runs and in their parts."""

    runs: int
    slots: int
    wall: float
    inside: float
    building: float
    training: float

    def row(self, name: str) -> list[str]:
        whole = self.wall * self.slots
        parts = (self.building, self.training, self.inside - self.building - self.training, whole - self.inside)
        shares = [f"{100 * part / whole:.1f} %" for part in parts]
        return [name, str(self.runs), str(self.slots), f"{self.wall / 60:.1f}", f"{60 * self.runs / self.wall:.1f}", *shares]


def spent(output: Path, journal: Journal) -> Spent:
    """Of all runs that ended well below ``output``."""
    events = [event for event in journal.last_events().values() if event.kind == DONE]
    starts = journal.recent((START,))
    building = training = 0.0
    for event in events:
        for folder in event.folders:
            timings = json.loads((output / folder / RESULTS).read_text(encoding="utf-8"))["timings"]
            building += timings.get("build_s", 0.0)
            training += timings.get("train_and_test_s", 0.0)
    wall = max(event.at for event in events) - starts[0]
    slots = len({(event.host, event.slot) for event in events})
    return Spent(len(events), slots, wall, sum(event.seconds or 0.0 for event in events), building, training)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 where the tables differ, 2 a folder without a sweep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outputs", nargs="+", type=Path, help="folders of sweeps (--output)")
    args = parser.parse_args(argv)
    rows = []
    for output in args.outputs:
        journal = read_only(output)
        if journal is None:
            print(f"error: {output} holds no sweep", file=sys.stderr)
            return 2
        rows.append(spent(output, journal).row(output.name))
    parts = ["building", "training, testing", "rest of runs", "between runs"]
    print(tabulate(rows, ["sweep", "runs", "slots", "minutes", "a minute", *parts], tablefmt="github", disable_numparse=True))
    if len(args.outputs) == 1:
        return 0
    equal = len({(output / TABLES).read_bytes() for output in args.outputs}) == 1
    print(f"\n{TABLES} of all are {'equal to the byte' if equal else 'NOT EQUAL'}")
    return int(not equal)


if __name__ == "__main__":
    sys.exit(main())
