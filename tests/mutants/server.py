"""Runs tests in a copy of the project, each time in a child of one process that has the third-party modules loaded.

A program of its own (``python server.py MODULE …`` with the copy as working directory), because it must load nothing of the
project: what the children import is what lies in the copy at that moment. Each line on standard input is a request in JSON
(``file``, ``text`` or null, ``tests``, ``limit``, ``log``, ``scratch``), each line on standard output its answer (``code``,
``seconds``).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

TIME_OUT = 124


def load(names: Sequence[str]) -> None:
    """Import what no test changes, where it is installed; with one thread, as more than one cannot be forked safely."""
    for name in names:
        if importlib.util.find_spec(name.split(".")[0]) is not None:
            importlib.import_module(name)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def run_tests(tests: list[str], scratch: str) -> int:
    """pytest's exit status; an entry with ``-k`` is a call of its own, because ``-k`` holds for a whole call."""
    import pytest

    always = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={scratch}", "--tb=short"]
    plain = [name for name in tests if " -k " not in name]
    calls = [plain] if plain else []
    calls += [[name.split(" -k ")[0], "-k", name.split(" -k ")[1]] for name in tests if " -k " in name]
    for call in calls:
        code = int(pytest.main([*always, *call]))
        if code:
            return code
    return 0


def child(request: dict[str, object]) -> None:
    """The tests, with all output in ``log``; never returns."""
    code = 3
    try:
        os.setsid()
        log = os.open(str(request["log"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = run_tests(list(request["tests"]), str(request["scratch"]))  # type: ignore[call-overload]
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def waited(pid: int, limit: float) -> int:
    """The child's exit status; minus the signal that ended it; ``TIME_OUT`` if it was stopped at the limit."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return TIME_OUT


def answer(request: dict[str, object]) -> dict[str, float]:
    """Put the fault in, run the tests, take it out."""
    started = time.monotonic()
    path, text = Path(str(request["file"])), request["text"]
    whole = path.read_bytes() if text is not None else b""
    try:
        if text is not None:
            path.write_text(str(text), encoding="utf-8")
        pid = os.fork()
        if pid == 0:
            child(request)
        code = waited(pid, float(request["limit"]))  # type: ignore[arg-type]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what the tests started and left
    finally:
        if text is not None:
            path.write_bytes(whole)
    return {"code": code, "seconds": time.monotonic() - started}


def main() -> None:
    """Answer requests until standard input ends."""
    sys.dont_write_bytecode = True
    sys.path[:1] = [str(Path.cwd() / "engine"), str(Path.cwd())]  # in place of this file's folder
    importlib.invalidate_caches()
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # a module that prints while it is loaded does not answer
    load(sys.argv[1:])
    print(json.dumps({"ready": True}), file=out)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=out)


if __name__ == "__main__":
    main()
