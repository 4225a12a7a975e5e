"""Every row of the table of faults, called; and the page that is printed from it."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPO
from tests.faults.fault import Fault
from tests.faults.running import End, complaints, tried
from tests.faults.table import FAULTS, markdown
from tests.faults.world import build

AT_LEAST = {
    "train.py": 100,
    "predict.py": 80,
    "export.py": 5,
    "explain": 15,
    "parse_results.py": 40,
    "datasets.new": 8,
    "datasets.check": 8,
    "datasets.download": 5,
    "datasets.phantom": 3,
    "datasets.prompts.check": 5,
    "datasets.prompts.convert": 5,
    "datasets.prompts.generate": 2,
    "backbones.download": 5,
    "features": 8,
    "doctor": 4,
    "analysis.report": 10,
    "analysis.figures": 5,
    "analysis.metrics": 10,
    "analysis.check": 15,
    "explain.prompts": 3,
    "share": 12,
    "demo": 5,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The images and the finished run of :mod:`tests.faults.world`; log and environment are as before afterwards."""
    root, environment = logging.getLogger(), dict(os.environ)
    handlers = list(root.handlers)
    with contextlib.redirect_stdout(io.StringIO()):
        made = build(tmp_path_factory.mktemp("faults").resolve() / "world")
    root.handlers[:] = handlers
    yield made
    os.environ.clear()
    os.environ.update(environment)


@pytest.mark.faults
@pytest.mark.parametrize("fault", FAULTS, ids=[f"{number}-{fault}"[:80] for number, fault in enumerate(FAULTS)])
def test_fault(fault: Fault, world: Path, tmp_path: Path) -> None:
    end, wrong = tried(fault, tmp_path.resolve() / "row", world)
    assert not wrong, f"{fault.command}\n{wrong}\n{(end.err or end.out)[-2000:]}"


def test_the_page_is_printed_from_the_table() -> None:
    assert (REPO / "docs" / "RELIABILITY.md").read_text(encoding="utf-8") == markdown(), "python -m tests.faults --markdown"


def test_every_program_has_rows() -> None:
    counts = Counter(fault.program for fault in FAULTS)
    assert {name: counts[name] for name, least in AT_LEAST.items() if counts[name] < least} == {}
    assert len([fault for fault in FAULTS if fault.command.startswith("$ ")]) >= 10


ROW = Fault("kind", "input", "train.py", "what was wrong")
ENDS = {
    "a traceback": End(2, "", "Traceback (most recent call last)\nerror: what was wrong", 0.0),
    "exit status 1": End(1, "", "error: what was wrong", 0.0),
    "2 error lines": End(2, "", "error: what was wrong\nerror: what was wrong", 0.0),
    "0 error lines": End(2, "what was wrong", "", 0.0),
    "is not in": End(2, "", "error: something", 0.0),
}


@pytest.mark.parametrize("words", ENDS)
def test_a_wrong_end_is_noticed(words: str) -> None:
    said = complaints(ROW, ENDS[words], set(), True)
    assert len(said) == 1 and words in said[0]


def test_what_is_left_and_what_is_disturbed_is_noticed() -> None:
    good = End(2, "", "error: this was wrong: what was wrong", 0.0)
    assert complaints(ROW, good, set(), True) == []
    assert "left behind: out" in complaints(ROW, good, {"out"}, True)[0]
    assert "temporary files" in complaints(Fault("k", "i", "c", "", 0), End(0, "", "", 0.0), {"out/.x.json.12"}, True)[0]
    assert "has changed" in complaints(ROW, good, set(), False)[0]
