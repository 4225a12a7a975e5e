"""The table of the benchmarks: its lines, its page, the joining of several runs; and how memory is watched."""

from __future__ import annotations

import json
import mmap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import rows
from benchmarks.__main__ import BEGIN, END, main
from benchmarks.worker import SAMPLE_S, STATUS, OwnMemory, status_bytes

MIB = 2**20
OURS = {
    "process": {"import_bytes": 100 * MIB, "peak_bytes": 300 * MIB}, "model_bytes": 90 * MIB, "batch_bytes": 10 * MIB,
    "own_bytes": 80 * MIB, "checkpoint_bytes": 9,
}  # fmt: skip


def test_numbers_are_shown_with_their_units() -> None:
    shown = [rows.seconds(value) for value in (0.0042, 0.5, 1.0, 61.0, 150.0, 7300.0)]
    assert shown == ["4.2 ms", "500 ms", "1 s", "61 s", "2.5 min", "2.03 h"]
    assert [rows.mib(value) for value in (5 * 2**20, 3 * 2**10)] == ["5 MiB", "3 KiB"]


def test_a_page_without_markers_is_told_before_anything_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    assert main(["--out", str(page)]) == 2
    assert "must hold the lines" in capsys.readouterr().err


@pytest.mark.skipif(not STATUS.is_file(), reason="no /proc here: the system does not tell")
def test_memory_that_no_file_backs(tmp_path: Path) -> None:
    size = 64 * 2**20
    (tmp_path / "file").write_bytes(bytes(size))
    before = status_bytes("RssAnon")
    with OwnMemory() as own:
        mapped = np.memmap(tmp_path / "file", mode="r")
        assert mapped.sum() == 0  # resident, and not counted
        # pages of its own: what an allocator gives may have been there before
        with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
            for _ in range(64):
                held.write(b"1" * 2**20)
            time.sleep(5 * SAMPLE_S)
    assert before + 0.9 * size < own.peak < before + 1.6 * size


def test_lines_of_memory() -> None:
    theirs = OURS | {"process": OURS["process"] | {"peak_bytes": 600 * MIB}, "own_bytes": 250 * MIB, "checkpoint_bytes": 90}
    found = [row[1:] for row in rows.memory_rows({"memory": {"reference": theirs, "ours": OURS}})]
    assert found == [
        ("600 MiB", "300 MiB", "", "2x less"),
        ("500 MiB", "200 MiB", "", "5.00 and 2.00 of model + batch"),
        ("250 MiB", "80 MiB", "", "2.50 and 0.80 of model + batch"),
        ("0 KiB", "0 KiB", "", "10x"),
    ]
    untold = {"reference": theirs | {"own_bytes": 0}, "ours": OURS | {"own_bytes": 0}}
    assert len(list(rows.memory_rows({"memory": untold}))) == 3


@pytest.fixture
def measured(tmp_path: Path) -> Callable[..., Path]:
    """Writes raw measurements of the memory part, or of others."""
    machine = {"processor": "P", "cores": 2, "threads": 2, "memory_bytes": 2**30, "gpu": "", "load_at_start": 0.0}

    def write(name: str, part: str = "memory", found: object = None, **setting: object) -> Path:
        settings = {"backbone": "B", "path": "", "views": 8, "quick": False, "repeats": 3}
        results = {
            "setting": settings | setting, "machine": machine | {"versions": {"torch": "2"}}, "parts": [part, "bf16"],
            "took_s": {part: 60.0}, part: found or {"reference": OURS, "ours": OURS},
        }  # fmt: skip
        path = tmp_path / name
        path.write_text(json.dumps(results))
        return path

    return write


def test_earlier_runs_make_one_table(measured: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    equal = {"text_features": 1e-7, "image_features": 2e-7, "view_features": 0, "steps": 5, "ctx_moved": 1, "ctx": 0,
             "different_predictions": 0, "images": 8}  # fmt: skip
    old, new = measured("old.json", "equal", equal), measured("new.json", "equal", equal | {"image_features": 3e-7})
    assert main(["--from", str(old), str(measured("memory.json")), str(new), "--out", str(page)]) == 0
    text = page.read_text()
    assert "300 MiB" in text and "3.0e-07" in text and "2.0e-07" not in text and "; 2 min." in text
    assert text.index("peak memory") < text.index("largest difference of a feature")
    assert text.startswith("before") and text.endswith("after\n")


def test_runs_that_do_not_belong_together(measured: Callable[..., Path], tmp_path: Path, capsys) -> None:
    (tmp_path / "broken.json").write_text("{}")
    none = json.loads(measured("none.json").read_text()) | {"took_s": {}}
    (tmp_path / "none.json").write_text(json.dumps(none))
    for other in (
        tmp_path / "none.json",
        measured("other.json", path="elsewhere"),
        tmp_path / "broken.json",
        tmp_path / "absent.json",
    ):
        assert main(["--from", str(measured("one.json")), str(other)]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and str(other) in said and said.count("\n") == 1
