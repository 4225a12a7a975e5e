"""Runs that are killed at random moments, or whose disk is full, and then called again: do they end as the undisturbed ones?

    python -m benchmarks.survival --kills 20 --full 10          # a table; exit status 1 where one differs
    python -m benchmarks.survival --methods CoOp --kills 5 --markdown
    python -m benchmarks.survival --methods sweep --kills 10 --full 0     # a sweep of 16 runs, its tables too

Each attempt has an output folder and a feature store of its own. Killed by SIGKILL at a moment drawn evenly over the time of an
undisturbed run; full: output and store on a tmpfs of a size drawn evenly (as root; left out else), which then gets room.
Compared are learned tensors, predictions and a sweep's tables, to the bit, and what results.json says but for times and sizes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate
from tqdm import tqdm

from dassl.utils import load_checkpoint
from datasets.phantom.__main__ import main as phantom
from sweep.__main__ import main as sweep
from train import main as train

REPO = Path(__file__).parents[1]
SWEEP = "sweep"  # in the place of a method
METHODS = {"CoOp": "base2new", "BiomedDPT": "base2new", "PromptSRC": "base2new", "TipAdapterF": "few_shot", SWEEP: "both"}
GRID = {
    "blocks": [
        {
            "task": task,
            "methods": ["ZeroshotCLIP", "CoOp", "BiomedDPT", method],
            "datasets": ["btmri"],
            "shots": [4],
            "seeds": [1, 2],
            "backbone": "PhantomCLIP",
            "overrides": {"OPTIM.MAX_EPOCH": 3, "FEATURES.VIEWS": 1},
        }
        for task, method in (("few_shot", "TipAdapterF"), ("base2new", "ProGrad"))
    ]
}
TIMES = ("timings", "files", "git", "train", "versions")  # of results.json
ROOM = "200m"  # of the tmpfs once it has room


@dataclass
class Tally:
    """Of one method: attempts, those disturbed in time, those that ended equal, and what was wrong with the others."""

    attempts: int = 0
    disturbed: int = 0
    equal: int = 0
    faults: list[str] = field(default_factory=list)


def words(method: str, root: Path, output: Path) -> list[str]:
    """The call of train.py, or of a sweep: few images, few epochs, one process."""
    if method == SWEEP:
        grid = output.parent.parent / "grid.yaml"
        grid.write_text(json.dumps(GRID))
        return ["run", str(grid), "--root", str(root), "--output", str(output), "--no-report"]
    task = METHODS[method]
    folder = REPO / "configs" / "trainers" / method
    own = folder / ("base_to_novel" if task == "base2new" else "few_shot") / "btmri.yaml"
    own = next(path for path in (own, own.parent.with_suffix(".yaml"), folder / "few_shot.yaml") if path.is_file())
    call = ["--root", root, "--trainer", method, "--backbone", "PhantomCLIP", "--task", task, "--shots", 4, "--seeds", 1,
            "--dataset-config-file", REPO / "configs" / "datasets" / "btmri.yaml", "--config-file", own,
            "--output-root", output, "DATALOADER.NUM_WORKERS", 0, "USE_CUDA", False, "OPTIM.MAX_EPOCH", 5]  # fmt: skip
    return [str(word) for word in call]


def start(call: Sequence[str], place: Path) -> int:
    """A child that runs train.py or a sweep with what this process has imported already; its process id."""
    child = os.fork()
    if child:
        return child
    os.environ["BIOMED_DPT_CACHE"] = str(place / "cache")
    log = os.open(place.parent / f"{place.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 70
    try:
        status = sweep(call) if call[0] == "run" else train(call)
    finally:
        os._exit(status)


def finish(child: int) -> int:
    """Its exit status; negative: the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outcome(output: Path) -> dict[str, object]:
    """What a call left behind, by path: results without times, predictions, learned tensors."""
    found: dict[str, object] = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        if path.name == "results.json":
            record = json.loads(path.read_text())
            found[name] = {key: value for key, value in record.items() if key not in TIMES}
        elif path.name == "predictions.csv.gz":
            found[name] = gzip.decompress(path.read_bytes())
        elif path.stem == "tables":
            found[name] = path.read_bytes()
        elif path.name.startswith("model.pth.tar-"):
            tensors = load_checkpoint(str(path))["state_dict"]
            found[name] = {key: (tuple(value.shape), value.numpy().tobytes()) for key, value in tensors.items()}
        elif path.name.startswith("."):
            found[name] = "a temporary file"
    return found


