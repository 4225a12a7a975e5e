"""Figures from finished runs, as PNG, SVG and the numbers behind them as CSV.

    python -m analysis.figures output -o figures
    python -m analysis.figures output -o figures --only few_shot base_new --metric macro_auroc --methods CoOp BiomedDPT

Confusion matrices, reliability diagrams and training curves are of the most shots that were run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis import plots_base_new, plots_shots
from analysis.cast import Cast, cast_of
from analysis.choice import add_filters, chosen, concerns, select
from analysis.counted import PAIR, counted
from analysis.figure_style import FORMATS, Plot, save
from analysis.metrics import METRICS
from analysis.plots_modalities import bars_plot, radar_plot
from analysis.plots_runs import confusion_plot, reliability_plot, training_plot
from analysis.results import Run, read_runs
from analysis.summaries import Scope, split_of
from analysis.words import shots_of
from entry import program

KINDS = ("few_shot", "base_new", "bars", "radar", "confusion", "reliability", "training")
PER_SETTING = {"confusion": confusion_plot, "reliability": reliability_plot, "training": training_plot}
HIGHLIGHT = "BiomedDPT"


def plots(
    runs: Sequence[Run], metric: str = "accuracy", kinds: Sequence[str] = KINDS, highlight: str = HIGHLIGHT
) -> Iterator[Plot]:
    """The figures that these runs allow, one after the other; what no run has is left out.

    Args:
        runs: finished ones that have the metric.
        metric: one of :data:`..metrics.METRICS`.
        kinds: some of :data:`KINDS`.
        highlight: the method drawn thicker.
    """
    cast = cast_of(runs, highlight)
    few, pairs = split_of(runs, "all"), [run for run in runs if run.split in PAIR]
    if few and "few_shot" in kinds:
        yield from paper_plots(few, metric, cast)
    for k in sorted({run.shots for run in pairs}) if "base_new" in kinds else ():
        yield from paper_plots([run for run in pairs if run.shots == k], metric, cast)
    for split in ("all", "base", "new"):
        own = split_of(runs, split)
        if own:
            yield from _of_split(own, metric, kinds, split, cast)


def paper_plots(runs: Sequence[Run], metric: str, cast: Cast) -> Iterator[Plot]:
    """The average's figure of one protocol, and of several datasets the one with a panel for each.

    Args:
        runs: of the split "all", or of "base" and "new" with one number of shots.
        metric, cast: as for every figure.
    """
    scope, shots = _scope(runs, metric), runs[0].shots
    several = len(scope.datasets) > 1
    if runs[0].split == "all":
        yield plots_shots.average_plot(runs, scope, cast)
        if several:
            yield plots_shots.shots_plot(runs, scope, cast)
        return
    yield plots_base_new.average_plot(runs, scope, cast, shots)
    if several:
        yield plots_base_new.base_new_plot(runs, scope, cast, shots)


def _of_split(runs: Sequence[Run], metric: str, kinds: Sequence[str], split: str, cast: Cast) -> Iterator[Plot]:
    """Comparisons per modality, and the figures per dataset, at the most shots."""
    most = most_shots(runs)
    of_most = [run for run in runs if run.shots == most]
    what = shots_of(most) if split == "all" else f"{split} classes, {shots_of(most)}"
    name = f"{split}_{most}shots"
    averaged = counted(of_most)
    for kind, draw in (("bars", bars_plot), ("radar", radar_plot)) if averaged else ():
        plot = draw(averaged, _scope(averaged, metric), cast, what, name) if kind in kinds else None
        if plot:
            yield plot
    for dataset in sorted({run.dataset for run in of_most}):
        own = [run for run in of_most if run.dataset == dataset]
        for kind, draw in PER_SETTING.items():
            # the new classes are not trained on
            skipped = kind not in kinds or (kind == "training" and split == "new")
            plot = None if skipped else draw(own, cast, f"{dataset}, {what}", f"{own[0].dataset_key}_{name}")
            if plot:
                yield plot


def most_shots(runs: Sequence[Run]) -> int:
    """The largest number of shots; -1 stands for all images."""
    return max((run.shots for run in runs), key=lambda k: float("inf") if k < 0 else k)


def _scope(runs: Sequence[Run], metric: str) -> Scope:
    return Scope(metric, tuple(sorted({run.dataset for run in runs})), tuple(sorted({run.seed for run in runs})))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that choose runs, and the method to highlight."""
    add_filters(parser)
    parser.add_argument("--highlight", default=HIGHLIGHT, metavar="METHOD", help=f"drawn thicker ({HIGHLIGHT})")


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 nothing to draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the figures")
    parser.add_argument("--metric", default="accuracy", choices=list(METRICS))
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--formats", nargs="+", choices=(*FORMATS, "pdf"), default=FORMATS)
    add_arguments(parser)
    args = parser.parse_args(argv)
    choice = chosen(args)
    runs, defects = read_runs(args.directory) if args.directory.is_dir() else ([], [])
    for defect in (defect for defect in defects if concerns(defect, choice)):
        print(f"left out: {defect.folder}: {defect.why}")
    asked = [run for run in select(runs, choice) if args.metric in run.metrics]
    if not asked:
        print(f"error: no finished run below {args.directory} fits these arguments", file=sys.stderr)
        return 2
    if args.output.exists() and not args.output.is_dir():
        print(f"error: {args.output} is a file, -o names a folder", file=sys.stderr)
        return 2
    count = 0
    for plot in plots(asked, args.metric, args.only, args.highlight):
        print(", ".join(path.name for path in save(plot, args.output, args.formats)))
        count += 1
    if not count:
        print(f"error: these runs allow none of: {', '.join(args.only)}", file=sys.stderr)
        return 2
    print(f"{count} figures in {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
