"""Whole commands as a user calls them, start of the process included: base2new of a seed, a comparison of methods."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.setting import REPO, MeasurementFailed, Setting

COMPARED = ("ZeroshotCLIP", "ZeroshotCLIP2", "CoOp", "CoCoOp", "KgCoOp", "ProGrad", "BiomedCoOp", "BiomedDPT")
QUICKLY = ("CoOp", "BiomedDPT")


def base2new(setting: Setting, kind: str, timeout: float) -> dict[str, Any]:
    """``train.py --task base2new`` of BiomedDPT on btmri, seed 1.

    Args:
        kind: ``first`` (nothing is stored yet), ``stored`` (after a first one) or ``reference``.

    Raises:
        MeasurementFailed: it ended with an error, or did not end in time.
    """
    out = setting.folder("whole") / f"base2new-{kind}"
    config = REPO / "configs" / "trainers" / "BiomedDPT" / "base_to_novel" / "btmri.yaml"
    program = ["-m", "benchmarks.reference"] if kind == "reference" else ["train.py"]
    words = [sys.executable, *program, "--root", setting.root, "--trainer", "BiomedDPT", "--backbone", setting.backbone,
             "--dataset-config-file", "configs/datasets/btmri.yaml", "--config-file", str(config), "--output-root", str(out),
             "--shots", "16", "--seeds", "1", "--task", "base2new", "--verbose", *_overrides(setting, "base2new")]  # fmt: skip
    return _timed(words, out, timeout, {})


def compare(setting: Setting, together: bool, timeout: float) -> dict[str, Any]:
    """``scripts/compare.sh btmri`` of eight methods, 16 shots, three seeds, few-shot, with nothing stored.

    A comparison that does not end in time is not a failure: its runs so far are counted.
    """
    out = setting.folder("whole") / f"compare{'-together' if together else ''}"
    settings = {
        "DATA": setting.root,
        "BACKBONE": setting.backbone,
        "OUTPUT": str(out),
        "METHODS": " ".join(QUICKLY if setting.quick else COMPARED),
        "TASKS": "few_shot",
        "SHOTS": "16",
        "SEEDS": "1 2" if setting.quick else "1 2 3",
        "SEEDS_TOGETHER": "1" if together else "0",
        "PYTHON": sys.executable,
    }
    words = ["bash", "scripts/compare.sh", "btmri", "--", *_overrides(setting, out.name)]
    found = _timed(words, out, timeout, settings, may_be_cut=True)
    wanted = len(settings["METHODS"].split()) * len(settings["SEEDS"].split())
    return found | {"methods": settings["METHODS"].split(), "seeds": len(settings["SEEDS"].split()), "wanted_runs": wanted}


def _overrides(setting: Setting, store: str) -> list[str]:
    """KEY VALUE pairs: the weights, a store of this job's own."""
    words = ["FEATURES.ROOT", str(setting.folder(f"store-{store}"))]
    if setting.path:
        words += ["MODEL.BACKBONE.PATH", setting.path]
    return words + (["OPTIM.MAX_EPOCH", "2"] if setting.quick else [])


def _timed(
    words: list[str], out: Path, timeout: float, environment: dict[str, str], may_be_cut: bool = False
) -> dict[str, Any]:
    log = out.with_suffix(".log")
    started, cut = time.perf_counter(), False
    with open(log, "w") as file:
        try:
            done = subprocess.run(
                words, cwd=REPO, env=os.environ | environment, stdout=file, stderr=subprocess.STDOUT, timeout=timeout
            )
            status: int | str = done.returncode
        except subprocess.TimeoutExpired:
            status, cut = f"the end of its {timeout:.0f} s", True
    seconds = time.perf_counter() - started
    if status and not (cut and may_be_cut):
        raise MeasurementFailed(f"{' '.join(words)} ended with {status}:\n" + "\n".join(log.read_text().splitlines()[-12:]))
    records = [json.loads(path.read_text()) for path in sorted(out.rglob("results.json"))]
    return {
        "seconds": seconds,
        "cut": cut,
        "runs": len(records),
        "epochs": max((record["train"].get("epochs", 0) for record in records), default=0),
        "test_images": sum(record["num_test"] for record in records),
        "each": [[record["method"], record["seed"], record["split"], record["timings"]] for record in records],
    }
