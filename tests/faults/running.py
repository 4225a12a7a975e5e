"""Calls a row's program, and says what of its end is not as it must be."""

from __future__ import annotations

import contextlib
import ctypes
import fnmatch
import importlib
import io
import logging
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.fault import Fault, put
from tests.faults.world import REPO, fingerprint, words

MODULES = {
    "train.py": "train", "predict.py": "predict", "export.py": "export", "parse_results.py": "parse_results",
    "explain": "explain.command", "features": "features.__main__", "datasets.check": "datasets.check.__main__",
    "datasets.phantom": "datasets.phantom.__main__", "doctor": "doctor.__main__",
    "demo": "demo.__main__", "share": "share.command",
}  # fmt: skip
SECONDS = 30
OVERRIDE, SEARCH = 1 << 1, 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: what lets root read and write everything


@dataclass(frozen=True)
class End:
    """Of a program: exit status, standard output and error, seconds."""

    code: int
    out: str
    err: str
    seconds: float


class HangError(BaseException):
    """Not an Exception: no handler of the program's takes it."""


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """File modes count, for root too (Linux): the two capabilities that set them aside are put down for a while."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, held = struct.pack("Ii", 0x20080522, 0), ctypes.create_string_buffer(24)
    libc.capget(header, held)
    before = held.raw
    effective, *rest = struct.unpack("6I", before)
    libc.capset(header, struct.pack("6I", effective & ~(OVERRIDE | SEARCH), *rest))
    try:
        yield
    finally:
        libc.capset(header, before)


@contextlib.contextmanager
def apart(folder: Path) -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    """Own streams, working folder, log handlers and environment, and an end after :data:`SECONDS`."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    root, before, environment = logging.getLogger(), Path.cwd(), dict(os.environ)
    handlers = list(root.handlers)

    def hangs(*_: object) -> None:
        raise HangError

    old = signal.signal(signal.SIGALRM, hangs)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), unprivileged():
            yield out, err
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        os.chdir(before)
        root.handlers[:] = handlers
        os.environ.clear()
        os.environ.update(environment)


def main_of(program: str):
    """The real ``main(argv)`` of a program."""
    return importlib.import_module(MODULES.get(program, program)).main


def called(program: str, argv: list[str], folder: Path) -> End:
    """``main(argv)`` in this process."""
    main = main_of(program)
    started = time.perf_counter()
    with apart(folder) as (out, err):
        try:
            code = main(argv)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except HangError:
            code = -1
            err.write(f"hangs: no end after {SECONDS} s")
    texts = [stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err)]
    return End(code, *texts, time.perf_counter() - started)


def in_shell(line: str, folder: Path) -> End:
    """A line for bash, with ``python`` the interpreter of this process."""
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": f"{REPO}/engine:{REPO}", "HF_HUB_OFFLINE": "1",
                                "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}  # fmt: skip
    started = time.perf_counter()
    try:
        done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, timeout=2 * SECONDS)
    except subprocess.TimeoutExpired:
        return End(-1, "", f"hangs: no end after {2 * SECONDS} s", time.perf_counter() - started)
    texts = [stream.decode("utf-8", "replace") for stream in (done.stdout, done.stderr)]
    return End(done.returncode, *texts, time.perf_counter() - started)


def listing(folder: Path) -> set[str]:
    """All paths below a folder, links not followed."""
    return {os.path.relpath(os.path.join(at, name), folder) for at, below, files in os.walk(folder) for name in below + files}


def tried(fault: Fault, folder: Path, world: Path) -> tuple[End, list[str]]:
    """Make what is given, call, and say what is wrong with the end."""
    folder.mkdir(parents=True)
    for name, content in fault.given.items():
        put(folder / os.fsdecode(name.encode("utf-8", "surrogateescape")), content, world)
    before, neighbour = listing(folder), fingerprint(world)
    line = fault.command.format(**words(world))
    if line.startswith("$ "):
        end = in_shell(line[2:], folder)
    else:
        argv = shlex.split(line)
        argv = argv[2:] if argv[0] == "-m" else argv[1:]
        end = called(fault.program, argv, folder)
    fresh = listing(folder) - before
    return end, complaints(fault, end, fresh, fingerprint(world) == neighbour)


def complaints(fault: Fault, end: End, fresh: set[str], undisturbed: bool) -> list[str]:
    """What is not as the row says."""
    said = []
    if end.code != fault.code:
        said.append(f"exit status {end.code}, wanted {fault.code}")
    if "Traceback" in end.out + end.err:
        said.append("a traceback")
    errors = [line for line in end.err.splitlines() if re.match(r"(?:[\w./ -]+: )?error: ", line)]
    if fault.code == 2:
        if len(errors) != 1:
            said.append(f"{len(errors)} error lines, wanted 1")
        elif fault.line not in errors[0]:
            said.append(f'"{fault.line}" is not in: {errors[0]}')
        left = [path for path in fresh if not any(fnmatch.fnmatch(path, glob) for glob in fault.leaves)]
        if left:
            said.append(f"left behind: {' '.join(sorted(left)[:5])}")
    elif errors:
        said.append(f"an error line: {errors[0]}")
    elif fault.line not in end.out + end.err:
        said.append(f'"{fault.line}" is not said')
    odd = [path for path in fresh if re.search(r"(^|/)\.|\.part\b|\.tmp|\.lock$", path) and not path.startswith("cache/")]
    if odd:
        said.append(f"temporary files: {' '.join(sorted(odd)[:5])}")
    if not undisturbed:
        said.append("the finished neighbour run has changed")
    return said
