"""The mutants' table fits the code, its page is true, and the runner tells a noticed fault from an unnoticed one."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import REPO
from tests.mutants.__main__ import main
from tests.mutants.mutant import Mutant, Outcome
from tests.mutants.runner import NotClean, run_mutants
from tests.mutants.table import MUTANTS, counted, enough, markdown, recorded

LEAST = 690  # in all
ROOMS = {"analysis", "backbones", "dassl", "datasets", "doctor", "explain", "features", "programs", "runs", "sweep", "trainers"}


def test_every_mutant_is_one_change_that_compiles() -> None:
    for mutant in MUTANTS:
        compile(mutant.applied(), mutant.file, "exec")
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS) >= LEAST
    assert {mutant.room for mutant in MUTANTS} >= ROOMS


def test_every_mutant_names_tests_that_are_there() -> None:
    for mutant in MUTANTS:
        assert mutant.test_names, mutant
        for name in mutant.test_names:
            path, *node = name.split(" -k ")[0].split("::")
            assert (REPO / path).is_file(), f"{mutant}: {path}"
            assert all(f"def {part.split('[')[0]}" in (REPO / path).read_text() for part in node), f"{mutant}: {name}"


def test_the_page_is_what_the_table_prints_and_counts_every_mutant() -> None:
    assert (REPO / "docs" / "MUTANTS.md").read_text() == markdown()
    there = Counter(mutant.room for mutant in MUTANTS)
    alike = Counter(mutant.room for mutant in MUTANTS if mutant.equivalent)
    rooms = recorded()
    assert {room: counts["killed"] + counts["survived"] + counts["equivalent"] for room, counts in rooms.items()} == there
    assert {room: counts["equivalent"] for room, counts in rooms.items() if counts["equivalent"]} == alike
    assert enough(rooms)


CODE = "def double(n: int) -> int:\n    while n < 0:\n        n += 1\n    return n + n\n"
TEST = (
    "from toy import double\n\n\ndef test_two() -> None:\n    assert double({}) == 4\n\n\n"
    "def test_minus() -> None:\n    assert double(-3) == 0\n"
)
QUICK = {"limits": (4.0, 1.0), "modules": ["pytest", "hypothesis", "_hypothesis_pytestplugin", "numpy"]}


def toy(folder: Path, number: int = 2) -> Path:
    (folder / "tests").mkdir(parents=True)
    (folder / "toy.py").write_text(CODE)
    (folder / "tests" / "test_toy.py").write_text(TEST.format(number))
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def mutant(old: str, new: str, tests: str = "tests/test_toy.py", **more: str) -> Mutant:
    return Mutant("toy.py", old, new, tests, **more)


def test_noticed_unnoticed_and_endless_are_told_apart(tmp_path: Path) -> None:
    chosen = [
        mutant("n + n", "n + 1"),
        mutant("n + n", "n * n", "tests/test_toy.py -k two"),
        mutant("n + n", "n * n + 0 * n", "tests/test_toy.py", equivalent="not run"),
        mutant("n += 1", "n += 0"),
        mutant("def double", "raise ValueError\ndef double"),
        mutant("n + n", "2 * n"),
    ]
    (tmp_path / "out").mkdir()
    found = run_mutants(chosen, tmp_path / "out", root=toy(tmp_path / "toy"), **QUICK)
    assert [one.end for one in found] == ["killed", "survived", "equivalent", "killed", "killed", "survived"]
    assert "not done after" in found[3].how and "could not be loaded" in found[4].how
    assert (tmp_path / "toy" / "toy.py").read_text() == (tmp_path / "out" / "slot0" / "project" / "toy.py").read_text() == CODE
    assert not list((tmp_path / "out").rglob("*.pyc"))
    assert not enough(counted(found))


def test_tests_that_fail_without_a_mutant_are_said(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(NotClean, match="assert"):
        run_mutants([mutant("n + n", "n + 1")], tmp_path / "out", root=toy(tmp_path / "toy", 3), **QUICK)


def test_ninety_five_of_a_hundred_are_enough() -> None:
    one = MUTANTS[0]
    for survived, status in ((5, True), (6, False)):
        ends = ["killed"] * (100 - survived) + ["survived"] * survived + ["equivalent"] * 50
        assert enough(counted([Outcome(one, end, "", 0.0) for end in ends])) is status
    assert not enough(counted([Outcome(one, "error", "", 0.0)]))


def test_the_list_names_every_mutant_of_the_files_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "features/disk.py"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    count = sum(mutant.file == "features/disk.py" for mutant in MUTANTS)
    assert len(lines) == count > 0 and last == f"{count} mutants"
    with pytest.raises(SystemExit):
        main(["--record", "--only", "features/disk.py"])
