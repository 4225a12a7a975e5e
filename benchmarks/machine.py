"""Which machine the numbers are of."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from benchmarks.setting import Setting
from runs.records import git_revision, versions


def describe(setting: Setting) -> dict[str, Any]:
    """Processor, cores, threads, memory, GPU ("" where there is none), versions, revision, other load."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "load_at_start": os.getloadavg()[0],
        "versions": versions(),
        "git": git_revision(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
