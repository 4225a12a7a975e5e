"""One measurement in a process of its own: ``python -m benchmarks.worker TASK.JSON-TEXT OUT.JSON``.

What the process costs before it measures anything (imports, memory) is measured here and goes into the result.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from benchmarks.setting import Setting

STATUS = Path("/proc/self/status")
SAMPLE_S = 0.02


def status_bytes(name: str) -> int:
    """A line of /proc/self/status that counts memory; 0 where it is not there."""
    return 1024 * next((int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:")), 0)


def peak_bytes() -> int:
    """The largest resident set so far.

    Linux's VmHWM is of this program alone; ru_maxrss, its counterpart elsewhere, starts at the parent's there.
    """
    if STATUS.is_file():
        return status_bytes("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class OwnMemory:
    """While open, watches how much resident memory no file backs: what a system in need cannot drop and read again.

    Attributes:
        peak: in bytes, looked at every 20 ms; 0 where Linux does not tell.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        over = not STATUS.is_file()
        while not over:
            self.peak = max(self.peak, status_bytes("RssAnon"))
            over = self._over.wait(SAMPLE_S)

    def __enter__(self) -> OwnMemory:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()


def main(argv: list[str]) -> int:
    """Run one task and write its result; an error is left to end the process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker", description=__doc__)
    parser.add_argument("task", type=json.loads, help="setting, call and arguments, as benchmarks.setting.isolated writes them")
    parser.add_argument("out", type=Path, help="file for the result")
    args = parser.parse_args(argv)
    task, out = args.task, args.out
    setting = Setting(**task["setting"])
    process: dict[str, float] = {"start_bytes": peak_bytes()}
    started = time.perf_counter()
    import runs.protocols  # noqa: F401  (all that train.py imports before it builds)
    import train  # noqa: F401

    process["import_s"] = time.perf_counter() - started
    process["import_bytes"] = peak_bytes()
    import torch

    torch.set_num_threads(setting.threads)
    module, name = task["call"].split(":")
    result = getattr(importlib.import_module(f"benchmarks.{module}"), name)(setting, **task["arguments"])
    process["peak_bytes"] = peak_bytes()
    temporary = out.with_suffix(".part")
    temporary.write_text(json.dumps(result | {"process": process}))
    os.replace(temporary, out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
