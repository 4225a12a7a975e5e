"""The wheels that a GPU machine without a package registry lacks.

    python -m benchmarks.gpu.pack .gpu      # bash benchmarks/gpu.sh pack

That machine is expected to have PyTorch, torchvision, transformers, onnx and safetensors with what these need, for the Python
named in :data:`EXPECTED`. Everything else of requirements.txt comes along in the versions of this environment, the most needed
first, as long as all of it stays below :data:`LIMIT`; what had to stay is named. Test suites inside packages are left out.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.gpu.environment import MANIFEST

REPO = Path(__file__).parents[2]
EXPECTED = {"torch": "2.11", "torchvision": "0.26", "transformers": "5", "onnx": "1", "safetensors": "0"}  # there already
PYTHON, PLATFORMS = "3.12", ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64",
                             "manylinux1_x86_64")  # fmt: skip
LIMIT = 50_000_000  # bytes
# in order of need: training and tables; tests; files on the way; then what single steps need, as long as it fits
FIRST = ("open_clip_torch", "timm", "yacs", "ftfy", "tabulate", "scikit-learn", "scipy", "pytest", "gdown")
THEN = ("onnxscript", "hypothesis", "tensorboard", "matplotlib", "onnxruntime")
TARGET = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0", "platform_system": "Linux", "sys_platform": "linux",
          "os_name": "posix", "platform_machine": "x86_64", "implementation_name": "cpython",
          "platform_python_implementation": "CPython", "extra": ""}  # fmt: skip


def needed_by(names: Iterable[str]) -> list[str]:
    """The packages and all that they need on the target, as installed here; canonical names in order of first need."""
    found: dict[str, None] = {}
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop(0)
        if name in found:
            continue
        found[name] = None
        wanted = map(Requirement, metadata.distribution(name).requires or [])
        waiting += [canonicalize_name(one.name) for one in wanted if one.marker is None or one.marker.evaluate(TARGET)]
    return list(found)


def download(name: str, folder: Path) -> Path:
    """The package's wheel for the target, in the version that is installed here.

    Raises:
        subprocess.CalledProcessError: pip finds none; its words are on the terminal.
    """
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
             "--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp",
             *(word for one in PLATFORMS for word in ("--platform", one)), "-d", str(folder)]  # fmt: skip
    before = set(folder.iterdir())
    subprocess.run([*words, f"{name}=={metadata.version(name)}"], check=True)
    (wheel,) = set(folder.iterdir()) - before
    return wheel


def slimmed(wheel: Path, target: Path) -> Path:
    """A copy of the wheel in ``target`` without the test suites inside the package; its RECORD agrees."""
    slim = target / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(slim, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        for entry in old.infolist():
            if _is_test(entry.filename):
                continue
            content = old.read(entry)
            if re.fullmatch(r"[^/]+\.dist-info/RECORD", entry.filename):
                kept = [line for line in content.decode().splitlines() if not _is_test(line.split(",")[0])]
                content = ("\n".join(kept) + "\n").encode()
            new.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return slim


def _is_test(path: str) -> bool:
    return "/tests/" in path


def pack(target: Path) -> dict[str, Any]:
    """Fill ``target`` anew; returns its manifest."""
    there = set(needed_by([*EXPECTED, "pip"]))
    packages: dict[str, str] = {}
    left: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix=".gpu-", dir=target.parent) as scratch:
        full, new = Path(scratch) / "full", Path(scratch) / "new"
        full.mkdir()
        new.mkdir()
        size = 0
        for wanted in (*FIRST, *THEN):
            names = [name for name in needed_by([wanted]) if name not in there and name not in packages]
            wheels = [slimmed(download(name, full), new) for name in names]
            more = sum(wheel.stat().st_size for wheel in wheels)
            if size + more > LIMIT:
                for wheel in wheels:
                    wheel.unlink()
                left[wanted] = f"{more / 1e6:.1f} MB with what it needs"
                continue
            size += more
            packages |= {name: metadata.version(name) for name in names}
        absent = [name for name in FIRST if name in left]
        if absent:
            raise ValueError(f"{', '.join(absent)} do not fit into {LIMIT / 1e6:.0f} MB")
        manifest = {"python": PYTHON, "expected": EXPECTED, "packages": packages, "left_out": left, "bytes": size}
        (new / MANIFEST).write_text(json.dumps(manifest, indent=1))
        shutil.rmtree(target, ignore_errors=True)
        new.rename(target)
    return manifest


def report(target: Path, manifest: Mapping[str, Any]) -> str:
    """What is in the folder, what is not, and what must be there."""
    lines = [
        f"{len(manifest['packages'])} wheels for Python {manifest['python']} in {target}, {manifest['bytes'] / 1e6:.1f} MB:"
    ]
    lines.append("  " + ", ".join(f"{name} {version}" for name, version in sorted(manifest["packages"].items())))
    expected = ", ".join(f"{name} {version}" for name, version in manifest["expected"].items())
    lines.append(f"expected there: Python {manifest['python']} with {expected} and what they need (torch for its GPU: cu130)")
    for name, size in manifest["left_out"].items():
        lines.append(f"left out: {name} ({size}); what needs it is skipped there, unless the machine has it")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 a wheel could not be had, 2 no folder named."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.pack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="for the wheels; what is there is replaced")
    target = parser.parse_args(argv).folder.resolve()
    try:
        manifest = pack(target)
    except (subprocess.CalledProcessError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report(target, manifest))
    return 0


if __name__ == "__main__":
    sys.exit(main())
