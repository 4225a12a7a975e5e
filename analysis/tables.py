"""The two tables of the paper: few-shot accuracy, and base-to-new with HM."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from tabulate import tabulate

from analysis.results import Run
from analysis.stats import average_hm, ci95, harmonic, mean

FORMATS = {"terminal": "simple", "markdown": "github", "latex": "latex_booktabs"}
HM_NAMES = {
    "of-averages": "HM of the averaged base and new",
    "of-datasets": "average of per-dataset HMs",
    "arithmetic": "arithmetic mean of base and new (as printed by Biomed-DPT)",
}
Key = tuple[str, str, str]  # method, backbone, variant


def cell(values: Sequence[float]) -> str:
    """``mean ± half width`` over seeds."""
    half = ci95(values)
    return f"{mean(values):.2f}" + (f" ± {half:.2f}" if half is not None else "")


def render(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], style: str) -> str:
    """The table in one of the styles terminal, markdown, latex, csv."""
    if style == "csv":
        out = io.StringIO()
        csv.writer(out).writerows([["table", *header], *[[title, *row] for row in rows]])
        return out.getvalue().rstrip()
    return f"{title}\n\n{tabulate(rows, header, tablefmt=FORMATS[style], disable_numparse=True)}"


def label(runs: Sequence[Run]) -> str:
    """What every title says of generated data."""
    kinds = {run.rehearsal for run in runs}
    return "rehearsal (synthetic), " if kinds == {True} else "PARTLY rehearsal (synthetic), " if True in kinds else ""


def group(runs: Sequence[Run]) -> dict[Key, list[Run]]:
    """By method, backbone and variant, in order."""
    grouped: dict[Key, list[Run]] = {}
    for run in sorted(runs, key=lambda r: (r.method, r.backbone, r.variant, r.seed)):
        grouped.setdefault((run.method, run.backbone, run.variant), []).append(run)
    return grouped


def few_shot_table(runs: Sequence[Run], dataset: str, metric: str, style: str) -> str:
    """Rows: methods. Columns: shots. ``dataset`` may be "average"."""
    runs = [run for run in runs if run.split == "all"]
    shots = sorted({run.shots for run in runs})
    rows = []
    for (method, backbone, variant), own in group(runs).items():
        row = [method, backbone, variant]
        for k in shots:
            row.append(_cell_over_datasets([run for run in own if run.shots == k], metric))
        rows.append(row)
    title = f"Few-shot {metric} in %, {label(runs)}{dataset}: mean over seeds ± 95 % t-interval"
    return render(title, ["method", "backbone", "variant", *[f"{k} shots" for k in shots]], rows, style)


def _cell_over_datasets(runs: Sequence[Run], metric: str) -> str:
    by_dataset: dict[str, list[float]] = {}
    for run in runs:
        by_dataset.setdefault(run.dataset, []).append(run.metrics[metric])
    if not by_dataset:
        return "missing"
    if len(by_dataset) == 1:
        return cell(next(iter(by_dataset.values())))
    return f"{mean([mean(values) for values in by_dataset.values()]):.2f} ({len(by_dataset)} datasets)"


def base2new_table(runs: Sequence[Run], dataset: str, metric: str, style: str, hm: str) -> str:
    """Rows: methods. Columns: base, new, HM. ``hm`` says which HM an average over datasets prints."""
    runs = [run for run in runs if run.split in ("base", "new")]
    rows = []
    for (method, backbone, variant), own in group(runs).items():
        datasets = sorted({run.dataset for run in own})
        means = {
            (d, s): [run.metrics[metric] for run in own if run.dataset == d and run.split == s]
            for d in datasets
            for s in ("base", "new")
        }
        pairs = [(mean(means[d, "base"]), mean(means[d, "new"])) for d in datasets if means[d, "base"] and means[d, "new"]]
        if len(datasets) == 1:
            shown = [cell(means[datasets[0], s]) if means[datasets[0], s] else "missing" for s in ("base", "new")]
            score = f"{harmonic(*pairs[0]):.2f}" if pairs else "missing"
        else:
            shown = [f"{mean([p[i] for p in pairs]):.2f}" if pairs else "missing" for i in (0, 1)]
            score = f"{average_hm(pairs, hm):.2f} ({len(pairs)} datasets)" if pairs else "missing"
        rows.append([method, backbone, variant, *shown, score])
    what = HM_NAMES[hm] if dataset == "average" else "HM = 2BN/(B+N) of the seed averages"
    title = f"Base-to-new {metric} in %, {label(runs)}{dataset}: mean over seeds ± 95 % t-interval; {what}"
    return render(title, ["method", "backbone", "variant", "base", "new", "HM"], rows, style)
