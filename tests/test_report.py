"""The report page: what it tells of coverage and of single runs, and that nothing of a run becomes markup."""

from __future__ import annotations

import re
import shutil
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis import report
from analysis.predictions import Predictions
from analysis.report_coverage import BROKEN, DONE, MISSING, coverage
from analysis.report_runs import Lines, hardest, image_file, image_folder, thumbnail
from analysis.results import read_runs
from tests.report_runs import EVIL, Reader, embedded, write_page, write_runs
from tests.synthetic_runs import write_run


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    write_runs(root, tmp_path_factory.mktemp("data"))
    return root


@pytest.fixture(scope="module")
def page(runs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(runs_folder, tmp_path_factory.mktemp("page") / "report.html")


def test_coverage_names_done_broken_and_missing(runs_folder: Path) -> None:
    runs, defects = read_runs(runs_folder)
    grid = coverage(runs, defects)
    assert [grid.count(state) for state in (DONE, BROKEN, MISSING)] == [13, 2, 1]
    coop = next(row for row in grid.rows if row[0] == "CoOp")
    states = {column: [mark.state for mark in grid.marks[coop, column]] for column in grid.columns}
    assert states["BTMRI", "all", 16] == [DONE, BROKEN]
    assert states["BUSI", "all", 16] == [MISSING, DONE]
    assert states["BUSI", "all", 1] == [DONE, DONE]
    why = grid.marks[next(row for row in grid.rows if row[0] == "BiomedDPT"), ("BUSI", "all", 1)][0].why
    assert "predictions.csv.gz" in why


def test_a_method_with_broken_runs_only_has_a_row_and_a_copy_is_told(tmp_path: Path) -> None:
    written = write_run(tmp_path, "CoOp", backbone="hf-hub:a/b")
    whole = tmp_path / "few_shot/btmri/shots_16/CoOp_hf-hub-a-b/nctx4/seed1"  # as train.py names it
    whole.parent.mkdir(parents=True)
    written.rename(whole)
    lost = write_run(tmp_path, "MaPLe", seed=2)
    (lost / "results.json").write_text("{")
    other = tmp_path / "elsewhere" / "run"
    shutil.copytree(whole, other)
    half = tmp_path / "few_shot/btmri/shots_16/CoOp_hf-hub-a-b/nctx4/seed2"
    half.mkdir()
    (half / "config.yaml").write_text("SEED: 2\n")
    grid = coverage(*read_runs(tmp_path))
    assert grid.rows == (("CoOp", "hf-hub:a/b", "nctx4"), ("MaPLe", "BiomedCLIP", "nctx4"))
    assert [m.state for m in grid.marks[grid.rows[0], ("BTMRI", "all", 16)]] == [DONE, BROKEN]
    assert [m.state for m in grid.marks[grid.rows[1], ("BTMRI", "all", 16)]] == [MISSING, BROKEN]
    assert len(grid.elsewhere) == 1 and "the same run" in grid.elsewhere[0].why


def test_nothing_of_a_run_becomes_markup(page: Path) -> None:
    text = page.read_text()
    found = Reader(text)
    assert not found.handlers
    assert found.tags["b"] == text.count("<b>") and found.tags["img"] == 1  # the few-shot figure; the others are packed
    assert EVIL not in text and "onerror" not in text
    data = embedded(page)
    assert data["runs"][0]["classes"][0] == EVIL
    assert any(EVIL in line for line in data["runs"][0]["lines"])


def test_page_is_self_contained(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    assert "url(" not in text and "@import" not in text
    assert "default-src 'none'" in text


def test_tables_show_what_is_missing(page: Path) -> None:
    text = unescape(re.sub(r"<[^>]*>", "|", page.read_text()))
    assert "|1 of 2 runs|" in text and "rehearsal (synthetic)" in text
    assert "predictions.csv.gz has" in text and "no results.json" in text


def test_details_of_a_run(page: Path, runs_folder: Path) -> None:
    data = embedded(page)
    assert len(data["runs"]) == 15
    run = next(
        r for r in data["runs"] if r["folder"].endswith("shots_1/CoOp_BiomedCLIP/nctx4/seed1") and "btmri" in r["folder"]
    )
    assert run["confusion"] == [[21, 29], [29, 21]]  # 42 of 100 right
    config = "\n".join(run["lines"][number] for number in run["config"])
    assert config == (Path(run["folder"]) / "config.yaml").read_text().strip()
    assert run["lines"][run["log"][-1]] == "* accuracy: 42.00%"
    assert run["curve"][2] == [3, 3.0]
    path, truth, predicted, p, q, number = run["hardest"][0]
    assert (path, truth, predicted, p, q) == ("class_0/42.png", EVIL, "normal", 0.2, 0.8)
    assert data["thumbnails"][number].startswith("data:image/jpeg;base64,")
    broken = [r for r in data["runs"] if r["state"] != "done"]
    assert len(broken) == 2 and all(r["log"] and r["config"] for r in broken)
    assert any("BUSI" in str(r["facts"]) and r["hardest"][0][5] == -1 for r in data["runs"])  # its images are not here


def test_hardest_images_by_hand() -> None:
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(3), 50)
    y = rng.integers(0, 3, 50)
    found = hardest(Predictions([f"{i}.png" for i in range(50)], y, p), ["a", "b", "c"], 5)
    order = sorted(range(50), key=lambda i: p[i][y[i]])[:5]
    assert [row[0] for row in found] == [f"{i}.png" for i in order]
    assert [row[1:3] for row in found] == [["abc"[y[i]], "abc"[list(p[i]).index(max(p[i]))]] for i in order]


def test_image_folder_is_the_dataset_own(tmp_path: Path) -> None:
    for name in ("COVID_19", "BUSI"):
        (tmp_path / "data" / name / name).mkdir(parents=True)
    (tmp_path / "own").mkdir()
    cases = {"COVID": ("", "COVID_19/COVID_19"), "BUSI": ("", "BUSI/BUSI"), "RETINA": ("", None)}
    for name, (given, expected) in cases.items():
        config = f"DATASET: {{NAME: {name}, ROOT: {tmp_path / 'data'}, FOLDER: '{given}'}}\n"
        (tmp_path / "config.yaml").write_text(config)
        assert image_folder(tmp_path) == (tmp_path / "data" / expected if expected else None)
    (tmp_path / "config.yaml").write_text(f"DATASET: {{NAME: X, ROOT: {tmp_path}, FOLDER: own}}\n")
    assert image_folder(tmp_path) == tmp_path / "own"
    (tmp_path / "config.yaml").write_text("DATASET: [")
    assert image_folder(tmp_path) is None and image_folder(tmp_path / "nowhere") is None


def test_no_image_from_outside_the_dataset(tmp_path: Path) -> None:
    images = tmp_path / "data" / "X" / "X"
    images.mkdir(parents=True)
    for path in (images / "a.png", tmp_path / "data" / "X" / "b.png", tmp_path / "secret.png"):
        Image.new("L", (200, 100)).save(path)
    assert image_file(images, "a.png") == images / "a.png"
    assert image_file(images, "../b.png") == tmp_path / "data" / "X" / "b.png"
    assert image_file(images, "../../../secret.png") is None
    assert image_file(images, str(tmp_path / "secret.png")) is None
    assert image_file(images, "none.png") is None and image_file(None, "a.png") is None
    (images / "text.png").write_text("no image")
    assert thumbnail(images / "text.png") == "" and thumbnail(images / "a.png").startswith("data:image/jpeg")


def test_thumbnails_are_limited(runs_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert report.main([str(runs_folder), "-o", str(path), "--thumbnails", "3", "--metrics", "accuracy"]) == 0
    assert len(embedded(path)["thumbnails"]) == 3
    assert report.main([str(runs_folder), "-o", str(path), "--thumbnails", "0", "--metrics", "accuracy"]) == 0
    assert embedded(path)["thumbnails"] == []


def test_lines_are_kept_once() -> None:
    lines = Lines()
    assert lines.put("a\nb\na") == [0, 1, 0] and lines.put("b") == [1] and lines.texts == ["a", "b"]


def test_only_broken_runs_and_nothing_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "runs")
    (folder / "results.json").unlink()
    out = tmp_path / "report.html"
    assert report.main([str(tmp_path / "runs"), "-o", str(out)]) == 0
    assert "no finished run" in out.read_text()
    assert report.main([str(tmp_path / "nowhere"), "-o", str(out)]) == 2
    assert report.main([str(tmp_path / "runs"), "-o", str(out), "--shots", "3"]) == 2
    assert "no run below" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_leaves_nothing(runs_folder: Path, tmp_path: Path, capsys) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    assert report.main([str(runs_folder), "-o", str(taken)]) == 2
    assert f"error: {taken}: Is a directory; name a file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
