"""Result tables from finished runs.

python parse_results.py output                                  # every table there is
python parse_results.py output --task base2new --format latex
python parse_results.py output --metric macro_auroc --modalities
python parse_results.py output --paired BiomedDPT CoOp          # is one better than the other?
python parse_results.py output --ablation BiomedDPT             # settings of one method side by side
python parse_results.py output/ablation --table ablation        # the paper's ablations: a table per factor, levels in rows
python parse_results.py DIRECTORY --test-log                    # Dassl's classic form: log.txt below DIRECTORY/seed*
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.choice import add_filters, chosen
from analysis.metrics import METRICS
from analysis.overview import Contents, classic, show
from analysis.render import STYLES
from analysis.tables import HM_NAMES
from entry import program


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    add_filters(parser, "; a missing one is named")
    parser.add_argument("--metric", default="accuracy", choices=list(METRICS))
    parser.add_argument("--hm", default="all", choices=["all", *HM_NAMES], help="of an average over datasets")
    parser.add_argument("--format", default="terminal", choices=STYLES)
    parser.add_argument(
        "--long", action="store_true", help="backbone and variant of every row in columns of their own (csv has)"
    )
    parser.add_argument(
        "--published", action="store_true", help="the papers' averages beside runs that followed their protocol, else alone"
    )
    parser.add_argument("--modalities", action="store_true", help="averages per modality, too")
    parser.add_argument("--ablation", metavar="METHOD", help="only the ablation of this method")
    parser.add_argument("--table", choices=["ablation"], help="only the paper's ablations: a table per factor of Biomed-DPT")
    parser.add_argument("--paired", nargs=2, metavar=("A", "B"), help="only the test of A against B, each METHOD[/VARIANT]")
    parser.add_argument("--bootstrap-seed", type=int, default=0, help="with --paired")
    parser.add_argument("--test-log", action="store_true", help="read log.txt files as Dassl's parse_test_res.py does")
    args = parser.parse_args(argv)
    if args.paired and args.metric != "accuracy":
        parser.error("--paired compares accuracies: leave out --metric")
    if sum(map(bool, (args.table, args.ablation, args.paired))) > 1:
        parser.error("--table, --ablation and --paired each show tables of their own: choose one")
    if args.bootstrap_seed < 0:
        parser.error(f"--bootstrap-seed is {args.bootstrap_seed}, must be 0 or more")
    return args


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 nothing to show."""
    args = arguments(argv)
    if not args.directory.is_dir():
        print(f"error: no folder {args.directory}", file=sys.stderr)
        return 2
    if args.test_log:
        return classic(args.directory)
    paired = tuple(args.paired) if args.paired else None
    contents = Contents(
        args.metric,
        args.hm,
        args.modalities,
        args.published,
        args.ablation or "",
        paired,
        args.bootstrap_seed,
        args.long,
        bool(args.table),
    )
    return show(args.directory, chosen(args), contents, args.format)


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # "| head" ends quietly
    sys.exit(main())
