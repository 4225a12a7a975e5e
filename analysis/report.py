"""One page on all runs: a summary, tables, figures, coverage, and each run in detail. Self-contained, to be opened from a file.

    python -m analysis.report output -o report.html
    python -m analysis.report output -o report.html --thumbnails 0      # no image goes into the page

The page holds run folders' paths, configs, log ends and small copies of test images: look before you pass it on.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from tqdm import tqdm

from analysis.cast import Cast, cast_of
from analysis.choice import chosen, concerns, select
from analysis.figures import add_arguments
from analysis.files import require_target, write_whole
from analysis.metrics import METRICS
from analysis.render import Table
from analysis.report_cards import banner, subtitle, summary_html
from analysis.report_coverage import coverage
from analysis.report_html import (
    coverage_html,
    defects_html,
    folded_figure_html,
    glyphs_of,
    open_figure_html,
    options_html,
    symbols_html,
    table_html,
)
from analysis.report_pack import as_json, block
from analysis.report_runs import details
from analysis.report_tables import dataset_plots, dataset_tables, first_plots, more_plots, other_tables, paper_tables
from analysis.results import DamagedRun, Defect, Run, read_runs
from analysis.summaries import by_series
from analysis.words import count_of
from entry import program

PAGE = Path(__file__).parent / "page"
DEFAULT_METRICS = ("accuracy", "macro_f1", "macro_auroc", "ece")
SHOWN_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "cohen_kappa", "ece")  # of the list of runs
SELECTS = ("method", "dataset", "split", "shots", "seed")
THUMBNAILS = 200
NOTHING = "<p>no finished run</p>"
NOTHING_OWN = '<p class="note">nothing of these runs (figures and datasets are of few-shot and base-to-new)</p>'


def page(root: Path, runs: Sequence[Run], defects: Sequence[Defect], args: argparse.Namespace) -> str:
    """The whole page as text.

    Raises:
        AmbiguousMethod: --paired names no or several series.
    """
    ordered = [
        run for own in by_series(runs).values() for run in sorted(own, key=lambda r: (r.split, r.dataset, r.shots, r.seed))
    ]
    numbers = {item.folder: number for number, item in enumerate([*ordered, *defects])}
    grid, cast = coverage(ordered, defects), cast_of(ordered, args.highlight)
    looks = glyphs_of(cast)
    paper = paper_tables(ordered, args.metrics)
    others = other_tables(ordered, args.metrics, [tuple(pair) for pair in args.paired or ()]) if ordered else []
    if not paper:  # tests on other datasets alone: their tables come first
        paper, others = others, []
    nothing = NOTHING_OWN if ordered else NOTHING
    first = "".join(map(open_figure_html, first_plots(ordered, cast)))
    script = (PAGE / "report.js").read_text(encoding="utf-8")
    kept = details(ordered, defects, args.thumbnails, args.images)
    shown = [metric for metric in args.metrics if any(metric == m for m, _ in (*paper, *others))]
    return Template((PAGE / "report.html").read_text(encoding="utf-8")).substitute(
        title=escape(args.title or f"Runs in {root}"),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=(PAGE / "report.css").read_text(encoding="utf-8"),
        script=script,
        symbols=symbols_html(cast),
        subtitle=escape(subtitle(ordered)),
        banner=banner(ordered),
        summary=summary_html(ordered, grid, cast),
        metrics="".join(f'<option value="{m}">{escape(METRICS[m].title)}</option>' for m in shown),
        tables=f'<div class="side">{_tables(paper, looks)}</div>' if paper else nothing,
        figures=f'<div class="side">{first}</div>' if first else nothing,
        datasets=_datasets(ordered, cast, args.metrics) or nothing,
        others=_tables(others, looks) + "".join(map(folded_figure_html, more_plots(ordered, cast) if ordered else ()))
        or nothing,
        coverage=coverage_html(grid, looks) + defects_html(defects, numbers),
        **{f"{name}_options": options_html(sorted({getattr(run, name) for run in ordered})) for name in SELECTS},
        packed="".join(block(f"chunk-{n}", as_json(chunk)) for n, chunk in enumerate(kept["chunks"]))
        + block("rows", as_json(rows_of(ordered, cast))),
        thumbnails=as_json(kept["thumbnails"]),
    )


def _tables(found: Sequence[tuple[str, Table]], looks: dict[tuple[str, str, str], Any]) -> str:
    return "".join(table_html(table, metric, looks) for metric, table in found)


def _datasets(runs: Sequence[Run], cast: Cast, metrics: Sequence[str]) -> str:
    """Everything of one dataset, folded; a single dataset's tables stand above already."""
    own = [run for run in runs if not run.source]
    names = sorted({run.dataset for run in own})
    parts = []
    for name in tqdm(names, desc="datasets", disable=None):
        tables = _tables(dataset_tables(own, name, metrics), glyphs_of(cast)) if len(names) > 1 else ""
        figures = "".join(map(folded_figure_html, dataset_plots(own, name, cast, len(names) > 1)))
        about = next(run for run in own if run.dataset == name)
        told = ", ".join(filter(None, (about.modality, count_of(about.classes, "class", "classes") if about.classes else "")))
        of = count_of(sum(run.dataset == name for run in own), "run")
        parts.append(
            f'<details class="dataset"><summary><b>{escape(name)}</b> <span class="note">{escape(told)}, {of}</span></summary>'
            f'<div class="side">{tables}</div>{figures}</details>'
        )
    return "".join(parts)


