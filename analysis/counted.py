"""Which datasets count in an average: the lists of ``published.json``, in which base-to-new has one fewer than few-shot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from analysis.results import Run

PAIR = ("base", "new")  # the splits of base-to-new


@cache
def published() -> dict[str, Any]:
    """``published.json``: the datasets of each table, those that are apart and why, and each paper's averages in %."""
    return json.loads((Path(__file__).parent / "published.json").read_text())


def task_of(split: str) -> str:
    """The table of the papers that a split belongs to: few_shot, base_to_new, or "" for one that they have not (target)."""
    return "base_to_new" if split in PAIR else "few_shot" if split == "all" else ""


def why_apart(run: Run) -> str:
    """Why a run's dataset is in no average over datasets of its protocol; empty where it is in them."""
    return published()["apart"].get(task_of(run.split), {}).get(run.dataset, "")


def counted(runs: Sequence[Run]) -> list[Run]:
    """The runs whose datasets count in an average: all but those that the papers leave out of this protocol."""
    return [run for run in runs if not why_apart(run)]


def apart_notes(runs: Sequence[Run]) -> tuple[str, ...]:
    """A line per dataset that is shown apart, with the reason."""
    return tuple(dict.fromkeys(f"{run.dataset} is shown apart: {why_apart(run)}." for run in runs if why_apart(run)))
