"""The machine: Python and its packages, GPU, threads, disks, stored features."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from doctor.findings import FAIL, OK, SETUP, WARN, Asked, Finding

REPO = Path(__file__).resolve().parents[1]
LOWEST, LOCKED = (3, 10), (3, 13)  # Python versions: that the code needs, and the last that requirements.lock is for
LOW_DISK = 5e9  # bytes: less than the largest archive with its images


def python(_: Asked) -> Iterator[Finding]:
    version = sys.version_info[:2]
    said = f"{'.'.join(map(str, sys.version_info[:3]))}, {sys.executable}"
    if version < LOWEST:
        yield Finding(FAIL, "Python", said, "3.10 or newer is needed: PYTHON=/path/to/python3 bash scripts/setup.sh")
    elif version > LOCKED:
        yield Finding(
            WARN, "Python", said, "requirements.lock is for 3.10 to 3.13: bash scripts/setup.sh takes the newest instead"
        )
    else:
        yield Finding(OK, "Python", said)


def packages(_: Asked) -> Iterator[Finding]:
    """Installed versions against requirements.txt, which must hold, and requirements.lock, on which the tests run."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        yield Finding(FAIL, "packages", "packaging is not installed, nor is much else", SETUP)
        return
    needed = _lines(REPO / "requirements.txt", Requirement)
    locked = _lines(REPO / "requirements.lock", Requirement)
    absent, low, other = [], [], []
    for wanted in needed:
        have = _version(wanted.name)
        if have is None:
            absent.append(wanted.name)
        elif not wanted.specifier.contains(have, prereleases=True):
            low.append(f"{wanted.name} {have} ({wanted.specifier})")
    for pinned in locked:
        have = _version(pinned.name)
        if have and not pinned.specifier.contains(have, prereleases=True):
            other.append(f"{pinned.name} {have} ({str(pinned.specifier).lstrip('=')})")
    if absent or low:
        said = [f"absent: {', '.join(absent)}"] * bool(absent) + [f"too old: {', '.join(low)}"] * bool(low)
        yield Finding(FAIL, "packages", "; ".join(said), SETUP)
    elif other:
        shown = ", ".join(other[:4]) + (", …" if len(other) > 4 else "")
        said = f"{len(other)} of {len(locked)} are not as in requirements.lock: {shown}"
        yield Finding(WARN, "packages", said, f"{SETUP} for the versions that the tests run on")
    else:
        yield Finding(OK, "packages", f"all {len(locked)} as in requirements.lock")


def _lines(path: Path, parse: Callable[[str], object]) -> list:
    """The requirements of a file that hold for this Python and system, ./engine left out."""
    text = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    found = [parse(line) for line in text if line and not line.startswith((".", "-"))]
    return [one for one in found if one.marker is None or one.marker.evaluate()]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def engine(_: Asked) -> Iterator[Finding]:
    from runs.own_dassl import ENGINE, other_dassl

    said = other_dassl()
    if said:
        yield Finding(FAIL, "dassl", said)
    else:
        yield Finding(OK, "dassl", f"this project's, {ENGINE}")


def gpu(_: Asked) -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = f"none seen by torch {torch.__version__}" + ("" if built else ", which is built without CUDA")
        yield Finding(WARN, "GPU", f"{why}: runs go on the CPU", "docs/PERFORMANCE.md says what that costs")
        return
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        free = torch.cuda.mem_get_info(number)[0]
        said = f"{about.name}, {free / 1e9:.0f} of {about.total_memory / 1e9:.0f} GB free"
        if free < 4e9:
            yield Finding(WARN, f"GPU {number}", said, "another process holds its memory: nvidia-smi names it")
        else:
            yield Finding(OK, f"GPU {number}", said)


def threads(_: Asked) -> Iterator[Finding]:
    import torch

    from backbones.threads import given
    from dassl.utils import cores

    used, load = torch.get_num_threads(), os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    said = f"{used} of torch on {cores()} cores ({given() or '1 for small towers'}), load {load:.1f}"
    if used > cores():
        yield Finding(WARN, "threads", said, f"more threads than cores slow each other down: export OMP_NUM_THREADS={cores()}")
    elif load > 1.5 * cores():
        mend = f"unset {given()}, or OMP_NUM_THREADS=1" if given() else "they have it; large ones wait for the other work"
        yield Finding(WARN, "threads", said, f"other work is on this machine: small models are faster with one thread: {mend}")
    else:
        yield Finding(OK, "threads", said)


def disk(asked: Asked) -> Iterator[Finding]:
    from features.disk import default_root

    for what, folder in (("data", asked.root), ("output", asked.output), ("cache", default_root())):
        place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(place).free
        said = f"{folder}{'' if folder.exists() else ' (not there yet)'}, {free / 1e9:.0f} GB free"
        if not place.is_dir():
            yield Finding(FAIL, what, f"{folder}: {place} is no folder", "move it away, or name another folder")
        elif not os.access(place, os.W_OK):
            state = WARN if what == "data" else FAIL
            yield Finding(state, what, f"{said}, read-only", _elsewhere(what))
        elif free < LOW_DISK:
            yield Finding(WARN, what, said, f"make room, or {_elsewhere(what)}")
        else:
            yield Finding(OK, what, said)


def _elsewhere(what: str) -> str:
    return {
        "data": "runs read it as it is; to download into another folder: --root (DATA=…)",
        "output": "write to another folder: OUTPUT=… for the scripts",
        "cache": "name another folder: BIOMED_DPT_CACHE=…; or remove old features: python -m features prune --max-gb 1",
    }[what]


def stored(_: Asked) -> Iterator[Finding]:
    from features.disk import default_root, spaces

    root = default_root()
    held = spaces(root) if root.is_dir() else []
    said = f"{sum(space['segments'] for space in held)} files, {sum(space['bytes'] for space in held) / 1e6:.0f} MB in {root}"
    yield Finding(OK, "features", said)
