"""The steps of a run, most telling first, each kept as soon as it is done."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu import whole
from benchmarks.setting import REPO, MeasurementFailed, Setting, in_process

Step = Callable[[Setting, float], dict[str, Any]]  # setting, seconds that it may take
OUTCOME = re.compile(r"^tests/test_gpu\.py::(\S+) (PASSED|FAILED|SKIPPED|ERROR)", re.MULTILINE)
REASON = re.compile(r"^(?:FAILED|ERROR) tests/test_gpu\.py::(\S+) - (.*)$", re.MULTILINE)
ON_A_CPU = "not an_epoch and not bit and not together and not precisions or BiomedDPT"  # one method stands for all


@dataclass(frozen=True)
class Part:
    """One step of a run.

    Attributes:
        least: seconds without which it is not begun.
        only_gpu: why it is left out on a CPU; empty for one that is not.
    """

    call: Step
    least: float = 20.0
    only_gpu: str = ""


def measured(call: str, **arguments: Any) -> Step:
    """A step that is a function of a module of :mod:`benchmarks`, in a process of its own."""
    return lambda setting, seconds: in_process(setting, call, timeout=seconds, **arguments)


def both(call: str) -> Step:
    """The same of ours and of the reference mode, which share the time."""

    def step(setting: Setting, seconds: float) -> dict[str, Any]:
        end = time.monotonic() + seconds
        return {mode: in_process(setting, call, timeout=end - time.monotonic(), mode=mode) for mode in ("ours", "reference")}

    return step


def tests(setting: Setting, seconds: float) -> dict[str, Any]:
    """The tests marked ``gpu``: outcome of each, and why one failed. What is done when the time ends counts."""
    log = setting.folder("logs") / "tests.log"
    on_cpu = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    choice = ["-k", ON_A_CPU] if on_cpu and setting.quick else []
    words = [sys.executable, "-m", "pytest", "tests/test_gpu.py", "-o", "addopts=", "-v", "-m", "gpu", "-rfE", "--tb=short",
             "--show-capture=no", "-p", "no:cacheprovider", *choice]  # fmt: skip
    env = os.environ | {"COLUMNS": "300"} | ({"GPU_TESTS_ON": "cpu"} if on_cpu else {})
    cut = False
    with open(log, "w") as file:
        try:
            subprocess.run(words, cwd=REPO, env=env, stdout=file, stderr=subprocess.STDOUT, timeout=seconds)
        except subprocess.TimeoutExpired:
            cut = True
    text = log.read_text()
    found = dict(OUTCOME.findall(text))
    if not found:
        raise MeasurementFailed("no test ran:\n" + "\n".join(text.splitlines()[-12:]))
    return {"outcomes": found, "reasons": dict(REASON.findall(text)), "cut": cut, "output": text}


GRAPHS = "CUDA graphs are a GPU's"
PARTS: dict[str, Part] = {
    "tests": Part(tests),
    "rates": Part(measured("gpu.measure:rates")),
    "steps-eager": Part(measured("gpu.measure:steps", variant="eager")),
    "base2new-first": Part(lambda setting, seconds: whole.base2new(setting, "first", seconds)),
    "base2new-stored": Part(lambda setting, seconds: whole.base2new(setting, "stored", seconds)),
    "steps-bf16": Part(measured("gpu.measure:steps", variant="bf16")),
    "steps-graphs": Part(measured("gpu.measure:steps", variant="graphs"), only_gpu=GRAPHS),
    "seeds": Part(measured("gpu.measure:seeds")),
    "profile": Part(measured("gpu.measure:profiles")),
    "steps-reference": Part(measured("gpu.measure:steps", variant="reference")),
    "base2new-reference": Part(lambda setting, seconds: whole.base2new(setting, "reference", seconds)),
    "evaluation": Part(both("evaluation:evaluations")),
    "memory": Part(both("gpu.measure:memory"), least=60.0),
    "compare-together": Part(lambda setting, seconds: whole.compare(setting, True, seconds), least=30.0),
    "compare": Part(lambda setting, seconds: whole.compare(setting, False, seconds), least=30.0),
}
