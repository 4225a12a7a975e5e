"""How many threads a frozen tower is fastest with, on an idle machine and beside other work (docs/PERFORMANCE.md).

    python -m benchmarks.threads --out docs/PERFORMANCE.md      # about eight minutes on two cores with nothing else running

A training step of CoOp, and the encoding of four images, with one thread and with one for each core; the latter also with
OMP_WAIT_POLICY=passive, where threads that wait sleep. Beside other work means: beside as many processes that count without
end as the machine has cores. Every cell has a process of its own, and the table shows medians.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

from benchmarks.setting import REPO, MeasurementFailed, Setting
from dassl.utils import cores

BEGIN, END = "<!-- threads: begin (python -m benchmarks.threads --out FILE writes here) -->", "<!-- threads: end -->"
MODELS = {"PhantomCLIP": None, "half of BiomedCLIP's width": True, "BiomedCLIP's shape": False}  # name -> halved
SECONDS = 8.0  # of each cell's two measurements
STEPS = 5  # after which the learned context is looked at, and least number of steps that are measured
COLUMNS = ("tower", "parameters", "threads", "step, idle", "step, beside other work", "4 images, idle", "beside other work",
           "context after 5 steps")  # fmt: skip


def cell(model: str, folder: str, root: str, seconds: float) -> dict[str, Any]:
    """Medians of a step and of encoding four images, in this process as it was started."""
    import torch

    from benchmarks import units

    setting = Setting(model if not folder else "BiomedCLIP", folder, root, tempfile.mkdtemp(), torch.get_num_threads())
    keys = {"OPTIM__MAX_EPOCH": 1000, "OPTIM__WARMUP_EPOCH": 0, "USE_CUDA": False, "TRAINER__COOP__TEXT_DROPOUT": False}
    trainer = units.build(units.config(setting, "CoOp", "btmri", "all", setting.folder("run"), **keys))
    step = units.step_of(trainer)
    for _ in range(STEPS):
        step()
    context = trainer.prompt_learner.ctx.detach().numpy().tobytes()
    images = torch.randn(4, 3, trainer.backbone.image_size, trainer.backbone.image_size)
    return {
        "parameters": sum(one.numel() for one in trainer.backbone.parameters()),
        "context": hashlib.sha256(context).hexdigest()[:8],
        "step": for_a_while(step, seconds),
        "encode": for_a_while(lambda: trainer.encode(images), seconds),
    }


def for_a_while(call: Any, seconds: float) -> float:
    """Median seconds of a call, called for so long."""
    from benchmarks.units import repeated

    taken = repeated(call, STEPS)
    while sum(taken) < seconds:
        taken += repeated(call, STEPS, warm_up=0)
    return statistics.median(taken)


def in_process(model: str, folder: str, root: str, seconds: float, threads: int, passive: bool) -> dict[str, Any]:
    """:func:`cell` in a process that was started with so many threads."""
    env = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    env.pop("OMP_WAIT_POLICY", None)
    if passive:
        env["OMP_WAIT_POLICY"] = "passive"
    call = [sys.executable, "-m", "benchmarks.threads", "--cell", json.dumps([model, folder, root, seconds])]
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(call, cwd=REPO, env=env | {"BIOMED_DPT_CACHE": cache}, capture_output=True, text=True)
    if done.returncode:
        raise MeasurementFailed(f"{model}, {threads} threads: {done.stderr.strip()[-800:]}")
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def other_work(number: int) -> Iterator[None]:
    """So many processes that count without end."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for one in busy:
            one.kill()
            one.wait()


def measure(models: Sequence[str], root: Path, work: Path, seconds: float) -> list[dict[str, Any]]:
    """A record of each cell."""
    from benchmarks.random_model import write_random_model
    from benchmarks.units import need_data

    need_data(Setting("PhantomCLIP", "", str(root), str(work), 1), "btmri")
    folders = {}
    for name in models:
        folder = work / str(list(MODELS).index(name))
        folders[name] = "" if MODELS[name] is None else str(write_random_model(folder, halved=bool(MODELS[name])))
    ways = [(1, False), *([(cores(), False), (cores(), True)] if cores() > 1 else [])]
    cells = [(name, threads, passive, busy) for name in models for threads, passive in ways for busy in (False, True)]
    found = []
    for name, threads, passive, busy in tqdm(cells, desc="cells", disable=None):
        with other_work(cores() if busy else 0):
            own = in_process(name, folders[name], str(root), seconds, threads, passive)
        found.append({"model": name, "threads": threads, "passive": passive, "busy": busy, **own})
    return found


def table(found: Sequence[dict[str, Any]]) -> str:
    """One row for each tower and way; what was measured in milliseconds."""
    rows: dict[tuple[Any, ...], dict[bool, dict[str, Any]]] = {}
    for one in found:
        rows.setdefault((one["model"], one["threads"], one["passive"]), {})[one["busy"]] = one
    lines = []
    for (model, threads, passive), own in rows.items():
        quiet, busy = own[False], own[True]
        times = [f"{1000 * one[what]:.1f} ms" for what in ("step", "encode") for one in (quiet, busy)]
        way = f"{threads}, passive" if passive else str(threads)
        same = quiet["context"] if quiet["context"] == busy["context"] else f"{quiet['context']}, {busy['context']}"
        lines.append([model, f"{quiet['parameters'] / 1e6:.1f} M", way, *times, same])
    return tabulate(lines, COLUMNS, tablefmt="pipe", disable_numparse=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 a measurement failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.threads", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS), metavar="TOWER", help="some of them")
    parser.add_argument("--root", type=Path, default=REPO / "data" / "phantom", help="rehearsal images, made where absent")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    parser.add_argument("--json", type=Path, help="file for the raw measurements")
    parser.add_argument("--out", type=Path, help="Markdown file whose table, between its two markers, is replaced")
    parser.add_argument("--cell", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.cell:
        print(json.dumps(cell(*args.cell)))
        return 0
    from benchmarks.__main__ import fill
    from benchmarks.machine import describe

    with tempfile.TemporaryDirectory(prefix="threads-") as work:
        machine = describe(Setting("", "", "", work, 1))
        try:
            found = measure(args.models, args.root.resolve(), Path(work), args.seconds)
        except MeasurementFailed as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    if args.json:
        args.json.write_text(json.dumps({"machine": machine, "cells": found}, indent=1))
    about = f"{machine['processor']}, {cores()} cores; torch {machine['versions']['torch']}"
    text = f"{about}; load before: {machine['load_at_start']:.1f}.\n\n{table(found)}"
    print(text)
    if args.out:
        fill(args.out, text, BEGIN, END)
    return 0


if __name__ == "__main__":
    sys.exit(main())
