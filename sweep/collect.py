"""Runs from a machine that shares no disk: their files as bytes, and back into a folder of runs, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from analysis.results import RESULTS, DamagedRun, read_whole_record
from dassl.utils import UserError, atomic

ASIDE = ".collect-"  # folders in which a run is put together

Files = dict[str, dict[str, bytes]]  # a run's folder, from that of all runs -> path in it -> content


def files_of_runs(output: str | Path, folders: Iterable[str]) -> Files:
    """All regular files of runs.

    Args:
        output: folder of all runs.
        folders: of the runs, from ``output``.
    """
    found: Files = {}
    for folder in folders:
        place = Path(output) / folder
        paths = [path for path in sorted(place.rglob("*")) if path.is_file() and not path.is_symlink()]
        found[folder] = {path.relative_to(place).as_posix(): path.read_bytes() for path in paths}
    return found


def write_runs(output: str | Path, runs: Mapping[str, Mapping[str, bytes]]) -> None:
    """Put runs into a folder of runs; one that is there and whole stays as it is.

    A run is put together beside the others and moved to its place, its results file last of all.

    Raises:
        UserError: a path that leads out of the folder.
        OSError: it cannot be written.
    """
    for path in (path for folder, files in runs.items() for path in (folder, *files)):
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\0" in path or path in ("", "."):
            raise UserError(f"a file that a machine of the cluster sent lies outside {output}: {path[:80]!a}")
    for folder, files in runs.items():
        _write_run(Path(output), folder, files)


def _write_run(output: Path, folder: str, files: Mapping[str, bytes]) -> None:
    target = output / folder
    try:
        read_whole_record(target)
        return
    except DamagedRun:  # not there, or not whole: this one takes its place
        output.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=output))
    try:
        for name, content in files.items():
            if name != RESULTS:
                path = aside / "new" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        if os.path.lexists(target):
            target.replace(aside / "old")
        target.parent.mkdir(parents=True, exist_ok=True)
        (aside / "new").mkdir(exist_ok=True)
        (aside / "new").replace(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    if RESULTS in files:
        with atomic(target / RESULTS) as temporary:
            Path(temporary).write_bytes(files[RESULTS])


def remove_rests(output: str | Path) -> None:
    """Remove what a killed sweep left of runs that it was putting together."""
    for rest in Path(output).glob(f"{ASIDE}*"):
        shutil.rmtree(rest, ignore_errors=True)
