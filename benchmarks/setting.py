"""What is measured on which machine, and each measurement in a process of its own. Imports nothing heavy."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[1]


class MeasurementFailed(Exception):
    """A measuring process ended with an error; the message holds the end of what it said."""


@dataclass(frozen=True)
class Setting:
    """One run of the benchmarks.

    Attributes:
        backbone, path: as --backbone and MODEL.BACKBONE.PATH of train.py.
        root: folder of the datasets.
        work: folder for stores, runs and logs of this run, empty at its start.
        threads: of torch.
        repeats: of each measurement, after a warm-up that is not counted.
        quick: a few steps of everything in this very process, to see that it works; its numbers mean nothing.
        views: V of FEATURES.VIEWS, where that is compared.
    """

    backbone: str
    path: str
    root: str
    work: str
    threads: int
    repeats: int = 5
    quick: bool = False
    views: int = 8

    def folder(self, name: str) -> Path:
        """A folder of this run, made on demand."""
        path = Path(self.work) / name
        path.mkdir(parents=True, exist_ok=True)
        return path


def isolated(setting: Setting, call: str, **arguments: Any) -> dict[str, Any]:
    """The result of ``module:function(setting, **arguments)`` of this package, run in a process of its own.

    The result gets ``process``: seconds of the imports, and the resident set in bytes at the start, after the imports and
    at its peak. With ``setting.quick`` there is no process, and no such entry.

    Raises:
        MeasurementFailed: the process ended with an error.
    """
    if setting.quick:
        import torch

        torch.set_num_threads(setting.threads)
        module, name = call.split(":")
        return getattr(importlib.import_module(f"benchmarks.{module}"), name)(setting, **arguments)
    return in_process(setting, call, **arguments)


def in_process(setting: Setting, call: str, timeout: float | None = None, **arguments: Any) -> dict[str, Any]:
    """As :func:`isolated`, and in a process whatever the setting, which is ended after ``timeout`` seconds."""
    number = time.time_ns()
    out = setting.folder("results") / f"{number}.json"
    task = json.dumps({"setting": asdict(setting), "call": call, "arguments": arguments})
    env = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(setting.threads)}
    with open(setting.folder("logs") / f"{call.replace(':', '-')}-{number}.log", "w") as log:
        words = [sys.executable, "-m", "benchmarks.worker", task, str(out)]
        try:
            status: int | str = subprocess.run(
                words, cwd=REPO, env=env, stdout=log, stderr=subprocess.STDOUT, timeout=timeout
            ).returncode
        except subprocess.TimeoutExpired:
            status = f"the end of its {timeout:.0f} s"
    if status:
        said = Path(log.name).read_text().strip().splitlines()[-12:]
        raise MeasurementFailed(f"{call} {arguments} ended with {status}:\n" + "\n".join(said))
    return json.loads(out.read_text())
