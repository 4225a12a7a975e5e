"""The journal of a sweep: ``OUTPUT/sweep.db``, an SQLite file to which every attempt is appended and nothing is changed.

It serves people and plans: what ran where and for how long. The results files say what is done; a journal that is lost or
damaged costs the past attempts and the rates, no result.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweep.jobs import Job, job_of

NAME = "sweep.db"
START, DONE, FAILED, LOST, FOUND, STOPPED = "start", "done", "failed", "lost", "found", "stopped"
TABLES = """
CREATE TABLE IF NOT EXISTS grids (hash TEXT, names TEXT, at REAL, jobs TEXT);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, at REAL, kind TEXT, grid TEXT, job TEXT, title TEXT, attempt INTEGER, host TEXT, slot TEXT,
    pid INTEGER, seconds REAL, peak_mb REAL, folders TEXT, said TEXT
);
CREATE INDEX IF NOT EXISTS of_job ON events (job, kind);
"""
COLUMNS = ("at", "kind", "grid", "job", "title", "attempt", "host", "slot", "pid", "seconds", "peak_mb", "folders", "said")


@dataclass(frozen=True)
class Event:
    """One line of the journal.

    Attributes:
        kind: start, done, failed (an error ended the run), lost (the process or machine went), found (done by others),
            stopped (the whole sweep was, by a person).
        seconds, peak_mb: of the attempt that ended; peak memory of its process so far, in MB.
        folders: of the runs, from the folder of all runs.
        said: the error.
    """

    kind: str
    job: str
    title: str = ""
    grid: str = ""
    attempt: int = 1
    host: str = field(default_factory=socket.gethostname)
    slot: str = "0"
    pid: int = field(default_factory=os.getpid)
    seconds: float | None = None
    peak_mb: float | None = None
    folders: tuple[str, ...] = ()
    said: str = ""
    at: float = field(default_factory=time.time)


class Journal:
    """Appends to and reads from the journal below ``output``; a damaged one is put aside, and ``put_aside`` names it.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, output: str | Path) -> None:
        self.path = Path(output) / NAME
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.put_aside: Path | None = None
        try:
            self._base = self._open()
        except sqlite3.DatabaseError:
            self.put_aside = self.path.with_name(f"{NAME}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
            self.path.replace(self.put_aside)
            for rest in ("-wal", "-shm"):
                self.path.with_name(NAME + rest).unlink(missing_ok=True)
            self._base = self._open()

    def _open(self) -> sqlite3.Connection:
        if not os.access(self.path.parent, os.W_OK):
            raise PermissionError(13, "Permission denied", str(self.path))
        base = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            base.execute("PRAGMA journal_mode=WAL")
            base.execute("PRAGMA synchronous=NORMAL")
            base.executescript(TABLES)
            if base.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("damaged")
            base.execute(f"SELECT {', '.join(COLUMNS)} FROM events LIMIT 1")
            base.execute("SELECT hash, names, at, jobs FROM grids LIMIT 1")
        except sqlite3.DatabaseError:
            base.close()
            raise
        return base

    def close(self) -> None:
        self._base.close()

    # -- writing ------------------------------------------------------------------------------------------

    def add(self, *events: Event) -> None:
        """Append."""
        rows = [
            tuple(json.dumps(event.folders) if name == "folders" else getattr(event, name) for name in COLUMNS)
            for event in events
        ]
        marks = ", ".join("?" * len(COLUMNS))
        with self._base:
            self._base.execute("BEGIN")
            self._base.executemany(f"INSERT INTO events ({', '.join(COLUMNS)}) VALUES ({marks})", rows)

    def add_grid(self, grid: str, names: Sequence[str], jobs: Iterable[Job]) -> None:
        """Keep what a sweep is asked for, so that ``status`` needs no more than the folder."""
        listed = json.dumps([job.as_data() for job in jobs])
        self._base.execute("INSERT INTO grids VALUES (?, ?, ?, ?)", (grid, " ".join(names), time.time(), listed))

    # -- reading ------------------------------------------------------------------------------------------

    def folders(self) -> dict[str, tuple[str, ...]]:
        """Job -> folders of its runs, of all that ended well."""
        rows = self._base.execute("SELECT job, folders FROM events WHERE kind IN (?, ?) ORDER BY id", (DONE, FOUND))
        return {job: tuple(json.loads(folders)) for job, folders in rows}

    def latest_grid(self) -> tuple[str, str, list[Job]] | None:
        """Hash, names and jobs of the sweep that was started last; ``None`` where none was."""
        row = self._base.execute("SELECT hash, names, jobs FROM grids ORDER BY rowid DESC LIMIT 1").fetchone()
        return None if row is None else (row[0], row[1], [job_of(data) for data in json.loads(row[2])])

    def last_events(self) -> dict[str, Event]:
        """The last event of each job."""
        rows = self._base.execute(
            f"SELECT {', '.join(COLUMNS)} FROM events WHERE id IN (SELECT MAX(id) FROM events GROUP BY job)"
        )
        return {event.job: event for event in map(_event, rows)}

    def losses(self) -> dict[str, int]:
        """How often each job took its process or machine along since it was last asked for anew.

        A start without an end counts: the whole sweep was killed in it, perhaps by this job.
        """
        kinds: dict[str, list[str]] = {}
        for job, kind in self._base.execute("SELECT job, kind FROM events ORDER BY id"):
            kinds.setdefault(job, []).append(kind)
        return {job: _losses(own) for job, own in kinds.items()}

    def seconds(self) -> list[tuple[str, float]]:
        """(title of the job, seconds) of every run that ended well."""
        rows = self._base.execute("SELECT title, seconds FROM events WHERE kind = ? AND seconds IS NOT NULL", (DONE,))
        return [(str(title), float(seconds)) for title, seconds in rows]

    def recent(self, kinds: Sequence[str] = (DONE,), since: float = 0.0) -> list[float]:
        """When the events of these kinds since ``since`` happened."""
        marks = ", ".join("?" * len(kinds))
        rows = self._base.execute(f"SELECT at FROM events WHERE kind IN ({marks}) AND at >= ? ORDER BY id", (*kinds, since))
        return [at for (at,) in rows]


def _event(row: Sequence[Any]) -> Event:
    facts: Mapping[str, Any] = dict(zip(COLUMNS, row, strict=True))
    return Event(**{**facts, "folders": tuple(json.loads(facts["folders"] or "[]"))})


def _losses(kinds: Sequence[str]) -> int:
    """Starts without an end, the lost ones among them, since the job last ended by itself."""
    count, open_start = 0, False
    for kind in kinds:
        if kind == START:
            count += open_start
            open_start = True
        elif kind == LOST:
            count += 1
            open_start = False
        elif kind == STOPPED:  # by a person
            open_start = False
        else:
            count, open_start = 0, False
    return count + open_start


def read_only(output: str | Path) -> Journal | None:
    """The journal below ``output`` for a look; ``None`` where there is none, or none that can be read."""
    path = Path(output) / NAME
    if not path.is_file():
        return None
    base = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)
    try:
        base.execute(f"SELECT {', '.join(COLUMNS)} FROM events LIMIT 1").fetchone()
        base.execute("SELECT hash FROM grids LIMIT 1").fetchone()
    except sqlite3.DatabaseError:
        base.close()
        return None
    journal = Journal.__new__(Journal)  # without what opening it for writing does
    journal.path, journal.put_aside, journal._base = path, None, base
    return journal
