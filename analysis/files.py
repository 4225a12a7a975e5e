"""Files that are there whole or not at all. Needs no torch, which would take longer to import than a table to make."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

FORMULA = "=+-@"  # what a spreadsheet runs a cell for that begins so


def read_text(path: Path) -> str:
    """The text of a regular file, UTF-8; a FIFO would be waited for, and a device has no end.

    Raises:
        OSError: it is not there, is no regular file, or cannot be read.
        UnicodeDecodeError: other bytes.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path.read_text(encoding="utf-8")


def harmless(cells: Iterable[object]) -> list[object]:
    """Cells that a spreadsheet does not take for formulas: a text that begins like one gets an apostrophe in front.

    Numbers stay, those in words ("-1.5") too.
    """
    return [f"'{cell}" if isinstance(cell, str) and _runs(cell) else cell for cell in cells]


def _runs(cell: str) -> bool:
    if not cell or (cell[0] not in FORMULA and cell[0] >= " "):
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return cell[0] < " "


def require_target(path: Path) -> None:
    """Whether a result can be written to ``path``, before the work that it is the result of.

    Raises:
        OSError: something else is there, or nothing can be written there.
    """
    if path.exists() and not path.is_file():
        code, said = (errno.EISDIR, "Is a directory") if path.is_dir() else (errno.EINVAL, "not a regular file")
        raise OSError(code, said, str(path))
    place = next((one for one in path.absolute().parents if os.path.lexists(one)), Path("/"))
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    with tempfile.TemporaryFile(dir=place):
        pass


def write_whole(path: Path, text: str) -> None:
    """Write a text under a temporary name and rename it; where that fails nothing is left.

    Raises:
        OSError: it cannot be written.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # a device would be gone for everybody
        raise OSError(errno.EINVAL, "not a regular file", str(path))
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
