"""How far the run in a folder has come: done, unfinished, trained with others, or not even built."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from analysis.results import CONFIG, DamagedRun, read_whole_record
from dassl.utils import last_good, read_json, write_json
from trainers.checkpoints import LEARNER

MARK = "seeds_together.json"  # beside a run's checkpoints


def is_complete(folder: str | Path) -> bool:
    """Whether the run's results file is there and whole, and with it every file that it names."""
    try:
        read_whole_record(folder)
    except DamagedRun:
        return False
    return True


def finished_epochs(folder: str | Path) -> int:
    """After which epoch the run in ``folder`` goes on; 0 where it starts.

    Raises:
        UserError: none of its checkpoints can be read.
    """
    learned = Path(folder) / LEARNER
    if not (learned / "checkpoint").is_file():
        return 0
    return int(last_good(str(learned))[1]["epoch"])


def begin_anew(folder: str | Path) -> None:
    """Remove what an unfinished run has learned so far, so that it starts at its first epoch; a finished one is left alone."""
    learned = Path(folder) / LEARNER
    if learned.is_dir() and not is_complete(folder):
        shutil.rmtree(learned)
        print(f"begun anew: {folder}")


def mark(folder: str | Path, seeds: Sequence[int]) -> None:
    """Keep, beside the run's checkpoints, that they are of ``seeds`` trained together."""
    write_json(sorted({*seeds, *marked(folder)}), str(Path(folder) / LEARNER / MARK))


def marked(folder: str | Path) -> list[int]:
    """The seeds that :func:`mark` named; empty for a run of its own."""
    path = Path(folder) / LEARNER / MARK
    return read_json(str(path)) if path.is_file() else []


def forget_lost(folder: str | Path) -> None:
    """Remove the mark of a run that was killed before its first checkpoint: it starts again."""
    if not finished_epochs(folder):
        (Path(folder) / LEARNER / MARK).unlink(missing_ok=True)


def discard_unbuilt(folder: str | Path, log_file: str | Path) -> None:
    """Remove ``log_file`` of a run that ended before anything was built, and the folders that it leaves empty."""
    folder = Path(folder)
    if (folder / CONFIG).is_file() or not folder.is_dir():
        return
    Path(log_file).unlink(missing_ok=True)
    for place in (folder, *folder.parents):
        try:
            place.rmdir()
        except OSError:  # not empty
            return
