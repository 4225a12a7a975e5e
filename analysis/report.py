"""One page on all runs: coverage, tables, figures, and each run in detail. Self-contained, to be opened from a file.

    python -m analysis.report output -o report.html
    python -m analysis.report output -o report.html --thumbnails 0      # no image goes into the page

The page holds run folders' paths, configs, log ends and small copies of test images: look before you pass it on.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from analysis.choice import chosen, concerns, select
from analysis.figures import add_arguments, plots
from analysis.files import require_target, write_whole
from analysis.metrics import METRICS
from analysis.overview import Contents, built
from analysis.paired import paired_tables
from analysis.render import Table
from analysis.report_coverage import BROKEN, DONE, MISSING, coverage
from analysis.report_html import coverage_html, defects_html, figure_html, options_html, runs_html, table_html
from analysis.report_runs import details
from analysis.results import DamagedRun, Defect, Run, read_runs
from analysis.summaries import Scope, by_series
from analysis.tables import ablation_tables
from entry import program

PAGE = Path(__file__).parent / "page"
DEFAULT_METRICS = ("accuracy", "macro_f1", "macro_auroc", "ece")
THUMBNAILS = 200
OPENED = 3  # figures that need no press


def tables_by_metric(runs: Sequence[Run], metrics: Sequence[str]) -> list[tuple[str, Table]]:
    """The tables of ``parse_results.py``, for each metric: per dataset, average, per modality, ours beside published."""
    found = []
    for metric in metrics:
        having = [run for run in runs if metric in run.metrics]
        tables, _ = built(having, contents=Contents(metric, modalities=True, published=True)) if having else ([], [])
        found += [(metric, table) for table in tables]
    return found


def ablations(runs: Sequence[Run]) -> list[tuple[str, Table]]:
    """The accuracy of methods that were run with more than one setting, on the datasets that they were trained on."""
    runs = [run for run in runs if not run.source]
    settings: dict[str, set[tuple[str, str]]] = {}
    for method, backbone, setting in by_series(runs):
        settings.setdefault(method, set()).add((backbone, setting))
    several = [m for m, own in settings.items() if len(own) > len({backbone for backbone, _ in own})]
    scope = Scope("accuracy", tuple(sorted({r.dataset for r in runs})), tuple(sorted({r.seed for r in runs})))
    return [("accuracy", table) for method in several for table in ablation_tables(runs, method, scope)]


def page(root: Path, runs: Sequence[Run], defects: Sequence[Defect], args: argparse.Namespace) -> str:
    """The whole page as text.

    Raises:
        AmbiguousMethod: --paired names no or several series.
    """
    ordered = [
        run for own in by_series(runs).values() for run in sorted(own, key=lambda r: (r.split, r.dataset, r.shots, r.seed))
    ]
    numbers = {item.folder: number for number, item in enumerate([*ordered, *defects])}
    grid = coverage(ordered, defects)
    tables = [*tables_by_metric(ordered, args.metrics), *(ablations(ordered) if ordered else [])]
    for pair in args.paired or ():
        tables += [("accuracy", table) for table in paired_tables(ordered, *pair)]
    drawn = plots(ordered, "accuracy", highlight=args.highlight) if ordered else ()
    figures = "".join(figure_html(plot, number < OPENED) for number, plot in enumerate(drawn))
    script = (PAGE / "report.js").read_text(encoding="utf-8")
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    counts = {state: grid.count(state) for state in (DONE, BROKEN, MISSING)}
    shown = [metric for metric in args.metrics if any(metric == m for m, _ in tables)]
    return Template((PAGE / "report.html").read_text(encoding="utf-8")).substitute(
        title=escape(args.title or f"Runs in {root}"),
        script_hash=hashed,
        style=(PAGE / "report.css").read_text(encoding="utf-8"),
        script=script,
        banner=banner(ordered),
        counts="".join(f'<li class="{s}"><b>{n}</b> {WORDS[s]}</li>' for s, n in counts.items()),
        coverage=coverage_html(grid, numbers),
        defects=defects_html(defects, numbers),
        metrics="".join(f'<option value="{m}">{escape(METRICS[m].title)}</option>' for m in shown),
        tables="".join(table_html(table, metric) for metric, table in tables) or "<p>no finished run</p>",
        figures=figures or "<p>no finished run</p>",
        runs=runs_html(ordered, numbers),
        **{f"{name}_options": options_html(sorted({getattr(run, name) for run in ordered})) for name in SELECTS},
        data=as_json(details(ordered, defects, args.thumbnails, args.images)),
    )


WORDS = {DONE: "done", BROKEN: "unfinished or damaged", MISSING: "missing"}
SELECTS = ("method", "dataset", "split", "shots", "seed")


def banner(runs: Sequence[Run]) -> str:
    """Generated data are always told."""
    kinds = {run.rehearsal for run in runs}
    if True not in kinds:
        return ""
    what = "All runs are" if kinds == {True} else "Some runs are"
    return f'<p class="banner">{what} a rehearsal on synthetic images: their numbers say nothing about patients.</p>'


def as_json(data: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


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
    print(
        f"{args.output}: {len(asked)} runs, {len(concerned)} unfinished or damaged, {args.output.stat().st_size / 1e6:.1f} MB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
