"""Tests on targets in tables, figures, report and paired tests: by hand, and never among in-domain runs."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

import parse_results
from analysis import check, figures, report
from analysis.results import DamagedRun, read_run
from tests.synthetic_runs import write_run


def table(root: Path, capsys, *words: str) -> str:
    capsys.readouterr()
    assert parse_results.main([str(root), *words]) == 0
    return capsys.readouterr().out


def write_target(root: Path, source: str, target: str, **kwargs: object) -> Path:
    """A finished test on a target."""
    folder = write_run(root / "tmp", dataset=target, **kwargs)
    record = json.loads((folder / "results.json").read_text())
    record |= {"split": "target", "task": "cross_dataset",
               "source": {"dataset": source, "key": source.lower(), "folder": "..", "split_kind": "own"}}  # fmt: skip
    (folder / "results.json").write_text(json.dumps(record))
    place = root / "cross_dataset" / source.lower() / folder.relative_to(root / "tmp" / "few_shot")
    place.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(folder, place))


@pytest.fixture
def crossed(tmp_path: Path) -> Path:
    for seed in (1, 2, 3):
        for method, plus in (("CoOp", 0), ("BiomedDPT", 5)):
            write_run(tmp_path, method, "BTMRI", seed=seed, accuracy=70 + seed + plus)
            for target, accuracy in (("BUSI", 40), ("RETINA", 50)):
                write_target(tmp_path, "BTMRI", target, method=method, seed=seed, accuracy=accuracy + seed + plus)
        write_run(tmp_path, "CoOp", "BUSI", seed=seed, accuracy=90)
        write_target(tmp_path, "BUSI", "RETINA", method="CoOp", seed=seed, accuracy=20)
    return tmp_path


def test_the_table_by_hand_and_what_is_missing(crossed: Path, capsys) -> None:
    out = table(crossed, capsys, "--task", "cross_dataset", "--format", "csv", "--sources", "btmri")
    cells = {(row["method"], row["column"]): row for row in csv.DictReader(io.StringIO(out))}
    values = {column: float(row["value"]) for (method, column), row in cells.items() if method == "CoOp"}
    assert values == {"BTMRI (source)": 72, "BUSI": 42, "RETINA": 52, "average over 2 targets": 47}
    assert float(cells["CoOp", "BUSI"]["ci95"]) == pytest.approx(4.302653 / 3**0.5, abs=1e-4)
    assert cells["BiomedDPT", "RETINA"]["best"] == "1"
    shutil.rmtree(next(crossed.glob("cross_dataset/btmri/busi/shots_16/CoOp*/*/seed2")))
    shown = table(crossed, capsys, "--task", "cross_dataset")
    assert "CoOp / BiomedCLIP / nctx4, cross-dataset, 16 shots: BTMRI → BUSI seed 2" in shown
    assert "BUSI → RETINA, 16 shots of the source" in shown and "[2 of 3 runs]" in shown
    assert "all runs on Mars" in table(crossed, capsys, "--task", "cross_dataset", "--datasets", "BTMRI", "Mars")
    only = table(crossed, capsys, "--task", "cross_dataset", "--sources", "BUSI")
    assert "BTMRI" not in only and "20.00" in only


def test_no_reader_takes_it_for_an_in_domain_run(crossed: Path, capsys) -> None:
    few = table(crossed, capsys, "--task", "few_shot", "--published", "--modalities")
    for value in ("42.00", "52.00", "RETINA", "→"):
        assert value not in few
    assert "90.00" in few
    shown = table(crossed, capsys, "--paired", "BiomedDPT", "CoOp")
    own, _, other = shown.partition("tested on other datasets than trained on")
    assert "BTMRI → RETINA" in other and "→" not in own.rpartition("\n")[0] and "over 1" not in own
    ablation = table(crossed, capsys, "--ablation", "CoOp")
    assert "→" not in ablation and "52.00" not in ablation and "[" not in ablation
    check.main([str(crossed), "--all"])
    said = capsys.readouterr()
    assert "2 of 11 datasets" in said.out and "42.00" not in said.out and "→" not in said.out
    assert figures.main([str(crossed), "-o", str(crossed / "figures"), "--only", "few_shot", "bars"]) == 0
    drawn = "".join(path.read_text() for path in (crossed / "figures").glob("*.csv"))
    assert "BUSI" in drawn and "RETINA" not in drawn and "→" not in drawn
    assert report.main([str(crossed), "-o", str(crossed / "report.html"), "--thumbnails", "0"]) == 0
    page = (crossed / "report.html").read_text()
    assert "Cross-dataset accuracy" in page and "BTMRI → RETINA" in page
    assert not [line for line in page.splitlines() if "Few-shot accuracy in %, RETINA" in line]


def test_a_test_on_another_dataset_that_hides_its_source_is_damaged(crossed: Path) -> None:
    for change in ({"split": "all"}, {"source": None}, {"source": []}, {"source": {"dataset": 3}}, {"split": "base"}):
        folder = next(crossed.glob("cross_dataset/btmri/busi/**/seed1"))
        before = (folder / "results.json").read_text()
        (folder / "results.json").write_text(json.dumps(json.loads(before) | change))
        with pytest.raises(DamagedRun, match="source"):
            read_run(folder)
        (folder / "results.json").write_text(before)
    assert read_run(folder).source == "BTMRI"


@pytest.mark.parametrize("style", ["terminal", "csv"])
def test_a_folder_without_such_runs_is_one_line(style: str, tmp_path: Path, capsys) -> None:
    write_run(tmp_path, "CoOp", "BTMRI", accuracy=70)
    asked = [str(tmp_path), "--task", "cross_dataset"]
    assert parse_results.main([*asked, "--format", style]) == 2
    said = capsys.readouterr()
    assert not said.out and said.err.count("\n") == 1 and "no finished run below" in said.err
    assert report.main([*asked, "-o", str(tmp_path / "page.html")]) == 2 and not (tmp_path / "page.html").exists()
    assert figures.main([*asked, "-o", str(tmp_path / "figures")]) == 2 and not (tmp_path / "figures").exists()


def test_a_report_of_such_runs_alone_begins_with_their_table(tmp_path: Path, capsys) -> None:
    write_target(tmp_path, "BTMRI", "BUSI", accuracy=42)
    page = tmp_path / "page.html"
    assert report.main([str(tmp_path), "-o", str(page)]) == 0
    text = page.read_text()
    tables = text[text.index('id="tables"') : text.index('id="figures"')]
    assert "42.00" in tables and "no finished run" not in text[: text.index("<script")]