def differing(output: Path, wanted: dict[str, object]) -> str:
    """The first thing that is not as in the undisturbed run; empty where all is."""
    found = outcome(output)
    return next((name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)), "")


def killed(call: Callable[[Path], list[str]], place: Path, wanted: dict[str, object], after: float, tally: Tally) -> None:
    """Kill the call after so many seconds, call again, compare."""
    place.mkdir()
    child = start(call(place), place)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    tally.disturbed += finish(child) == -signal.SIGKILL
    again(call, place, wanted, tally, f"killed after {after:.2f} s")


def again(call: Callable[[Path], list[str]], place: Path, wanted: dict[str, object], tally: Tally, how: str) -> None:
    """The same call once more, undisturbed, and what it left held against ``wanted``."""
    tally.attempts += 1
    status = finish(start(call(place), place))
    wrong = differing(place / "out", wanted) if status == 0 else f"exit status {status}, log {place}.log"
    tally.equal += not wrong
    if wrong:
        tally.faults.append(f"{how}: {wrong}")


def filled(call: Callable[[Path], list[str]], place: Path, wanted: dict[str, object], size: int, tally: Tally) -> None:
    """Give the call a disk of so many bytes, then room, and call again."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        status = finish(start(call(place), place))
        tally.disturbed += status == 2
        log = place.parent / f"{place.name}.log"
        if status not in (0, 2) or "Traceback" in log.read_text(errors="replace"):
            tally.faults.append(f"disk of {size} bytes: exit status {status}, log {log}")
        subprocess.run(["mount", "-o", f"remount,size={ROOM}", str(place)], check=True)
        again(call, place, wanted, tally, f"disk of {size} bytes")
    finally:
        subprocess.run(["umount", str(place)], check=True)


def measured(method: str, root: Path, scratch: Path, kills: int, full: int, seed: int) -> tuple[Tally, Tally]:
    """Kills and full disks of one method.

    Raises:
        RuntimeError: the undisturbed run fails.
    """
    draw, kill, fill = random.Random(f"{seed}/{method}"), Tally(), Tally()

    def call(place: Path) -> list[str]:
        return words(method, root, place / "out")

    whole = scratch / f"{method}-whole"
    whole.mkdir()
    started = time.perf_counter()
    if finish(start(call(whole), whole)):
        raise RuntimeError(f"{method} fails undisturbed: {whole}.log")
    seconds, wanted = time.perf_counter() - started, outcome(whole / "out")
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    for number in tqdm(range(kills), desc=f"{method}: kills", disable=None):
        killed(call, scratch / f"{method}-kill{number}", wanted, draw.uniform(0, seconds), kill)
    for number in tqdm(range(full), desc=f"{method}: full disks", disable=None):
        filled(call, scratch / f"{method}-full{number}", wanted, draw.randrange(4096, max(size, 8192)), fill)
    return kill, fill


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 all equal, 1 not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--full", type=int, default=10, help="full disks; needs root")
    parser.add_argument("--seed", type=int, default=1, help="of moments and sizes")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args(argv)
    full = args.full if os.geteuid() == 0 and shutil.which("mount") else 0
    rows, faults = [], []
    scratch = Path(tempfile.mkdtemp(prefix="survival-"))
    phantom(["--root", str(scratch / "data"), "--datasets", "btmri", "--per-class", "20", "--size", "64"])
    for method in args.methods:
        for what, tally in zip(
            ("killed", "disk full"), measured(method, scratch / "data", scratch, args.kills, full, args.seed), strict=True
        ):
            rows.append([method, METHODS[method], what, tally.attempts, tally.disturbed, tally.equal])
            faults += [f"{method}: {fault}" for fault in tally.faults]
    header = ["method", "task", "disturbance", "attempts", "disturbed", "equal after the same call"]
    print(tabulate(rows, header, tablefmt="github" if args.markdown else "simple"))
    print(*faults, sep="\n", end="\n" if faults else "")
    if not faults:
        shutil.rmtree(scratch)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
