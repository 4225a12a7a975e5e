"""The papers' printed averages beside ours, with the difference and what keeps the two from being comparable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from analysis.results import Run
from analysis.stats import harmonic, mean
from analysis.tables import render

DATASETS = 11
BACKBONE = "BiomedCLIP"
ABSENT = "–"


@cache
def published() -> dict[str, Any]:
    """``published.json``: by paper and table, average accuracy in % of each method."""
    return json.loads((Path(__file__).parent / "published.json").read_text())


def caveats(runs: Sequence[Run]) -> str:
    """What of ours differs from the published protocol, in words; empty when nothing does."""
    said = []
    if any(run.rehearsal for run in runs):
        said.append("rehearsal (synthetic)")
    others = sorted({run.backbone for run in runs} - {BACKBONE})
    if others:
        said.append(f"backbone {', '.join(others)} instead of {BACKBONE}")
    count = len({run.dataset for run in runs})
    if count != DATASETS:
        said.append(f"{count} of {DATASETS} datasets")
    if len({run.seed for run in runs}) != 3:
        said.append(f"{len({run.seed for run in runs})} seeds instead of 3")
    return "; ".join(said)


def comparisons(runs: Sequence[Run], metric: str, style: str) -> list[str]:
    """One table per paper and task of these runs: ours, published, difference. Accuracy only; else no table."""
    if metric != "accuracy":
        return []
    few = [run for run in runs if run.split == "all"]
    base2new = [run for run in runs if run.split in ("base", "new") and run.shots == 16]
    tables = []
    for paper, printed in published()["papers"].items():
        for own, rows, columns in (
            (few, _few_shot_rows(few, printed["few_shot"]), [f"{k} shots" for k in published()["shots"]]),
            (base2new, _base2new_rows(base2new, printed["base_to_new"]), ["base", "new", "HM of the averages"]),
        ):
            if rows:
                told = caveats(own)
                task = "Few-shot" if own is few else "Base-to-new, 16 shots"
                title = f"{task} accuracy in %, average over datasets: ours / {paper} (difference)"
                title += f". NOT COMPARABLE, ours: {told}" if told else ""
                tables.append(render(title, ["method", "backbone", "variant", *columns], rows, style))
    return tables


def _series(runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    return sorted({(run.method, run.backbone, run.variant) for run in runs})


def _average(runs: Sequence[Run]) -> float | None:
    by_dataset: dict[str, list[float]] = {}
    for run in runs:
        by_dataset.setdefault(run.dataset, []).append(run.metrics["accuracy"])
    return mean([mean(values) for values in by_dataset.values()]) if by_dataset else None


def _beside(ours: float | None, theirs: float | None) -> str:
    if ours is None or theirs is None:
        return " / ".join(ABSENT if value is None else f"{value:.2f}" for value in (ours, theirs))
    return f"{ours:.2f} / {theirs:.2f} ({ours - theirs:+.2f})"


def _few_shot_rows(runs: Sequence[Run], printed: dict[str, list[float]]) -> list[list[str]]:
    rows = []
    for key in _series(runs):
        if key[0] in printed:
            own = [run for run in runs if (run.method, run.backbone, run.variant) == key]
            pairs = zip(published()["shots"], printed[key[0]], strict=True)
            rows.append([*key, *(_beside(_average([run for run in own if run.shots == k]), value) for k, value in pairs)])
    return rows


def _base2new_rows(runs: Sequence[Run], printed: dict[str, list[float]]) -> list[list[str]]:
    rows = []
    for key in _series(runs):
        if key[0] in printed:
            own = [run for run in runs if (run.method, run.backbone, run.variant) == key]
            base, new = (_average([run for run in own if run.split == split]) for split in ("base", "new"))
            hm = None if base is None or new is None else harmonic(base, new)
            # the papers print three different things as HM: theirs is worked out from their base and new
            theirs = [*printed[key[0]][:2], harmonic(*printed[key[0]][:2])]
            rows.append([*key, *(_beside(*pair) for pair in zip((base, new, hm), theirs, strict=True))])
    return rows
