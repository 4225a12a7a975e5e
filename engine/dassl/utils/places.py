"""Files that are read and places that are written: looked at before anything hangs, and before any work is lost."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

from dassl.utils.errors import UserError


def regular(path: str | Path) -> None:
    """Refuse what is no regular file: opening a FIFO waits for ever, and a device has no end.

    Raises:
        OSError: it is not there, cannot be looked at, or is no regular file; with its name.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_text(path: str | Path) -> str:
    """The text of a regular file, UTF-8.

    Raises:
        OSError: as :func:`regular`, or it cannot be read.
        UnicodeDecodeError: other bytes.
    """
    regular(path)
    return Path(path).read_text(encoding="utf-8")


def require_writable(path: str | Path, folder: bool = False) -> None:
    """Whether a result can be written to ``path``, before the work that it is the result of.

    Args:
        folder: ``path`` is to be a folder of results.

    Raises:
        UserError: something else is there, or nothing can be written there.
    """
    path = Path(path)
    try:
        if folder and path.exists() and not path.is_dir():
            raise UserError(f"{path} is there and is no folder: name another folder")
        if not folder and path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise UserError(f"{path} is {kind}: name a file")
        place = next((one for one in (path, *path.parents) if one.is_dir()), Path("."))
        blocked = next((one for one in path.parents if os.path.lexists(one) and not one.is_dir()), None)
        if blocked:
            raise UserError(f"{path} cannot be written: {blocked} is no folder")
        with tempfile.TemporaryFile(dir=place):
            pass
        _names(path, place)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}): name another place") from error


def _names(path: Path, place: Path) -> None:
    """Have the system say whether a name is too long: it does so only where the folder above is there."""
    for part in path.parts[len(place.parts) if place != Path(".") else 0 :]:
        try:
            os.lstat(place / f".{part}.12345678")
        except FileNotFoundError:
            continue
