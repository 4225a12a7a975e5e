"""The process of one slot: started by Ray on a machine of the cluster, it does unit after unit and keeps its backbone."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sweep.jobs import Unit
from sweep.outcome import Outcome, Place

REPO = Path(__file__).parents[1]
# what decides the numbers of a run
CODE = ("analysis", "backbones", "configs", "datasets", "engine", "features", "runs", "sweep", "trainers")
SUFFIXES = (".py", ".yaml", ".json")

Perform = Callable[[Unit, Place], Outcome]


@dataclass(frozen=True)
class Start:
    """What a slot is started with.

    Attributes:
        folder: the driver's working folder, from which relative paths count.
        code: :func:`code_hash` of the driver's checkout.
        threads: of torch.
        collect: name of a folder for runs on the slot's own disk, ``<sweep>/<this call of it>``; empty where disks are shared.
    """

    folder: str
    code: str
    threads: int
    collect: str = ""


@dataclass(frozen=True)
class Greeting:
    """Where a slot's process is, and why it cannot work; empty where it can."""

    host: str
    pid: int
    said: str = ""


class Slot:
    """Runs one method at a time; ``ray.remote`` makes an actor of it."""

    def __init__(self, start: Start) -> None:
        self.start = start

    def greet(self) -> Greeting:
        """Move into the driver's working folder and compare the code."""
        return Greeting(socket.gethostname(), os.getpid(), self._fault())

    def _fault(self) -> str:
        try:
            os.chdir(self.start.folder)
        except OSError as error:
            return f"the folder {self.start.folder}, from which the sweep was started, is not there ({error.strerror})"
        if code_hash() != self.start.code:
            return f"the checkout at {REPO} is not the one that the sweep was started from: bring both to one state"
        return ""

    def work(self, unit: Unit, place: Place, do: Perform) -> tuple[Outcome, dict[str, dict[str, bytes]]]:
        """Do a unit; what became of it and, of a machine that shares no disk, the files of its runs."""
        torch = sys.modules.get("torch")  # ``do`` brought it, or has no need of it
        if torch is not None:
            torch.set_num_threads(self.start.threads)
        if not self.start.collect:
            return do(unit, place), {}
        from sweep.collect import files_of_runs

        own = scratch(self.start.collect)
        _remove_older(own)
        own.mkdir(parents=True, exist_ok=True)
        outcome = do(unit, replace(place, output=str(own)))
        folders = [] if outcome.said else [folder for of_job in outcome.folders.values() for folder in of_job]
        return outcome, files_of_runs(own, folders)

    def clear(self) -> None:
        """Remove the runs on the slot's own disk: the driver has them."""
        if self.start.collect:
            shutil.rmtree(scratch(self.start.collect), ignore_errors=True)


def scratch(name: str) -> Path:
    """Where a machine that shares no disk keeps the runs of a sweep until its end: beside the feature store."""
    from features.disk import default_root

    return default_root().parent / "collected" / name


def _remove_older(own: Path) -> None:
    """What killed calls of the same sweep left: they may be of other code, and the driver has no use for them."""
    for other in own.parent.glob("*"):
        if other != own:
            shutil.rmtree(other, ignore_errors=True)


def code_hash() -> str:
    """SHA-256 over the code, the config files and the prompts of this checkout."""
    total = hashlib.sha256()
    paths = (path for room in CODE for path in (REPO / room).rglob("*") if path.suffix in SUFFIXES)
    for path in sorted(paths):
        total.update(f"{path.relative_to(REPO)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
