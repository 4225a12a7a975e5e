"""Tests and measurements on a GPU, most telling first, each result written at once (docs/PERFORMANCE.md, "On a GPU").

    bash benchmarks/gpu.sh run OUT [--minutes 12]              # this command, in an environment that has what it needs
    python -m benchmarks.gpu --from OUT/gpu.json --out docs/PERFORMANCE.md    # the tables of earlier runs, into the docs

OUT gets gpu.json (all results), gpu.md (the tables) and log.txt (what the steps printed). A model of BiomedCLIP's shape with
random weights and a small rehearsal data set are made first. With ``--device cpu`` the numbers mean nothing: it shows that
everything works.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from analysis.files import write_whole
from benchmarks.__main__ import fill
from benchmarks.gpu.steps import PARTS
from benchmarks.setting import REPO, MeasurementFailed, Setting, in_process

Results = dict[str, Any]
BEGIN, END = "<!-- gpu: begin (python -m benchmarks.gpu --from … --out FILE writes here) -->", "<!-- gpu: end -->"
DATASETS = ("btmri", "kvasir")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", type=Path, metavar="OUT", help="folder that gets the results")
    parser.add_argument(
        "--minutes", type=float, default=12.0, help="that all of it may take; a step that does not fit is named"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=list(PARTS), metavar="STEP", help=" ".join(PARTS))
    parser.add_argument("--tiny", action="store_true", help="PhantomCLIP and a handful of images: see that everything works")
    parser.add_argument("--work", type=Path, help="where model and data are made and kept; in the system's temporary folder")
    parser.add_argument(
        "--from", dest="earlier", nargs="+", type=Path, default=[], metavar="JSON",
        help="results of earlier runs on one card, whose tables are printed; of a step the last file's are taken",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="Markdown file whose part between the two markers is replaced")
    args = parser.parse_args(argv)
    if bool(args.results) == bool(args.earlier):
        parser.error("name OUT, or earlier results with --from")
    return args


def prepared(args: argparse.Namespace, scratch: str) -> Setting:
    """Model and data, made where they are not there.

    Raises:
        MeasurementFailed: they could not be made.
    """
    keep = (args.work or Path(tempfile.gettempdir()) / "biomed-dpt-gpu").resolve() / ("tiny" if args.tiny else "full")
    root, model = keep / "data", keep / "random_model"
    keep.mkdir(parents=True, exist_ok=True)
    count = "12" if args.tiny else "60"
    commands = [["datasets.phantom", "--root", str(root), "--datasets", name, "--per-class", count] for name in DATASETS]
    if not args.tiny:
        commands.append(["benchmarks.random_model", str(model)])
    started = [
        (
            words,
            subprocess.Popen(
                [sys.executable, "-m", *words], cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ),
        )
        for words in commands
    ]
    for words, process in started:
        said = process.communicate()[0]
        if process.returncode:
            raise MeasurementFailed(f"{' '.join(words)} ended with {process.returncode}: {said.strip()[-500:]}")
    quick = args.device == "cpu"
    threads = 1 if args.tiny else min(8, os.cpu_count() or 1)  # a small tower's second thread mostly waits
    name, path = ("PhantomCLIP", "") if args.tiny else ("BiomedCLIP", str(model))
    return Setting(name, path, str(root), scratch, threads, repeats=1 if quick else 5, quick=quick)


def run(args: argparse.Namespace) -> Results:
    """All steps that fit; the results are in OUT after each."""
    end = time.monotonic() + 60 * args.minutes
    args.results.mkdir(parents=True, exist_ok=True)
    results: Results = {"device": args.device, "minutes": args.minutes, "steps": {}}
    with tempfile.TemporaryDirectory(prefix="biomed-dpt-gpu-") as scratch:
        setting = prepared(args, scratch)
        results |= {"setting": asdict(setting) | {"path": Path(setting.path).name}}
        results["machine"] = in_process(setting, "machine:describe")
        if args.device == "cuda" and not results["machine"]["gpu"]:
            raise MeasurementFailed("no CUDA device here (--device cpu shows that everything works)")
        for name in [one for one in PARTS if one in args.only]:
            part, left = PARTS[name], end - time.monotonic()
            print(f"{name} … ({left:.0f} s left)", file=sys.stderr, flush=True)
            started = time.perf_counter()
            results["steps"][name] = step = outcome(part, setting, left, args.device)
            step["took_s"] = time.perf_counter() - started
            why = f": {step['why'].splitlines()[-1]}" if step.get("why") else ""
            print(f"  {step['state']} in {step['took_s']:.0f} s{why}", file=sys.stderr, flush=True)
            keep(args.results, results, Path(scratch))
    return results


def outcome(part: Any, setting: Setting, left: float, device: str) -> Results:
    """What became of a step: its result, or why there is none."""
    if device == "cpu" and part.only_gpu:
        return {"state": "left out", "why": part.only_gpu}
    if left < part.least:
        return {"state": "left out", "why": f"{max(0.0, left):.0f} s were left, it takes {part.least:.0f} s at least"}
    try:
        return {"state": "done", "result": part.call(setting, left)}
    except MeasurementFailed as error:
        return {"state": "failed", "why": str(error)}


def keep(folder: Path, results: Results, scratch: Path) -> None:
    """Write what there is so far; the tables can be made of it whatever comes."""
    write_whole(folder / "gpu.json", json.dumps(results, indent=1))
    logs = [path for kind in ("logs", "whole") for path in sorted((scratch / kind).glob("*.log"))]
    text = "".join(f"===== {path.name}\n{path.read_text(errors='replace')[-40_000:]}\n" for path in logs)
    write_whole(folder / "log.txt", text)


def joined(paths: Sequence[Path]) -> Results:
    """Earlier runs as one: the machine of the last, each step of the run that tells most of it, of equals the last.

    Raises:
        MeasurementFailed: a file that cannot be read, or runs on different cards.
    """
    results: Results = {}
    for path in paths:
        try:
            more = json.loads(path.read_text())
            card, steps = more["machine"]["gpu"], more["steps"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MeasurementFailed(f"{path} holds no results of this command: {error!r}") from error
        if results and card != results["machine"]["gpu"]:
            raise MeasurementFailed(
                f"{path} is of {card or 'no GPU'}, the one before of {results['machine']['gpu']}: not one table"
            )
        before = results.get("steps", {})
        newer = {name: one for name, one in steps.items() if _tells(one) >= _tells(before.get(name))}
        results = more | {"steps": before | newer}
    return results | {"steps": {name: results["steps"][name] for name in PARTS if name in results["steps"]}}


def _tells(step: Results | None) -> int:
    """How much a step tells: a result most, a failure more than that there was no time."""
    return -1 if step is None else ("left out", "failed", "done").index(step["state"])


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 all steps were done or left out, 1 one failed or a test did, 2 a mistake in the call."""
    args = parse_arguments(argv)
    if args.out and (not args.out.is_file() or BEGIN not in args.out.read_text() or END not in args.out.read_text()):
        print(f"error: {args.out} must hold the lines {BEGIN} and {END}", file=sys.stderr)
        return 2
    from benchmarks.gpu.rows import tables, wrong

    try:
        results = joined(args.earlier) if args.earlier else run(args)
    except MeasurementFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = tables(results)
    print(text)
    if args.results:
        write_whole(args.results / "gpu.md", text + "\n")
    if args.out:
        fill(args.out, text, BEGIN, END)
    return 1 if wrong(results) else 0


if __name__ == "__main__":
    sys.exit(main())
