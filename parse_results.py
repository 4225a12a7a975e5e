"""Result tables from finished runs.

python parse_results.py output                                  # every table there is
python parse_results.py output --task base2new --format latex
python parse_results.py output --metric macro_auroc --modalities
python parse_results.py output --paired BiomedDPT CoOp          # is one better than the other?
python parse_results.py output --ablation BiomedDPT             # settings of one method side by side
python parse_results.py DIRECTORY --test-log                    # Dassl's classic form: log.txt below DIRECTORY/seed*
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.metrics import METRICS
from analysis.paired import AmbiguousMethod, paired_tables
from analysis.published import comparisons
from analysis.render import STYLES, Table, render_tables
from analysis.results import Defect, Run, place_of, read_log, read_runs
from analysis.stats import ci95, mean
from analysis.summaries import Scope, by_series, names_of
from analysis.tables import HM_NAMES, ablation_tables, base2new_table, few_shot_table, modality_tables

SPLITS = {"few_shot": ("all",), "base2new": ("base", "new")}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--task", choices=sorted(SPLITS), help="only this protocol")
    for name in ("datasets", "methods", "backbones"):
        parser.add_argument(f"--{name}", nargs="+", help=f"only these {name}; a missing one is named")
    parser.add_argument("--shots", nargs="+", type=int)
    parser.add_argument("--seeds", nargs="+", type=int, help="a run missing for one of these is named")
    parser.add_argument("--metric", default="accuracy", choices=list(METRICS))
    parser.add_argument("--hm", default="all", choices=["all", *HM_NAMES], help="of an average over datasets")
    parser.add_argument("--format", default="terminal", choices=STYLES)
    parser.add_argument("--published", action="store_true", help="the papers' averages beside ours")
    parser.add_argument("--modalities", action="store_true", help="averages per modality, too")
    parser.add_argument("--ablation", metavar="METHOD", help="only the ablation of this method")
    parser.add_argument("--paired", nargs=2, metavar=("A", "B"), help="only the test of A against B, each METHOD[/VARIANT]")
    parser.add_argument("--bootstrap-seed", type=int, default=0, help="with --paired")
    parser.add_argument("--test-log", action="store_true", help="read log.txt files as Dassl's parse_test_res.py does")
    args = parser.parse_args(argv)
    if args.paired and args.metric != "accuracy":
        parser.error("--paired compares accuracies: leave out --metric")
    return args


def classic(directory: Path) -> int:
    """Mean and 95 % t-interval of each metric over the ``log.txt`` below ``directory``; unfinished ones are named."""
    found: dict[str, list[float]] = {}
    for path in sorted(directory.rglob("log.txt")):
        metrics = read_log(path)
        if not metrics:
            print(f"unfinished, not averaged: {path.parent}")
            continue
        print(f"file: {path}  " + "  ".join(f"{k}: {v:.2f}%" for k, v in metrics.items()))
        for key, value in metrics.items():
            found.setdefault(key, []).append(value)
    if not found:
        print(f"error: no finished log.txt below {directory}", file=sys.stderr)
        return 2
    for key, values in found.items():
        half = ci95(values)
        print(f"* {key}: {mean(values):.2f}%" + (f" +- {half:.2f}% (95 % t-interval, {len(values)} runs)" if half else ""))
    return 0


def wanted(args: argparse.Namespace, **facts: object) -> bool:
    """Whether something with these facts (datasets: any of its names; methods, backbones, shots, seeds) is asked for."""
    for name, value in facts.items():
        asked = getattr(args, name)
        values = value if isinstance(value, set) else {value}
        if asked and not values & set(asked):
            return False
    return True


def select(runs: Sequence[Run], args: argparse.Namespace) -> list[Run]:
    """The runs that the arguments ask for."""
    splits = SPLITS[args.task] if args.task else ("all", "base", "new")
    return [
        run
        for run in runs
        if run.split in splits
        and wanted(
            args,
            datasets={run.dataset_key, run.dataset},
            methods=run.method,
            backbones=run.backbone,
            shots=run.shots,
            seeds=run.seed,
        )
    ]


def concerns(defect: Defect, args: argparse.Namespace) -> bool:
    """Whether an unusable run would have been asked for, as far as its folder's name tells."""
    place = place_of(defect.folder)
    if place is None:
        return True
    methods = {name for name in args.methods or [] if place.method.startswith(f"{name}_")}
    backbones = {name for name in args.backbones or [] if place.method.endswith("_" + name.replace("/", "-").replace(":", "-"))}
    return (not args.task or place.split in SPLITS[args.task]) and wanted(
        args, datasets=place.dataset_key, methods=methods, backbones=backbones, shots=place.shots, seeds=place.seed
    )


