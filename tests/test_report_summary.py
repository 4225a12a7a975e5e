"""What the report says first: who is best and by how much, what lacks, which warnings; and that many runs stay small."""

from __future__ import annotations

import json
import re
import shutil
from html import unescape
from pathlib import Path

import pytest

from analysis import report
from analysis.cast import cast_of
from analysis.report_cards import subtitle, summary_html
from analysis.report_coverage import coverage
from analysis.report_pack import packed, unpacked
from analysis.report_summary import gaps, standings, warnings_of
from analysis.report_tables import dataset_plots
from analysis.results import read_runs
from analysis.stats import paired_bootstrap
from tests.report_runs import EVIL, embedded, rewrite
from tests.synthetic_runs import write_run


def test_one_dataset_is_tested_by_its_images(tmp_path: Path) -> None:
    right = {"CoOp": [1] * 70 + [0] * 30, "KgCoOp": [0] * 10 + [1] * 50 + [0] * 40}
    for method, correct in right.items():
        for seed in (1, 2):
            write_run(tmp_path, method, seed=seed, correct=correct)
    write_run(tmp_path, "MaPLe", seed=1, accuracy=99)
    (standing,) = standings(read_runs(tmp_path)[0])
    assert [(series[0], cell.value) for series, cell in standing.ranked] == [("CoOp", 70), ("KgCoOp", 50)]
    assert standing.others == 1, "MaPLe lacks a seed"
    assert standing.title == "Few-shot, 16 shots" and standing.what == "accuracy in %, BTMRI; chance 50.0"
    d = paired_bootstrap([100.0] * 10 + [0.0] * 50 + [100.0] * 10 + [0.0] * 30)
    assert standing.test.startswith(
        f"{d.value:+.2f} [{d.low:+.2f}, {d.high:+.2f}], p = {d.p:.3g} (paired bootstrap over 100 images)"
    )
    assert "picked as the best two of 2, so p is too small" in standing.test
    assert standing.place("KgCoOp")[0] == 2 and standing.place("MaPLe") is None


def test_several_datasets_are_tested_by_datasets_and_base_to_new_by_its_hm(tmp_path: Path) -> None:
    for number, name in enumerate(("BTMRI", "RETINA", "CTKidney")):
        for method, plus in (("CoOp", 0), ("KgCoOp", 6)):
            for split, accuracy in (("all", 50), ("base", 70), ("new", 60)):
                write_run(tmp_path, method, name, split=split, accuracy=accuracy + number + plus, shots=16)
                write_run(tmp_path, method, name, split=split, accuracy=20, shots=1) if split == "all" else None
    few, pair = standings(read_runs(tmp_path)[0])
    assert few.ranked[0][0][0] == "KgCoOp" and few.ranked[0][1].value == 57, "of the most shots"
    assert "average over 3 datasets" in few.what
    assert few.test.startswith("+6.00 on average, better on 3 of 3 datasets, p = 0.25 (Wilcoxon over datasets)")
    base, new = 77, 67
    assert pair.ranked[0][1].value == pytest.approx(2 * base * new / (base + new)) and "harmonic mean" in pair.what
    assert "better on 3 of 3 datasets" in pair.test
    # the mean of the differences of HMs is not the difference of the HMs of averages, so it is said which it is
    assert pair.test.startswith("+6.03 on average of the datasets' own harmonic means")


def test_leaks_come_first_and_each_is_said_once(tmp_path: Path) -> None:
    for method in ("CoOp", "KgCoOp"):
        for seed in (1, 2):
            folder = write_run(tmp_path, method, seed=seed)
            rewrite(folder, departures=["LR 1"], warnings=["few images", "3 images in training and test"])
    found = warnings_of(read_runs(tmp_path)[0])
    assert found == [
        ("leak", "BTMRI: 3 images in training and test (4 runs: CoOp, KgCoOp)"),
        ("warning", "BTMRI: few images (4 runs: CoOp, KgCoOp)"),
        ("departure", "not the published setting: LR 1 (4 runs: CoOp, KgCoOp)"),
    ]


