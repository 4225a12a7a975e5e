"""How programs end: mistakes, the system's no, Ctrl-C, a closed pipe, faults of the project's own."""

from __future__ import annotations

import ast
import errno
import signal
import subprocess
import sys
import threading
from functools import partial

import pytest

from dassl.utils import MissingFileError, UserError
from entry import program, told
from tests.conftest import REPO
from tests.test_architecture import ROOMS


def ending(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    @program
    def main(argv=None) -> int:
        raise error

    status = main([])
    captured = capsys.readouterr()
    assert captured.out == ""
    return status, captured.err


SYSTEM = {
    "a file": (
        OSError(errno.ENOSPC, "No space left on device", "out/log.txt"),
        "out/log.txt: No space left on device; make room",
    ),
    "no file": (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; make room"),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded", "x"), "x: Disk quota exceeded; your quota is used up"),
    "rights": (PermissionError(errno.EACCES, "Permission denied", "x"), "x: Permission denied; name a place that you may"),
    "folder": (IsADirectoryError(errno.EISDIR, "Is a directory", "x"), "x: Is a directory; name a file"),
    "bytes": (FileNotFoundError(errno.ENOENT, "No such file or directory", b"caf\xe9"), "caf\udce9: No such file"),
    "memory": (MemoryError(), "the memory does not suffice"),
    "user": (UserError("do that"), "do that"),
    "builtin too": (MissingFileError("no x; make one"), "no x; make one"),
}


@pytest.mark.parametrize("name", SYSTEM)
def test_mistakes_and_the_system_s_no_are_one_line(name: str, capsys) -> None:
    error, said = SYSTEM[name]
    status, text = ending(error, capsys)
    assert status == 2 and text.startswith("error: ") and text.count("\n") == 1
    assert said.encode("utf-8", "backslashreplace").decode() in text


@pytest.mark.parametrize(
    "error", [KeyError("x"), ValueError("x"), OSError("without a number"), OSError(errno.ENOENT, "no name")]
)
def test_faults_keep_their_traceback_and_say_where_to_report(error: Exception, capsys) -> None:
    error.run_folder = "output/x"
    status, text = ending(error, capsys)
    assert status == 1 and "Traceback" in text and "in main" in text
    assert text.splitlines()[-1].endswith("as CONTRIBUTING.md says. The run's folder, with its log: output/x.")
    assert told(error) == ""


@pytest.mark.parametrize(
    "error, line",
    [
        (OSError(errno.ENOSPC, "No space left on device"), "warning: No space left on device; make room"),
        (ValueError("x"), ""),
        (MemoryError(), ""),
    ],
)
def test_a_helper_thread_ends_in_a_line_for_the_system_s_no_alone(error: Exception, line: str, monkeypatch, capsys) -> None:
    handed_on = []
    monkeypatch.setattr(threading, "excepthook", lambda ended: handed_on.append(ended.exc_value))

    @program
    def main(argv=None) -> int:
        def stops() -> None:
            raise error

        helper = threading.Thread(target=stops)
        helper.start()
        helper.join()
        return 0

    assert main([]) == 0 and main([]) == 0  # the second in the same process says the same
    text = capsys.readouterr().err
    assert handed_on == ([] if line else [error, error])
    assert text.count("\n") == (2 if line else 0) and text.startswith(line) and "Traceback" not in text


def test_half_a_character_among_the_arguments_is_told(capsys) -> None:
    main = program(lambda argv: 0)
    assert main(["caf\udce9"]) == 0  # a file's name that is no UTF-8
    assert main(["a", "b\ud800"]) == 2
    assert capsys.readouterr().err == 'error: the argument "b\\ud800" holds half a character: write it as UTF-8\n'


def test_ctrl_c_is_one_line(capsys) -> None:
    status, text = ending(KeyboardInterrupt(), capsys)
    assert status == 130 and text.count("\n") == 1 and text.startswith("interrupted")


def test_status_and_arguments_pass_through() -> None:
    assert program(lambda argv: len(argv))(["a", "b"]) == 2


def test_every_program_ends_so() -> None:
    """All that have ``main`` and run it, benchmarks and the project's own upkeep apart."""
    found = []
    for path in sorted([*REPO.glob("*.py"), *(p for room in ROOMS - {"dassl", "tests", "benchmarks", "scripts"}
                                              for p in (REPO / room).rglob("*.py"))]):  # fmt: skip
        tree = ast.parse(path.read_text(encoding="utf-8"))
        mains = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
        for main in mains:
            found.append(path.relative_to(REPO).as_posix())
            assert [ast.unparse(one) for one in main.decorator_list] == ["program"], found[-1]
    assert {"train.py", "predict.py", "export.py", "parse_results.py", "doctor/__main__.py", "analysis/report.py"} <= set(found)


WAITS = """
import sys, time
from entry import program
@program
def main(argv=None):
    print("ready", flush=True)
    time.sleep(60)
sys.exit(main())
"""


def test_a_real_ctrl_c() -> None:
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs hear no Ctrl-C
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    child = subprocess.Popen([sys.executable, "-c", WAITS], cwd=REPO, preexec_fn=heard, **pipes)
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130 and said.count("\n") == 1 and said.startswith("interrupted")


ENDLESS = """
import sys
from entry import program
@program
def main(argv=None):
    while True:
        print("x" * 9999)
sys.exit(main())
"""


def test_a_reader_that_has_gone_is_no_fault() -> None:
    call = ["bash", "-c", f'"{sys.executable}" -c "$0" | head -1', ENDLESS]
    done = subprocess.run(call, cwd=REPO, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
