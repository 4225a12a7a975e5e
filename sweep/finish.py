"""The end of a sweep: its tables, figures and report, of its own runs alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from analysis import figures, report
from analysis.choice import Choice, select
from analysis.files import write_whole
from analysis.layout import TASK_FOLDERS
from analysis.overview import Contents, built
from analysis.render import STYLES, Table, render_tables
from analysis.results import read_runs
from sweep.done import key_of
from sweep.jobs import Job

ENDINGS = {"terminal": "txt", "markdown": "md", "csv": "csv", "latex": "tex"}
FIGURES = ("few_shot", "base_new", "bars")


def finish(output: Path, jobs: Sequence[Job], pages: bool = True) -> None:
    """Print the tables of these jobs' runs, and write all of them, the figures and the report below ``output``.

    Args:
        pages: figures and report too.
    """
    runs, _ = read_runs(output)
    tables: list[Table] = []
    gaps: list[str] = []
    for task in (task for task in TASK_FOLDERS if any(job.task == task for job in jobs)):
        choice = choice_of([job for job in jobs if job.task == task], task)
        own = [run for run in select(runs, choice) if "accuracy" in run.metrics]
        if own:
            # beside numbers of generated images nothing published says anything
            found, missing = built(own, choice, Contents(published=not any(run.rehearsal for run in own)))
            tables, gaps = tables + found, gaps + missing
    if not tables:
        print("no finished run: no tables", file=sys.stderr)
        return
    for style in STYLES:
        write_whole(output / f"tables.{ENDINGS[style]}", render_tables(tables, style) + "\n")
    short = [table for table in tables if "average" in table.title] or tables
    print("\n" + render_tables(short, "terminal"))
    print("".join(f"missing: {gap}\n" for gap in gaps[:10]), end="")
    if len(gaps) > 10:
        print(f"missing: {len(gaps) - 10} more lines of this kind (parse_results.py names them)")
    print(f"\nall tables: {output / 'tables.txt'} (.md, .csv, .tex)")
    if pages:
        _pages(output, jobs)


def choice_of(jobs: Sequence[Job], task: str = "") -> Choice:
    """What chooses the runs of these jobs."""
    keys = {name: tuple(dict.fromkeys(getattr(job, name) for job in jobs)) for name in ("method", "backbone", "shots", "seed")}
    datasets = tuple(dict.fromkeys(key_of(job.dataset) for job in jobs))
    return Choice(task, datasets, keys["method"], keys["backbone"], keys["shots"], keys["seed"])


def _pages(output: Path, jobs: Sequence[Job]) -> None:
    own = choice_of(jobs)
    filters = [
        "--datasets", *own.datasets, "--methods", *own.methods, "--backbones", *own.backbones,
        "--shots", *map(str, own.shots), "--seeds", *map(str, own.seeds),
    ]  # fmt: skip
    page, folder = output / "report.html", output / "figures"
    with redirect_stdout(sys.stderr):
        drawn = figures.main([str(output), "-o", str(folder), "--only", *FIGURES, *filters])
        written = report.main([str(output), "-o", str(page), *filters])
    if drawn == 0:
        print(f"figures: {folder}")
    if written == 0:
        print(f"report: {page}")