def test_what_lacks_most_is_named_first(tmp_path: Path) -> None:
    for method, seeds in (("CoOp", (1, 2, 3)), ("KgCoOp", (1,)), ("MaPLe", (1, 2))):
        for seed in seeds:
            write_run(tmp_path, method, seed=seed)
    assert gaps(coverage(*read_runs(tmp_path))) == ["KgCoOp: 2 runs on BTMRI", "MaPLe: 1 run on BTMRI"]


def test_the_cards_say_it_in_words_and_hold_no_markup_of_runs(tmp_path: Path) -> None:
    for method, accuracy in (("CoOp", 80), ("KgCoOp", 70), ("BiomedDPT", 60)):
        rewrite(write_run(tmp_path, method, accuracy=accuracy), warnings=[EVIL])
    runs, defects = read_runs(tmp_path)
    made = summary_html(runs, coverage(runs, defects), cast_of(runs, "BiomedDPT"))
    assert EVIL not in made and EVIL in unescape(made)
    plain = " ".join(re.sub(r"<[^>]*>", " ", made).split())
    assert "Few-shot, 16 shots 80.00 CoOp accuracy in %, BTMRI; chance 50.0 next: KgCoOp 70.00" in plain
    assert "BiomedDPT: 60.00 , place 3 of 3" in plain and "3 of 3 done" in plain
    assert subtitle(runs) == "3 finished runs · 3 methods · BTMRI · BiomedCLIP · seed 1" and subtitle([]) == "no finished run"
    shutil.rmtree(tmp_path / "few_shot/btmri/shots_16/CoOp_BiomedCLIP")
    write_run(tmp_path, "CoOp", "BUSI")
    runs, defects = read_runs(tmp_path)
    made = summary_html(runs, coverage(runs, defects), cast_of(runs, "BiomedDPT"))
    assert "no best: each of 3 rows lacks runs" in made


def test_a_text_is_packed_alike_each_time() -> None:
    text = "é" * 1000 + "\u2028<" + "\ud800"
    assert packed(text) == packed(text) and unpacked(packed(text)) == text.replace("\ud800", "?") and len(packed(text)) < 200


def test_a_run_more_costs_little(tmp_path: Path) -> None:
    """Below 5 MB with 3,000 runs: 1 kB each beside tables, figures and thumbnails."""
    sizes = []
    for count in (20, 120):
        root, page = tmp_path / str(count), tmp_path / f"{count}.html"
        for seed in range(count):
            folder = write_run(root, seed=seed, accuracy=seed % 90)
            log = "".join(f"epoch [{e}/50] batch [1/1] loss {seed / e:.4f} ({seed / e:.4f}) lr 1e-3\n" for e in range(1, 51))
            config = "".join(f"KEY_{n}:\n  VALUE: {n}\n" for n in range(100)) + f"SEED: {seed}\n"
            (folder / "log.txt").write_text(log)
            (folder / "config.yaml").write_text(config)
            rewrite(folder, files={})
        assert report.main([str(root), "-o", str(page), "--metrics", "accuracy"]) == 0
        assert len(embedded(page)["runs"]) == len(embedded(page)["rows"]) == count
        sizes.append(page.stat().st_size)
    assert (sizes[1] - sizes[0]) / 100 < 1000, sizes
    assert json.dumps(embedded(page)["runs"][60]["folder"]).count("seed60") == 1


def test_a_training_figure_counts_the_methods_that_train(tmp_path: Path) -> None:
    for number in range(8):
        folder = write_run(tmp_path, f"Method{number}", accuracy=90 - number)
        if number >= 6:
            (folder / "log.txt").write_text("epoch [1/1] batch [4/4] loss 0.5 (0.5) acc 50.0 (50.0)\n")
    runs = read_runs(tmp_path)[0]
    titles = {
        plot.name.split("_")[0]: plot.title for plot in dataset_plots(runs, "BTMRI", cast_of(runs, "BiomedDPT"), several=False)
    }
    assert "6 of 8 methods" in titles["confusion"] and "2 of 8 methods" in titles["training"]