def missing(runs: Sequence[Run], args: argparse.Namespace) -> list[str]:
    """What belongs into the tables of one protocol and is not there, a line per series and number of shots."""
    if not runs:
        return [f"all runs of {method}" for method in args.methods or []]
    there = {run.cell for run in runs}
    datasets = sorted({run.dataset for run in runs})
    seeds = args.seeds or sorted({run.seed for run in runs})
    shots = args.shots or sorted({run.shots for run in runs})
    lines = []
    for series, own in by_series(runs).items():
        for split in SPLITS["few_shot"] if own[0].split == "all" else SPLITS["base2new"]:
            for k in shots:
                gaps = {d: [s for s in seeds if (*series, d, split, k, s) not in there] for d in datasets}
                told = [d if gap == list(seeds) else f"{d} seed {' '.join(map(str, gap))}" for d, gap in gaps.items() if gap]
                if told:
                    lines.append(f"{' / '.join(names_of(own))}, {split}, {k} shots: {', '.join(told)}")
    absent = [method for method in args.methods or [] if all(run.method != method for run in runs)]
    found = {name for run in runs for name in (run.dataset, run.dataset_key)}
    absent_data = [name for name in args.datasets or [] if name not in found]
    return lines + [f"all runs of {name}" for name in absent] + [f"all runs on {name}" for name in absent_data]


def tables_of(runs: Sequence[Run], args: argparse.Namespace) -> list[Table]:
    """The tables of one protocol: per dataset, then the average."""
    datasets = tuple(sorted({run.dataset for run in runs}))
    scope = Scope(args.metric, datasets, tuple(args.seeds or sorted({run.seed for run in runs})))
    hms = tuple(HM_NAMES) if args.hm == "all" else (args.hm,)
    groups = {name: (name,) for name in datasets}
    if len(datasets) > 1:
        groups[f"average over {len(datasets)} datasets"] = datasets
    tables = []
    for what, names in groups.items():
        part, narrowed = [run for run in runs if run.dataset in names], Scope(scope.metric, names, scope.seeds)
        if runs[0].split == "all":
            tables.append(few_shot_table(part, what, narrowed))
            continue
        for k in sorted({run.shots for run in part}):
            of_k = [run for run in part if run.shots == k]
            tables.append(base2new_table(of_k, f"{what}, {k} shots", narrowed, hms=hms))
    tables += modality_tables(runs, scope) if args.modalities else []
    return tables + (comparisons(runs, args.metric) if args.published else [])


def built(runs: Sequence[Run], args: argparse.Namespace) -> tuple[list[Table], list[str]]:
    """All tables that the arguments ask for, and what is missing from them.

    Raises:
        AmbiguousMethod: --paired or --ablation names no or several series.
    """
    if args.paired:
        return paired_tables(runs, *args.paired, seed=args.bootstrap_seed), []
    if args.ablation:
        scope = Scope(
            args.metric, tuple(sorted({r.dataset for r in runs})), tuple(args.seeds or sorted({r.seed for r in runs}))
        )
        tables = ablation_tables(runs, args.ablation, scope)
        if not tables:
            raise AmbiguousMethod(f"no runs of {args.ablation}; methods: {', '.join(sorted({run.method for run in runs}))}")
        return tables, []
    tables, gaps = [], []
    for task, splits in SPLITS.items():
        own = [run for run in runs if run.split in splits]
        tables += tables_of(own, args) if own else []
        gaps += missing(own, args) if own or args.task == task else []
    return tables, gaps


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 nothing to show."""
    args = arguments(argv)
    if not args.directory.is_dir():
        print(f"error: no folder {args.directory}", file=sys.stderr)
        return 2
    if args.test_log:
        return classic(args.directory)
    runs, defects = read_runs(args.directory)
    if not runs and not defects:
        return classic(args.directory)
    chosen = select(runs, args)
    without = [run for run in chosen if args.metric not in run.metrics]
    chosen = [run for run in chosen if args.metric in run.metrics]
    # in CSV the sheet alone goes to standard output
    out = sys.stderr if args.format == "csv" else sys.stdout
    for defect in (defect for defect in defects if concerns(defect, args)):
        print(f"not averaged: {defect.folder}: {defect.why}", file=out)
    for run in without:
        print(f"not averaged: {run.folder}: it was run before {args.metric} was measured", file=out)
    if not chosen:
        print(f"error: no finished run below {args.directory} fits these arguments", file=sys.stderr)
        return 2
    try:
        tables, gaps = built(chosen, args)
    except AmbiguousMethod as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(("" if args.format == "csv" else "\n") + render_tables(tables, args.format))
    for what in gaps:
        print(f"missing: {what}", file=out)
    return 0


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # "| head" ends quietly
    sys.exit(main())
