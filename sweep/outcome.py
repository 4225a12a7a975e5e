"""Where a sweep works and what became of a unit: plain data, which a wire can hold and no model library has to be read for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Place:
    """Where a sweep reads and writes; the same for all of its jobs."""

    root: str
    output: str
    backbone_path: str = ""
    restart: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a unit.

    Attributes:
        folders: of its runs, from the folder of all runs, by job.
        said: the error in a line; empty where all went well.
        tail: the end of what the failed run printed, and of its traceback.
        done_before: whether there was nothing to do.
        accuracy: of its runs in %, in words.
    """

    folders: dict[str, tuple[str, ...]] = field(default_factory=dict)
    said: str = ""
    tail: str = ""
    seconds: float = 0.0
    peak_mb: float = 0.0
    done_before: bool = False
    accuracy: str = ""

    def as_data(self) -> dict[str, Any]:
        """For a wire."""
        return asdict(self)
