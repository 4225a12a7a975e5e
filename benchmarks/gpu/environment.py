"""An interpreter that has all that the runs need: the one that runs this, or an environment on top of it made from wheels.

    python3 benchmarks/gpu/environment.py WHEELS    # prints the interpreter's path; what it does goes to standard error

WHEELS is a folder that ``benchmarks/gpu.sh pack`` filled. Standard library only: the interpreter may have nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import site
import subprocess
import sys
import tempfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
NEEDED = ("torch", "torchvision", "transformers", "open_clip", "timm", "yacs", "sklearn", "tabulate", "pytest")


class CannotRun(Exception):
    """Why there is no interpreter to run with, in a line."""


def missing() -> list[str]:
    """What this interpreter lacks of :data:`NEEDED`."""
    return [name for name in NEEDED if find_spec(name) is None]


def said(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def python_for(wheels: Path) -> str:
    """The interpreter's path.

    Raises:
        CannotRun: packages are missing, and the wheels are absent or of another Python.
    """
    path = wheels / MANIFEST
    lacking = missing()
    hint = "make them where there is a package registry: bash benchmarks/gpu.sh pack"
    if not path.is_file():
        if lacking:
            raise CannotRun(f"{sys.executable} lacks {', '.join(lacking)}, and there are no wheels in {wheels}: {hint}")
        said(f"no wheels in {wheels}: {sys.executable} has what is needed")
        return sys.executable
    manifest = json.loads(path.read_text())
    version = ".".join(map(str, sys.version_info[:2]))
    if version != manifest["python"]:
        if lacking:
            wrong = f"the wheels in {wheels} are for Python {manifest['python']}, not {version}"
            raise CannotRun(f"{sys.executable} lacks {', '.join(lacking)}, and {wrong}: {hint}")
        said(f"the wheels in {wheels} are for Python {manifest['python']}: {sys.executable} ({version}) is used as it is")
        return sys.executable
    for name, expected in manifest["expected"].items():
        told(name, expected)
    return environment(wheels, manifest)


def told(name: str, expected: str) -> None:
    """Say where a package that must be there is another one than was expected."""
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        found = "absent"
    if not f"{found}.".startswith(f"{expected}."):
        said(f"expected here: {name} {expected}; found: {found}")


def environment(wheels: Path, manifest: dict[str, Any]) -> str:
    """An environment with the wheels, on top of this interpreter's packages; one that is there is used again."""
    key = hashlib.sha256(json.dumps([sys.prefix, manifest], sort_keys=True).encode()).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"biomed-dpt-gpu-{key[:12]}"
    python = folder / "bin" / "python"
    if (folder / "ready").is_file():
        said(f"environment: {folder}")
        return str(python)
    said(f"installing {len(manifest['packages'])} wheels into {folder}")
    subprocess.run(
        [sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", "--clear", str(folder)], check=True
    )
    (packages,) = folder.glob("lib/python3*/site-packages")
    # where this interpreter is an environment itself, its packages are not the system's
    (packages / "below.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    files = [str(one) for one in sorted(wheels.glob("*.whl"))]
    install = ["install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check"]
    done = subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install, *files], stdout=sys.stderr)
    if done.returncode:
        raise CannotRun(f"pip could not install the wheels of {wheels} into {folder} (its words are above)")
    (folder / "ready").touch()
    return str(python)


def main() -> int:
    """Exit status: 0 done, 2 there is no interpreter to run with (told in one line on standard error)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", type=Path, help="a folder of wheels; it need not be there where nothing is missing")
    wheels = parser.parse_args().wheels
    try:
        print(python_for(wheels))
    except CannotRun as error:
        said(f"error: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