def rows_of(runs: Sequence[Run], cast: Cast) -> dict[str, Any]:
    """The list of runs: columns (name, and digits of a metric, ``None`` for a word), and per run a value for each."""
    names = [name for name in SHOWN_METRICS if any(name in run.metrics for run in runs)]
    titles = [METRICS[name].title + (f" ({METRICS[name].unit})" if METRICS[name].unit else "") for name in names]
    columns = [
        *((word, None) for word in SELECTS),
        *((title, METRICS[name].digits) for title, name in zip(titles, names, strict=True)),
        ("backbone", None),
        ("setting", None),
    ]
    rows = [
        [run.method, run.dataset, run.split, run.shots, run.seed,
         *(None if (v := run.metrics.get(name)) is None else round(v, METRICS[name].digits) for name in names),
         run.backbone, cast.settings[run.series] or "as configured"]
        for run in runs
    ]  # fmt: skip
    return {"columns": columns, "rows": rows}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"))
    parser.add_argument("--title", help="of the page")
    parser.add_argument("--metrics", nargs="+", default=DEFAULT_METRICS, choices=list(METRICS), help="of the tables")
    parser.add_argument("--paired", nargs=2, action="append", metavar=("A", "B"), help="with a test of A against B; repeatable")
    parser.add_argument("--thumbnails", type=int, default=THUMBNAILS, help=f"most images in the page ({THUMBNAILS})")
    parser.add_argument("--images", type=Path, help="folder that image paths start from, of one dataset (from the configs)")
    add_arguments(parser)
    return parser.parse_args(argv)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 no runs or arguments that fit none."""
    args = parse(argv)
    if args.thumbnails < 0:
        raise DamagedRun(f"--thumbnails is {args.thumbnails}, must be 0 or more")
    require_target(args.output)
    runs, defects = read_runs(args.directory) if args.directory.is_dir() else ([], [])
    choice = chosen(args)
    asked, concerned = select(runs, choice), [defect for defect in defects if concerns(defect, choice)]
    if not asked and not concerned:
        print(f"error: no run below {args.directory} fits these arguments", file=sys.stderr)
        return 2
    write_whole(args.output, page(args.directory, asked, concerned, args))
    size = args.output.stat().st_size / 1e6
    print(f"{args.output}: {count_of(len(asked), 'run')}, {len(concerned)} unfinished or damaged, {size:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
