"""Files that are there whole or not at all. Needs no torch, which would take longer to import than a table to make."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text under a temporary name and rename it; where that fails nothing is left.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", errors="replace")
        os.replace(temporary, path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # of the file that was wanted
        raise
    finally:
        temporary.unlink(missing_ok=True)
