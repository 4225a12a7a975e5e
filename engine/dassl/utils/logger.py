"""Everything that is printed or logged goes to the terminal and to ``log.txt``."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TextIO

from dassl.utils.tools import mkdir_if_missing


class Logger:
    """Tees a text stream into a file.

    Args:
        fpath: the log file, or ``None`` for the stream alone.
        stream: where else to write; ``sys.stdout`` by default.

    Attributes:
        level: the logging module's records below it go into the file alone; what is printed goes to both.
    """

    level = logging.NOTSET

    def __init__(self, fpath: str | None = None, stream: TextIO | None = None) -> None:
        self.console, self.path = stream or sys.stdout, fpath
        self.file: TextIO | None = None
        if fpath is not None:
            mkdir_if_missing(os.path.dirname(fpath) or ".")
            self.file = open(fpath, "a", encoding="utf-8")  # noqa: SIM115  (lives as long as the run)

    def write(self, message: str) -> int:
        self.console.write(message)
        if self.file is not None:
            self.file.write(message)
        return len(message)

    def flush(self) -> None:
        self.console.flush()
        if self.file is not None:
            self.file.flush()

    def isatty(self) -> bool:
        return self.console.isatty()

    def fileno(self) -> int:
        return self.console.fileno()

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


class _Stdout(logging.StreamHandler):
    """Writes to whatever ``sys.stdout`` is at the time, so that records pass through :class:`Logger`, which may keep them."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        out = sys.stdout
        quiet = isinstance(out, Logger) and out.file is not None and record.levelno < out.level
        self.stream = out.file if quiet else out
        super().emit(record)


class _Unconfigured(logging.StreamHandler):
    """Shows the package's records in programs that set up no logging, where upstream prints: on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            self.stream = sys.stderr
            super().emit(record)


ENDS = {"Finish training", "Finished training"}  # what upstream's trainers, now and before, log when they are through

logging.getLogger("dassl").addHandler(_Unconfigured())
logging.getLogger("dassl").setLevel(logging.INFO)


def setup_logger(output: str | None = None) -> None:
    """Send standard output and the logging module's messages to ``output`` as well.

    Programs that collect results read ``log.txt`` alone. So the log of a training that came to its end keeps this name,
    and a later one is called by its time; any other is put aside under its time for the new one.

    Args:
        output: a folder (gets ``log.txt``) or a file ending in .txt or .log.
    """
    root = logging.getLogger()
    if not any(isinstance(handler, _Stdout) for handler in root.handlers):
        root.addHandler(_Stdout())
    for name in ("dassl", "runs", "trainers", "backbones", "datasets", "features", "analysis", "explain"):
        logging.getLogger(name).setLevel(logging.INFO)
    if output is None:
        return
    fpath = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
    if os.path.exists(fpath):
        dated = fpath + time.strftime("-%Y-%m-%d-%H-%M-%S")
        if _is_finished(fpath):
            fpath = dated
        else:
            os.replace(fpath, dated)
    sys.stdout = Logger(fpath)


def _is_finished(fpath: str) -> bool:
    """Whether a log is that of a training that came to its end."""
    with open(fpath, encoding="utf-8", errors="replace") as file:
        return any(line.strip() in ENDS for line in file)
