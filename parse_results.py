"""Result tables from finished runs.

python parse_results.py output                                  # every table there is
python parse_results.py output --task base2new --format latex
python parse_results.py DIRECTORY --test-log                    # Dassl's classic form: log.txt below DIRECTORY/seed*
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from analysis.published import comparisons
from analysis.results import Run, read_log, read_runs
from analysis.stats import ci95, mean
from analysis.tables import HM_NAMES, base2new_table, few_shot_table

SPLITS = {"few_shot": ("all",), "base2new": ("base", "new")}


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--task", choices=sorted(SPLITS), help="only this protocol")
    for name in ("datasets", "methods", "backbones"):
        parser.add_argument(f"--{name}", nargs="+", help=f"only these {name}; a missing one is named")
    parser.add_argument("--shots", nargs="+", type=int)
    parser.add_argument("--seeds", nargs="+", type=int, help="a run missing for one of these is named")
    parser.add_argument("--metric", default="accuracy", choices=["accuracy", "error_rate", "macro_f1"])
    parser.add_argument("--hm", default="of-averages", choices=sorted(HM_NAMES), help="of an average over datasets")
    parser.add_argument("--format", default="terminal", choices=["terminal", "markdown", "latex", "csv"])
    parser.add_argument("--published", action="store_true", help="the papers' averages beside ours")
    parser.add_argument("--test-log", action="store_true", help="read log.txt files as Dassl's parse_test_res.py does")
    return parser.parse_args(argv)


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


def dataset_key(run: Run) -> str:
    """The dataset's folder name in the layout of runs, which is its config file's name."""
    parts = run.folder.parts
    return parts[-5] if len(parts) >= 5 else run.dataset.lower()


def select(runs: list[Run], args: argparse.Namespace) -> list[Run]:
    """The runs that the arguments ask for."""
    splits = SPLITS[args.task] if args.task else ("all", "base", "new")
    return [
        run
        for run in runs
        if run.split in splits
        and (not args.datasets or {dataset_key(run), run.dataset} & set(args.datasets))
        and (not args.methods or run.method in args.methods)
        and (not args.backbones or run.backbone in args.backbones)
        and (not args.shots or run.shots in args.shots)
        and (not args.seeds or run.seed in args.seeds)
    ]


def missing(runs: list[Run], args: argparse.Namespace, split: str) -> list[str]:
    """Runs that belong into a table and are not there."""
    there = {(r.dataset, r.method, r.backbone, r.variant, r.shots, r.seed) for r in runs if r.split == split}
    of_task = [r for r in runs if r.split in next(s for s in SPLITS.values() if split in s)]
    series = sorted({(r.dataset, r.method, r.backbone, r.variant, r.shots) for r in of_task})
    seeds = args.seeds or sorted({r.seed for r in of_task})
    names = [f"{'/'.join(map(str, s))} shots, {split}, seed {n}" for s in series for n in seeds if (*s, n) not in there]
    absent = [m for m in args.methods or [] if not any(r.method == m for r in of_task)]
    return names + [f"all {split} runs of {method}" for method in absent]


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 nothing to show."""
    args = arguments(argv)
    if not args.directory.is_dir():
        print(f"error: no folder {args.directory}", file=sys.stderr)
        return 2
    if args.test_log:
        return classic(args.directory)
    runs, unfinished = read_runs(args.directory)
    if not runs and not unfinished:
        return classic(args.directory)
    chosen = select(runs, args)
    for folder in unfinished:
        print(f"unfinished, not averaged: {folder}")
    if not chosen:
        print(f"error: no finished run below {args.directory} fits these arguments", file=sys.stderr)
        return 2
    for task, splits in SPLITS.items():
        own = [run for run in chosen if run.split in splits]
        if not own:
            continue
        datasets = sorted({run.dataset for run in own})
        for name in [*datasets, *(["average"] if len(datasets) > 1 else [])]:
            part = [run for run in own if name in (run.dataset, "average")]
            few = task == "few_shot"
            tables = (
                [few_shot_table(part, name, args.metric, args.format)]
                if few
                else [
                    base2new_table([r for r in part if r.shots == k], f"{name}, {k} shots" if name != "average" else name,
                                   args.metric, args.format, args.hm)
                    for k in sorted({r.shots for r in part})
                ]
            )  # fmt: skip
            print("\n" + "\n\n".join(tables))
        for table in comparisons(own, args.metric, args.format) if args.published else []:
            print(f"\n{table}")
        for split in splits:
            for what in missing(own, args, split):
                print(f"missing: {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
