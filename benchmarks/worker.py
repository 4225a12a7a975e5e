"""One measurement in a process of its own: ``python -m benchmarks.worker TASK.JSON-TEXT OUT.JSON``.

What the process costs before it measures anything (imports, memory) is measured here and goes into the result.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path

from benchmarks.setting import Setting


def peak_bytes() -> int:
    """The largest resident set so far.

    Linux's VmHWM is of this program alone; ru_maxrss, its counterpart elsewhere, starts at the parent's there.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(argv: list[str]) -> int:
    """Run one task and write its result; an error is left to end the process."""
    task, out = json.loads(argv[0]), Path(argv[1])
    setting = Setting(**task["setting"])
    process: dict[str, float] = {"start_bytes": peak_bytes()}
    started = time.perf_counter()
    import train  # noqa: F401
    import trainers.config  # noqa: F401  (all that train.py imports before it builds)

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
