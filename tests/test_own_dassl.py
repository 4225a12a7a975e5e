"""Entry points say in a line when Python would take another package for dassl."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runs.own_dassl import require_own_dassl
from tests.conftest import REPO

CALLS = {
    "train.py": ["--list-methods", "few_shot"],
    "predict.py": ["no_run", "no_image"],
    "export.py": ["no_run", "-o", "nowhere"],
}


def call(entry: str, *before: Path, isolated: bool = False) -> subprocess.CompletedProcess[str]:
    """An entry point in a process whose path begins with ``before``; isolated: with that and the repository alone."""
    path = os.pathsep.join([*map(str, before), *([] if isolated else [str(REPO / "engine")])])
    words = [sys.executable, *(["-S"] if isolated else []), str(REPO / entry), *CALLS[entry]]
    return subprocess.run(words, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=120)


def test_with_its_own_it_goes_on() -> None:
    require_own_dassl()


FORMS = [(entry, form) for entry in CALLS for form in ("package", "module")]


# a folder without __init__.py counts only where there is no other; export.py would first miss torch there
@pytest.mark.parametrize("entry, form", [*FORMS, ("train.py", "folder"), ("predict.py", "folder")])
def test_another_one_is_named_and_not_imported(entry: str, form: str, tmp_path: Path) -> None:
    code = "raise RuntimeError('it was imported')"
    if form == "module":
        found = tmp_path / "dassl.py"
        found.write_text(code)
    else:
        folder = tmp_path / "dassl"
        (folder / "utils").mkdir(parents=True)
        found = folder / "__init__.py" if form == "package" else folder
        if form == "package":
            found.write_text(code)
    done = call(entry, tmp_path, isolated=form == "folder")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: Python finds another package named dassl, {found}. ")
    assert f"pip install {REPO / 'engine'}" in done.stderr


def test_none_at_all(tmp_path: Path) -> None:
    done = call("train.py", tmp_path, isolated=True)
    assert done.returncode == 2 and done.stderr == f"error: no package dassl is installed: pip install {REPO / 'engine'}\n"
