"""``--help`` of every script and of every module that is a program: it prints how to call it, and does nothing else."""

from __future__ import annotations

import ast
import os
import runpy
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from tests.conftest import REPO

SECONDS = 60  # that no --help may take, on a busy machine
ELSEWHERE = {".venv", ".venv-lowest", ".git", ".gpu", "data", "output", "shared"}
# what tests start with arguments of their own, and nobody else does
OF_TESTS = {"tests/mutants/server.py", "tests/sweep_fakes.py", "tests/third_party/main.py"}


def is_program(path: Path) -> bool:
    """Whether a source does something when it is started: ``if __name__ == "__main__":``."""
    tests = [node.test for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.If)]
    return any(ast.unparse(test) == "__name__ == '__main__'" for test in tests)


def sources(*endings: str) -> list[str]:
    found = [path.relative_to(REPO) for ending in endings for path in REPO.rglob(f"*{ending}")]
    return sorted(path.as_posix() for path in found if path.parts[0] not in ELSEWHERE)


SHELL = sources(".sh", ".sbatch")
PYTHON = [name for name in sources(".py") if name not in OF_TESTS and is_program(REPO / name)]
LIBRARIES = {"scripts/help.sh"}  # sourced, never called


def test_the_tree_was_walked() -> None:
    assert len(SHELL) > 90 and {"scripts/quickstart.sh", "scripts/coop/few_shot.sh", "benchmarks/gpu.sh"} <= set(SHELL)
    assert {"train.py", "scripts/lock.py", "benchmarks/random_model.py", "sweep/__main__.py", "analysis/explain.py"} <= set(
        PYTHON
    )
    assert all((REPO / name).is_file() for name in OF_TESTS)


def helped(call: list[str], place: Path) -> str:
    """What a call with --help prints, from an empty folder that it leaves empty."""
    env = os.environ | {"PYTHONPATH": f"{REPO / 'engine'}{os.pathsep}{REPO}", "BIOMED_DPT_CACHE": str(place / "cache")}
    started = time.monotonic()
    done = subprocess.run([*call, "--help"], cwd=place, env=env, capture_output=True, text=True, timeout=2 * SECONDS)
    assert done.returncode == 0, done.stderr[-2000:]
    assert time.monotonic() - started < SECONDS
    assert list(place.iterdir()) == []
    assert "Traceback" not in done.stderr
    return done.stdout


def called(name: str) -> list[str]:
    """How a program is started: by its path, or as a module."""
    module = name.removesuffix("/__main__.py").removesuffix(".py").replace("/", ".")
    return [str(REPO / name)] if "/" not in name or name.startswith("scripts/") else ["-m", module]


@pytest.mark.parametrize("name", PYTHON)
def test_python_programs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, where the libraries are loaded already."""
    call = called(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIOMED_DPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [call[-1], "--help"])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
        warnings.simplefilter("ignore")  # that the module is loaded already
        if call[0] == "-m":
            runpy.run_module(call[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(call[0], run_name="__main__")
    said, errors = capsys.readouterr()
    assert not ended.value.code and "Traceback" not in errors
    assert said.startswith("usage: ") and len(said.splitlines()) > 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["train.py", "parse_results.py", "sweep/__main__.py", "benchmarks/random_model.py"])
def test_in_processes_of_their_own(name: str, tmp_path: Path) -> None:
    assert helped([sys.executable, *called(name)], tmp_path).startswith("usage: ")


@pytest.mark.parametrize("name", [name for name in SHELL if name not in LIBRARIES])
def test_shell_scripts(name: str, tmp_path: Path) -> None:
    """Without Python on the path, which no help needs: nothing can have been installed or trained."""
    (tmp_path / "bin").mkdir()
    for tool in ("bash", "sed", "dirname", "basename"):
        (tmp_path / "bin" / tool).symlink_to(Path("/bin") / tool if (Path("/bin") / tool).exists() else Path("/usr/bin") / tool)
    (tmp_path / "place").mkdir()
    bash = str(tmp_path / "bin" / "bash")
    env = {"PATH": str(tmp_path / "bin")}
    for word in ("--help", "-h"):
        done = subprocess.run([bash, str(REPO / name), word], cwd=tmp_path / "place", env=env, capture_output=True, text=True)
        assert done.returncode == 0 and done.stderr == "", done.stderr
        first, *rest = done.stdout.splitlines()
        assert first.startswith("usage: ") and name in first and len(rest) > 0
        assert list((tmp_path / "place").iterdir()) == []


def test_help_behind_the_overrides_is_no_call_for_help(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(REPO / "scripts/coop/few_shot.sh"), "no_such_dataset", "--", "--help"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "unknown dataset" in done.stderr
