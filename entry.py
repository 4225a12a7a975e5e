"""How every program of the project ends: a line for a mistake of the user's, a traceback for a fault of ours."""

from __future__ import annotations

import errno
import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

Main = Callable[..., int]
MISTAKE, INTERRUPTED, FAULT = 2, 130, 1
# errors of the system that no code can help: what to do about each
MENDS = {
    errno.ENOSPC: "make room, or name a folder on another disk",
    errno.EDQUOT: "your quota is used up: make room, or name a folder on another disk",
    errno.EROFS: "name a folder that can be written",
    errno.EACCES: "name a place that you may read and write",
    errno.EPERM: "name a place that you may read and write",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "name a folder",
    errno.ENAMETOOLONG: "take shorter names",
    errno.EIO: "the disk or its connection fails",
}
WITHOUT_NAME = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}  # that say enough without a file's name


def program(main: Main) -> Main:
    """``main(argv) -> exit status`` with the ends that all programs share.

    A mistake of the user's, told by an exception that has ``told = True`` (as ``dassl.utils.UserError``) or by the system for a
    file, is one line on standard error and status 2; Ctrl-C is one line and status 130; anything else is a fault of the
    project's, with its traceback, the run's folder where there is one (``run_folder`` of the exception), and status 1.
    """

    @wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        for stream in (sys.stdout, sys.stderr):  # a file's name need not be text
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        if threading.excepthook is not _thread_ends:
            _before.append(threading.excepthook)
            threading.excepthook = _thread_ends
        try:
            _require_words(sys.argv[1:] if argv is None else argv)
            return main(argv)
        except KeyboardInterrupt:
            print("interrupted: what was finished is kept, and the same command goes on there", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:  # whoever read the output has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAULT
        except Exception as error:
            line = told(error)
            if not line:
                return _fault(error)
            print(f"error: {line}", file=sys.stderr)
            return MISTAKE

    return run


_before: list[Callable[[threading.ExceptHookArgs], object]] = []  # what was told of a thread's end before us


def _thread_ends(ended: threading.ExceptHookArgs) -> None:
    """The system's no to a helper thread (TensorBoard's writer on a full disk) is a line; anything else keeps its traceback."""
    line = told(ended.exc_value) if isinstance(ended.exc_value, OSError) else ""
    if line:
        print(f"warning: {line} (a helper of this program has stopped)", file=sys.stderr)
    else:
        _before[-1](ended)


class _NoWordError(ValueError):
    """An argument that no shell gives."""

    told = True


def _require_words(argv: Sequence[str]) -> None:
    """A shell's bytes, whatever they are, can be written back; half a character of another program's making cannot."""
    for word in argv:
        try:
            os.fsencode(word)
        except UnicodeEncodeError as error:
            shown = os.fspath(word).encode("ascii", "backslashreplace").decode()[:60]
            raise _NoWordError(f'the argument "{shown}" holds half a character: write it as UTF-8') from error


def told(error: BaseException) -> str:
    """The one line that a user needs of an error; empty for a fault of the project's own."""
    if getattr(error, "told", False):
        return _one_line(str(error))
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return (
            "the memory does not suffice: lower DATALOADER.TRAIN_X.BATCH_SIZE and TEST.BATCH_SIZE, or take a smaller backbone"
        )
    if not isinstance(error, OSError) or not error.strerror:
        return ""
    if error.filename is None and error.errno not in WITHOUT_NAME:
        return ""
    name = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    mend = MENDS.get(error.errno or 0, "")
    return _one_line(f"{name}{error.strerror}" + (f"; {mend}" if mend else ""))


def _one_line(text: str) -> str:
    return " ".join(text.split("\n")) if "\n" in text else text


def _fault(error: Exception) -> int:
    traceback.print_exception(error)
    folder: Any = getattr(error, "run_folder", None)
    where = f" The run's folder, with its log: {folder}." if folder else ""
    print(
        f"This is a fault of Biomed-DPT and not yours. Please report it with the lines above, as CONTRIBUTING.md says.{where}",
        file=sys.stderr,
    )
    return FAULT
