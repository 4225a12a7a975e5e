"""Files, seeds and system facts."""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import random
import sys
import tempfile
import warnings
from collections.abc import Iterable
from datetime import timedelta
from difflib import SequenceMatcher
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.request import urlretrieve

import numpy as np
import torch

from dassl.utils.errors import UnknownNameError, nearest
from dassl.utils.pixels import read_image as read_image


def mkdir_if_missing(dirname: str) -> None:
    """Create the folder and its parents unless it exists."""
    try:
        os.makedirs(dirname)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise


def check_isfile(fpath: str) -> bool:
    """Whether ``fpath`` is a file; warns when it is not."""
    found = os.path.isfile(fpath)
    if not found:
        warnings.warn(f'No file found at "{fpath}"', stacklevel=2)
    return found


def listdir_nohidden(path: str, sort: bool = False) -> list[str]:
    """Names in a folder that do not begin with a dot."""
    items = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(items) if sort else items


def read_json(fpath: str) -> Any:
    """Parse a JSON file."""
    with open(fpath, encoding="utf-8") as file:
        return json.load(file)


def write_json(obj: Any, fpath: str) -> None:
    """Write a JSON file whole or not at all (temporary name, then rename)."""
    with atomic(fpath) as temporary:
        Path(temporary).write_text(json.dumps(obj, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class atomic:  # noqa: N801  (reads as a statement)
    """``with atomic(path) as temporary:`` write ``temporary``; it becomes ``path`` if all went well."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __enter__(self) -> str:
        if self.path.exists() and not (self.path.is_file() or self.path.is_dir()):  # a device would be gone for everybody
            raise OSError(errno.EINVAL, "not a regular file", str(self.path))
        folder = self.path.parent
        mkdir_if_missing(str(folder))
        handle, self.temporary = tempfile.mkstemp(dir=folder, prefix=f".{self.path.name}.")
        os.close(handle)
        os.chmod(self.temporary, 0o644)
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, OSError) and error.filename in (None, self.temporary):
            error.filename = str(self.path)  # a full disk is told of the file that was wanted
        try:
            if kind is None:
                os.replace(self.temporary, self.path)
        except OSError as failed:
            failed.filename, failed.filename2 = str(self.path), None
            raise
        finally:
            if os.path.exists(self.temporary):
                os.unlink(self.temporary)


def set_random_seed(seed: int) -> None:
    """Seed ``random``, NumPy and PyTorch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def collect_env_info() -> str:
    """Versions and devices, one per line."""
    lines = [f"Python: {platform.python_version()} ({sys.executable})", f"Platform: {platform.platform()}"]
    for package in ("torch", "torchvision", "numpy", "pillow", "dassl"):
        try:
            lines.append(f"{package}: {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            lines.append(f"{package}: not installed")
    lines.append(f"CUDA available: {torch.cuda.is_available()}")
    for index in range(torch.cuda.device_count()):
        lines.append(f"GPU {index}: {torch.cuda.get_device_name(index)}")
    lines.append(f"CPU threads: {torch.get_num_threads()}")
    return "\n".join(lines)


def format_eta(seconds: float) -> str:
    """``h:mm:ss``."""
    return str(timedelta(seconds=int(seconds)))


def download_url(url: str, dst: str) -> None:
    """Fetch ``url`` into the file ``dst``: whole or not at all."""
    with atomic(dst) as temporary:
        urlretrieve(url, temporary)


def get_most_similar_str_to_a_from_b(a: str, b: Iterable[str]) -> str | None:
    """The string of ``b`` most like ``a``, the later of two that are equally like it; ``None`` if ``b`` is empty."""
    return max(reversed(list(b)), key=lambda candidate: SequenceMatcher(None, a, candidate).ratio(), default=None)


def check_availability(requested: str, available: Iterable[str], key: str = "") -> None:
    """Raise an :class:`UnknownNameError` when ``requested``, the value of ``key``, is not among ``available``."""
    available = list(available)
    if requested not in available:
        where = f"{key}: " if key else ""
        raise UnknownNameError(f'{where}"{requested}" is unknown.{nearest(requested, available)} Valid: {", ".join(available)}')


def tolist_if_not(x: Any) -> list[Any]:
    """``x`` itself when it is a list, else a list of it."""
    return x if isinstance(x, list) else [x]


QUOTA = Path("/sys/fs/cgroup/cpu.max")  # microseconds in each so many, or "max": what a container may take (cgroup 2)


def seen_cores() -> int:
    """How many this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores() -> int:
    """How many this process may use: those that it may run on, or as many of them as its container's share of time is worth."""
    try:
        share, of = map(int, QUOTA.read_text().split())
    except (OSError, ValueError):  # no container, or one without a limit
        return seen_cores()
    return max(1, min(seen_cores(), math.ceil(share / of)))
