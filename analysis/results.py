"""Reading runs: ``results.json`` files, and the ``log.txt`` that Dassl leaves."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULT_LINE = re.compile(r"^\W*(accuracy|error|macro_f1): ([0-9.]+)%")


@dataclass(frozen=True)
class Run:
    """One finished run: what identifies it, its metrics in %, and whether its data were generated."""

    method: str
    backbone: str
    dataset: str
    split: str
    shots: int
    seed: int
    variant: str
    metrics: dict[str, float]
    rehearsal: bool
    folder: Path


def read_runs(root: Path) -> tuple[list[Run], list[Path]]:
    """Finished runs below ``root``, and the folders of runs that were begun and not finished."""
    runs, unfinished = [], []
    for config in sorted(root.rglob("config.yaml")):
        folder = config.parent
        record = _load(folder / "results.json")
        if record is None:
            unfinished.append(folder)
            continue
        runs.append(
            Run(
                record["method"],
                record["backbone"],
                record["dataset"],
                record["split"],
                record["num_shots"],
                record["seed"],
                record["variant"],
                record["metrics"],
                bool(record["rehearsal"]),
                folder,
            )
        )
    return runs, unfinished


def _load(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("complete") else None


def read_log(path: Path) -> dict[str, float]:
    """The metrics (%) of the last test in one of Dassl's ``log.txt``; empty when it holds none."""
    metrics: dict[str, float] = {}
    for line in path.read_text(errors="replace").splitlines():
        found = RESULT_LINE.match(line)
        if line.startswith("=> result"):
            metrics = {}
        elif found:
            metrics[found.group(1)] = float(found.group(2))
    return metrics
