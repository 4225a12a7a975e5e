"""Do finished runs give the numbers that they should? Lists the cells outside their band, with the configs behind them.

    python -m analysis.check output                          # BiomedCLIP's averages against the papers'
    python -m analysis.check output --bands my_bands.json    # single cells against recorded ones
    python -m analysis.check output --record my_bands.json   # record them, from finished runs

A band file is ``{"schema": 1, "metric": "accuracy", "cells": [{"method", "backbone", "setting", "dataset", "split",
"shots", "rehearsal", "mean", "band", "seeds"}, …]}`` with mean ± band in %. The band is the 95 % prediction interval for
the mean over as many new seeds, t s sqrt(2/n), at least --floor; of a single seed it is --tolerance.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.counted import published
from analysis.files import read_text, require_target, write_whole
from analysis.metrics import METRICS
from analysis.published import BACKBONE, at_16_shots, caveats, published_cells
from analysis.results import CONFIG, DamagedRun, Run, read_runs
from analysis.stats import deviation, mean, t95
from analysis.summaries import by_series, names_of, split_of
from analysis.words import count_of, shots_of
from entry import program

TOLERANCE, FLOOR = 2.0, 0.5
IN_PERCENT = [name for name, metric in METRICS.items() if metric.unit]
IDENTITY = ("method", "backbone", "setting", "dataset", "split", "shots", "rehearsal")


@dataclass(frozen=True)
class Check:
    """One cell against its band (in %); ``why_not`` says why it cannot be compared."""

    name: str
    source: str
    value: float
    centre: float
    band: float
    runs: tuple[Run, ...]
    why_not: str = ""
    metric: str = "accuracy"

    @property
    def outside(self) -> bool:
        # values are compared as they are printed: half a unit of the last digit is no difference
        return not self.why_not and abs(self.value - self.centre) > self.band + 0.005

    def __str__(self) -> str:
        if self.why_not:  # no numbers side by side of what cannot be compared
            return f"not comparable: {self.name}, {self.source}: {self.why_not}"
        numbers = f"{self.value:.2f}, {self.source} {self.centre:.2f} ± {self.band:.2f} ({self.value - self.centre:+.2f})"
        return f"{'OUTSIDE' if self.outside else 'inside'}: {self.name}: {numbers}"


def against_published(runs: Sequence[Run], tolerance: float) -> list[Check]:
    """The averages of every series on BiomedCLIP against each paper's, ± ``tolerance``, which no paper prints."""
    checks = []
    for own in by_series([run for run in runs if run.backbone == BACKBONE]).values():
        for paper in published()["papers"]:
            for task, cells in published_cells(own, paper).items():
                part = split_of(own, "all") if task == "few_shot" else at_16_shots(own)
                for column, cell in cells.items():
                    if cell.value is None or cell.published is None:
                        continue
                    behind = [run for run in part if column in (shots_of(run.shots), run.split) or column.startswith("HM")]
                    why_not = "; ".join(filter(None, (caveats(behind), cell.note)))
                    name = f"{' / '.join(names_of(own))}, {task}, {column}"
                    checks.append(Check(name, paper, cell.value, cell.published, tolerance, tuple(behind), why_not))
    return checks


