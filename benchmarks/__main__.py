"""Measure everything on this machine and print it as a table (docs/PERFORMANCE.md).

    python -m benchmarks                                   # a model of BiomedCLIP's shape with random weights
    python -m benchmarks --backbone-path FOLDER            # BiomedCLIP's weights, or others of its layout
    python -m benchmarks --backbone PhantomCLIP --only step test
    python -m benchmarks --from one.json two.json          # the table of earlier runs; nothing is measured

Without --from every number is measured in this run. It takes about an hour on two cores with nothing else running, most of
it the reference.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from analysis.files import write_whole
from benchmarks.parts import PARTS, Results, keys_of, wanted_parts
from benchmarks.setting import REPO, MeasurementFailed, Setting, isolated
from dassl.utils import UserError

RANDOM_MODEL = "random_model"  # folder of the model that is made where none is given
BEGIN, END = "<!-- table: begin (python -m benchmarks --out FILE writes here) -->", "<!-- table: end -->"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="BiomedCLIP", help="as of train.py")
    parser.add_argument("--backbone-path", default="", help="folder of its weights; of BiomedCLIP random ones are made without")
    parser.add_argument(
        "--root", type=Path, default=REPO / "data" / "phantom", help="datasets; absent ones are generated there"
    )
    parser.add_argument("--work", type=Path, help="where to keep runs and logs; a temporary folder by default")
    parser.add_argument("--json", type=Path, default=REPO / "output" / "benchmarks.json", help="raw measurements, written here")
    parser.add_argument("--out", type=Path, help="Markdown file whose table, between its two markers, is replaced")
    parser.add_argument("--only", nargs="+", default=[], choices=sorted(PARTS), metavar="PART", help=f"of {' '.join(PARTS)}")
    parser.add_argument(
        "--from", dest="earlier", nargs="+", type=Path, default=[], metavar="JSON",
        help="raw measurements of earlier runs on this machine, whose table is printed; of a part the last file's are taken",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch")
    parser.add_argument("--repeats", type=int, default=5, help="of each measurement; the table shows medians")
    parser.add_argument("--views", type=int, default=8, help="V of FEATURES.VIEWS where that is compared")
    parser.add_argument("--quick", action="store_true", help="see that everything works; the numbers mean nothing")
    return parser.parse_args(argv)


def measure(setting: Setting, only: list[str], path: Path) -> Results:
    """All wanted parts, one after the other; the raw results are in ``path`` after each."""
    parts = wanted_parts(only)
    results: Results = {
        "setting": asdict(setting),
        "machine": isolated(setting, "machine:describe"),
        "parts": parts,
        "took_s": {},
    }
    results |= {key: {} for name in PARTS for key in keys_of(name)}
    for name in parts:
        print(f"{name} …", file=sys.stderr, flush=True)
        started = time.perf_counter()
        PARTS[name](setting, results)
        results["took_s"][name] = time.perf_counter() - started
        write_whole(path, json.dumps(results, indent=1))
    return results


def joined(paths: Sequence[Path]) -> Results:
    """The results of several runs: setting and machine of the first, each part of the last that has it.

    Raises:
        UserError: a file that cannot be read, or is of another machine, model or versions than the first.
    """
    results: Results = {}
    for path in paths:
        try:
            more = json.loads(path.read_text())
            same = {name: more["machine"][name] for name in ("processor", "cores", "threads", "versions")}
            own = {name: more["setting"][name] for name in ("backbone", "path", "views", "quick")}
            took = more["took_s"]
            parts = [name for name in more["parts"] if name in took]  # all that an interrupted run got to
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} holds no measurements of this command: {error!r}") from error
        if not parts:
            raise UserError(f"{path}: that run finished no part")
        if not results:
            results, first = more | {"parts": []}, (same, own)
        if (same, own) != first:
            raise UserError(f"{path} and {paths[0]} are of different machines, versions, models or settings: not one table")
        for name in parts:
            for key in keys_of(name):
                results[key] = more[key]
            results["took_s"][name] = took[name]
        results["parts"] = wanted_parts([*results["parts"], *parts])
    return results


def table(results: Results) -> str:
    """Markdown: the machine, and the lines of the parts that were run."""
    from tabulate import tabulate

    from benchmarks.rows import COLUMNS, ROWS

    setting, machine = results["setting"], results["machine"]
    random_weights = Path(setting["path"]).name == RANDOM_MODEL
    shape = "random weights of its shape" if random_weights else setting["path"] or "its own weights"
    lines = [
        f"{setting['backbone']} ({shape}); {machine['processor']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB; {machine['gpu'] or 'no GPU'}; torch {machine['versions']['torch']}; "
        f"load {machine['load_at_start']:.1f} at the start; medians of up to {setting['repeats']}; "
        f"{sum(results['took_s'].values()) / 60:.0f} min.",
    ]
    if setting["quick"]:
        lines.append("**A quick run: its numbers mean nothing.**")
    rows = [row for name in ROWS if name in results["parts"] for row in ROWS[name](results)]
    return "\n\n".join([*lines, tabulate(rows, COLUMNS, tablefmt="pipe", disable_numparse=True)])


def fill(path: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Replace what stands between two markers of a Markdown file.

    Raises:
        ValueError: it has not both markers once.
    """
    before, found, rest = path.read_text().partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{path} must hold the lines {begin} and {end}")
    write_whole(path, f"{before}{begin}\n{text}\n{end}{after}")


def show(results: Results, out: Path | None) -> None:
    """Print the table, and write it into ``out``."""
    text = table(results)
    print(text)
    if out:
        fill(out, text)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 a measurement failed, 2 a user's mistake."""
    args = parse_arguments(argv)
    if args.out and (not args.out.is_file() or BEGIN not in args.out.read_text() or END not in args.out.read_text()):
        print(f"error: {args.out} must hold the lines {BEGIN} and {END}", file=sys.stderr)
        return 2
    if args.earlier:
        try:
            show(joined(args.earlier), args.out)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        return 0
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as scratch:
        work = (args.work or Path(scratch)).resolve()
        random_weights = args.backbone == "BiomedCLIP" and not args.backbone_path
        path = str(work / RANDOM_MODEL) if random_weights else args.backbone_path and str(Path(args.backbone_path).resolve())
        setting = Setting(
            args.backbone, path, str(args.root.resolve()), str(work), args.threads, args.repeats, args.quick, args.views
        )
        try:
            if random_weights:
                isolated(setting, "random_model:make", folder=path)
            results = measure(setting, args.only, args.json)
        except MeasurementFailed as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    show(results, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
