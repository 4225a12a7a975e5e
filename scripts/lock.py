#!/usr/bin/env python3
"""Write requirements.lock: the newest versions that fit requirements.txt and -dev.txt, for each Python that is supported.

    python scripts/lock.py python3.10 python3.11 python3.12 python3.13

Each interpreter's own pip resolves them without installing anything. A version that not all of them took gets
the Pythons that did as its marker.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

REPO = Path(__file__).parents[1]
OURS = "./engine"  # this repository's own line in requirements.txt: installed from the checkout, never locked
LISTS = ("requirements.txt", "requirements-dev.txt")
LINUX = ("nvidia-", "cuda-", "triton")  # what torch needs on Linux alone
HEADER = """\
# Exact versions of what requirements.txt and requirements-dev.txt ask for, and of what that needs; ./engine comes from the
# checkout. Made by scripts/lock.py, installed by scripts/setup.sh --locked. Python {pythons}.
"""


def canonical(name: str) -> str:
    """A distribution's name as all spellings of it are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted() -> list[str]:
    """The lines of both lists that a registry answers."""
    lines = (line.split("#")[0].strip() for name in LISTS for line in (REPO / name).read_text().splitlines())
    return [line for line in lines if line and line != OURS]


def resolved(python: str) -> tuple[str, dict[str, str]]:
    """``("3.11", {name: version})`` of what ``python``'s pip would install."""
    call = [python, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-", *wanted()]
    report = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    found = {canonical(one["metadata"]["name"]): one["metadata"]["version"] for one in report["install"]}
    return ".".join(report["environment"]["python_full_version"].split(".")[:2]), found


def spans(pythons: list[str], everywhere: list[str]) -> list[str]:
    """Markers of the unbroken runs of ``pythons`` within ``everywhere``; of all of it: one empty marker."""
    runs: list[list[str]] = []
    for python in everywhere:
        if python not in pythons:
            continue
        if runs and everywhere.index(runs[-1][-1]) + 1 == everywhere.index(python):
            runs[-1].append(python)
        else:
            runs.append([python])
    markers = []
    for run in runs:
        first, last = run[0] == everywhere[0], run[-1] == everywhere[-1]
        ends = [] if first else [f'python_version >= "{run[0]}"']
        ends += [] if last else [f'python_version <= "{run[-1]}"']
        markers.append(f'python_version == "{run[0]}"' if len(run) == 1 and not (first or last) else " and ".join(ends))
    return markers


def merged(by_python: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Lines ``name==version[; marker]`` in alphabetical order.

    Args:
        by_python: ``{"3.10": {name: version}, …}``, the oldest Python first.
    """
    lines = []
    for name in sorted({name for found in by_python.values() for name in found}):
        takers: dict[str, list[str]] = {}
        for python, found in by_python.items():
            if name in found:
                takers.setdefault(found[name], []).append(python)
        for version, pythons in takers.items():
            for span in spans(pythons, list(by_python)):
                markers = ['sys_platform == "linux"'] if name.startswith(LINUX) else []
                markers += [span] if span else []
                lines.append(f"{name}=={version}" + (f"; {' and '.join(markers)}" if markers else ""))
    return lines


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="+", metavar="PYTHON", help="interpreters, the oldest first")
    by_python = dict(resolved(python) for python in parser.parse_args(argv).pythons)
    text = HEADER.format(pythons=", ".join(by_python)) + "\n".join(merged(by_python)) + "\n"
    (REPO / "requirements.lock").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