def cells_of(runs: Sequence[Run], metric: str) -> dict[tuple[Any, ...], list[Run]]:
    """Runs that differ in the seed only, by what identifies their cell (:data:`IDENTITY`)."""
    grouped: dict[tuple[Any, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (*run.series, run.dataset, run.split, run.shots, run.rehearsal, run.seed)):
        if run.metrics.get(metric) is not None:
            grouped.setdefault((*run.series, run.dataset, run.split, run.shots, run.rehearsal), []).append(run)
    return grouped


def record(runs: Sequence[Run], metric: str, tolerance: float, floor: float) -> dict[str, Any]:
    """The band file of these runs."""
    cells = []
    for key, own in cells_of(runs, metric).items():
        values, n = [run.metrics[metric] for run in own], len(own)
        band = tolerance if n < 2 else max(floor, t95(n) * deviation(values) * math.sqrt(2 / n))
        entry = dict(zip(IDENTITY, key, strict=True))
        cells.append(entry | {"mean": round(mean(values), 4), "band": round(band, 4), "seeds": [run.seed for run in own]})
    return {"schema": 1, "metric": metric, "cells": cells}


def read_bands(path: Path) -> dict[str, Any]:
    """A band file.

    Raises:
        DamagedRun: it cannot be read, or is no such file.
    """
    try:
        loaded = json.loads(read_text(path))
        for cell in loaded["cells"]:
            if not set(IDENTITY) <= set(cell) or not cell["band"] >= 0 or not math.isfinite(cell["mean"]):
                raise ValueError(f"not a cell: {json.dumps(cell)[:120]}")
            plain = (*(cell[key] for key in IDENTITY), *cell.get("seeds", []))
            if not isinstance(cell.get("seeds", []), list) or any(isinstance(one, (list, dict)) for one in plain):
                raise ValueError(f"not a cell: {json.dumps(cell)[:120]}")
        if loaded["metric"] not in IN_PERCENT:
            raise ValueError(f'unknown metric "{loaded["metric"]}", must be one of {", ".join(IN_PERCENT)}')
        return {"metric": str(loaded["metric"]), "cells": loaded["cells"]}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DamagedRun(f"{path} is no band file: {error!r}") from error


def against_recorded(runs: Sequence[Run], bands: dict[str, Any], source: str) -> tuple[list[Check], list[str]]:
    """Each cell of a band file against the runs, and the cells that only one side has, in words."""
    metric, checks, lines = bands["metric"], [], []
    found = cells_of(runs, metric)
    wanted = {tuple(cell[key] for key in IDENTITY): cell for cell in bands["cells"]}
    for key, cell in wanted.items():
        own = found.get(key)
        name = f"{' / '.join(word for word in key[:3] if word)}, {key[3]} {key[4]}, {shots_of(key[5])}, {metric}"
        if own is None:
            lines.append(f"no finished run: {name}")
            continue
        value = mean([run.metrics[metric] for run in own])
        absent = sorted(set(cell.get("seeds", ())) - {run.seed for run in own})
        why_not = f"no finished run of seed {', '.join(map(str, absent))}" if absent else ""
        checks.append(Check(name, source, value, cell["mean"], cell["band"], tuple(own), why_not, metric))
    unknown = len(set(found) - set(wanted))
    if unknown:
        lines.append(f"{count_of(unknown, 'cell')} of finished runs {'has' if unknown == 1 else 'have'} no band in {source}")
    return checks, lines


def show(checks: Sequence[Check], every: bool) -> None:
    """Cells outside with the configs that made them; with ``every`` the others too; then how many there are."""
    for check in checks:
        if check.outside or every:
            print(check)
        if check.outside:
            for run in check.runs:
                left = f", departures: {'; '.join(run.departures)}" if run.departures else ""
                changed = f", changed: {run.setting}" if run.changes else ""
                revision = str(run.git.get("revision"))[:12] + (" (dirty)" if run.git.get("dirty") else "")
                print(f"  {run.folder / CONFIG}: {run.metrics[check.metric]:.2f}, config {run.config_hash[:12]}, git {revision}"
                      f"{changed}{left}")  # fmt: skip
    compared = [check for check in checks if not check.why_not]
    outside = sum(check.outside for check in compared)
    print(f"{count_of(len(compared), 'cell')} compared, {outside} outside; {len(checks) - len(compared)} not comparable")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--bands", type=Path, help="recorded bands instead of the papers' averages")
    parser.add_argument("--record", type=Path, help="write the bands of the finished runs to this file, and end")
    parser.add_argument("--metric", default="accuracy", choices=IN_PERCENT, help="with --record")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="band of a published average or single seed, in %%")
    parser.add_argument("--floor", type=float, default=FLOOR, help="smallest recorded band, in %%")
    parser.add_argument("--all", action="store_true", help="list the cells inside and those that cannot be compared, too")
    return parser.parse_args(argv)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 all inside, 1 a cell is outside, 2 nothing to compare or a file that is no band file."""
    args = parse(argv)
    for name in ("tolerance", "floor"):
        if not 0 <= getattr(args, name) < math.inf:
            raise DamagedRun(f"--{name} is {getattr(args, name)}, must be 0 or more")
    if args.record:
        require_target(args.record)
    runs, defects = read_runs(args.directory) if args.directory.is_dir() else ([], [])
    for defect in defects:
        print(f"left out: {defect.folder}: {defect.why}")
    if not runs:
        print(f"error: no finished run below {args.directory}", file=sys.stderr)
        return 2
    if args.record:
        return _write(record(runs, args.metric, args.tolerance, args.floor), args.record)
    lines: list[str] = []
    if args.bands:
        checks, lines = against_recorded(runs, read_bands(args.bands), args.bands.name)
    else:
        checks = against_published(runs, args.tolerance)
    for line in lines:
        print(line)
    show(checks, args.all)
    if not any(not check.why_not for check in checks):
        nothing = f"no cell of {args.bands} was run" if args.bands else f"no runs on {BACKBONE} of a published method"
        why = sorted({check.why_not for check in checks}) or [nothing]
        print(f"error: nothing to compare: {' | '.join(why)}", file=sys.stderr)
        return 2
    return int(any(check.outside for check in checks))


def _write(bands: dict[str, Any], path: Path) -> int:
    write_whole(path, json.dumps(bands, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(bands['cells'])} cells recorded in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
