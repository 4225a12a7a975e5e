"""Paired tests against their definitions, and the check of finished runs against published and recorded numbers."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as reference

import parse_results
from analysis import check
from analysis.counted import published
from analysis.stats import paired_bootstrap, wilcoxon
from tests.synthetic_runs import write_run

# -- statistics -------------------------------------------------------------------------------------------


def test_the_bootstrap_agrees_with_scipys_and_depends_on_the_seed_alone() -> None:
    d = np.random.default_rng(1).choice([-100, 0, 100 / 3, 100], 400, p=[0.1, 0.6, 0.1, 0.2])
    got, other = paired_bootstrap(d), paired_bootstrap(d, seed=1)
    theirs = reference.bootstrap((d,), np.mean, n_resamples=10_000, method="percentile", batch=500)
    spread = theirs.standard_error
    assert got.value == pytest.approx(d.mean())
    assert got.low == pytest.approx(theirs.confidence_interval.low, abs=0.15 * spread)
    assert got.high == pytest.approx(theirs.confidence_interval.high, abs=0.15 * spread)
    assert paired_bootstrap(d) == got != other


def test_the_p_value_falls_with_the_difference_and_is_one_without() -> None:
    assert paired_bootstrap(np.zeros(50)).p == 1
    assert paired_bootstrap(np.full(50, 100.0)).p == pytest.approx(2 / 10_001)
    balanced = paired_bootstrap([100] * 20 + [-100] * 20)
    assert balanced.p > 0.9 and balanced.low < 0 < balanced.high
    # 60 of 100 images won: the number won in a resample is binomial, and 50 or fewer are no win
    wanted = 2 * reference.binom.cdf(50, 100, 0.6)
    assert paired_bootstrap([100.0] * 60 + [-100.0] * 40).p == pytest.approx(wanted, abs=0.008)
    with pytest.raises(ValueError, match="shape"):
        paired_bootstrap([])


def test_wilcoxon_by_enumeration_of_all_signs() -> None:
    a, b = [61.0, 72.5, 80.0, 55.0, 90.0, 47.0], [60.0, 70.0, 83.5, 50.0, 85.5, 41.0]
    d = np.subtract(a, b)
    ranks = reference.rankdata(np.abs(d))
    observed = ranks[d > 0].sum()
    sums = [sum(r for r, yes in zip(ranks, signs, strict=True) if yes) for signs in itertools.product([0, 1], repeat=6)]
    tail = min(np.mean([s >= observed for s in sums]), np.mean([s <= observed for s in sums]))
    assert wilcoxon(a, b) == pytest.approx(2 * tail)
    assert wilcoxon(a, a) == 1 and wilcoxon([1], [2]) is None


# -- A against B ------------------------------------------------------------------------------------------


def paired(root: Path, capsys, *words: str) -> tuple[dict[str, dict[str, float]], str]:
    assert parse_results.main([str(root), "--paired", *words]) == 0
    shown = capsys.readouterr().out
    assert parse_results.main([str(root), "--format", "csv", "--paired", *words]) == 0
    rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(row["dataset"], {})[row["column"]] = float(row["value"])
    return found, shown


def test_two_methods_are_paired_by_image_and_seed(tmp_path: Path, capsys) -> None:
    drawn = np.random.default_rng(0)
    sides: dict[str, list[np.ndarray]] = {"A": [], "B": []}
    for seed in (1, 2, 3):
        for method, rate in (("A", 0.7), ("B", 0.5)):
            sides[method].append((drawn.random(200) < rate).astype(int))
            write_run(tmp_path, method, seed=seed, correct=sides[method][-1].tolist())
    write_run(tmp_path, "A", seed=4, correct=[1] * 200)  # B has no such seed: it does not count
    found, shown = paired(tmp_path, capsys, "A", "B")
    row, d = found["BTMRI"], 100 * (np.mean(sides["A"], axis=0) - np.mean(sides["B"], axis=0))
    assert (row["images"], row["seeds"]) == (200, 3)
    assert row["A"] - row["B"] == pytest.approx(row["difference"]) == pytest.approx(d.mean())
    draws = np.random.default_rng(3).integers(200, size=(4000, 200))
    low, high = np.percentile(d[draws].mean(axis=1), [2.5, 97.5])
    assert (row["95 % low"], row["95 % high"]) == (pytest.approx(low, abs=1), pytest.approx(high, abs=1))
    assert row["p"] == pytest.approx(2 / 10_001) and "Wilcoxon signed-rank test over datasets: not defined for 1" in shown
    assert paired(tmp_path, capsys, "A", "B")[0] == found
    assert paired(tmp_path, capsys, "A", "A")[0]["BTMRI"]["p"] == 1


def test_wilcoxon_over_datasets_and_what_cannot_be_compared(tmp_path: Path, capsys) -> None:
    for number in range(6):
        write_run(tmp_path, "A", f"D{number}", accuracy=60 + number)
        write_run(tmp_path, "B", f"D{number}", accuracy=50)
    write_run(tmp_path, "A", "E", accuracy=90)
    write_run(tmp_path, "B", "E", correct=[1] * 40)  # other images
    write_run(tmp_path, "A", "F", accuracy=90)
    found, shown = paired(tmp_path, capsys, "A", "B")
    assert len(found) == 6
    assert f"over 6 datasets: mean difference +12.50, p = {2 / 2**6:.4f}" in shown
    assert "not compared: E: the two were not tested on the same images" in shown
    assert "not compared: F: no seed that both have" in shown


def test_a_name_must_fit_one_series(tmp_path: Path, capsys) -> None:
    write_run(tmp_path, "CoOp", variant="nctx4")
    write_run(tmp_path, "CoOp", variant="nctx8", changed={"TRAINER.COOP.N_CTX": (4, 8)}, accuracy=60)
    write_run(tmp_path, "KgCoOp")
    assert parse_results.main([str(tmp_path), "--paired", "CoOp", "KgCoOp"]) == 2
    said = capsys.readouterr().err
    assert '"CoOp" fits 2 series' in said and "nctx8 (N_CTX=8)" in said
    assert paired(tmp_path, capsys, "CoOp/nctx8", "CoOp/nctx4")[0]["BTMRI"]["difference"] == pytest.approx(10)
    assert parse_results.main([str(tmp_path), "--paired", "Coop", "KgCoOp"]) == 2
    assert '"Coop" fits no series' in capsys.readouterr().err


# -- check ------------------------------------------------------------------------------------------------


def protocol(root: Path, method: str, accuracy: int, **kwargs: object) -> None:
    """Eleven datasets, three seeds, 16 shots."""
    for name, seed in itertools.product(published()["datasets"]["few_shot"], (1, 2, 3)):
        write_run(root, method, name, seed=seed, accuracy=accuracy, **kwargs)


def test_averages_outside_the_papers_are_listed_with_their_configs(tmp_path: Path, capsys) -> None:
    protocol(tmp_path, "CoOp", 70)  # 69.72 and 69.62 are published
    assert check.main([str(tmp_path)]) == 0
    assert "2 cells compared, 0 outside" in capsys.readouterr().out
    protocol(tmp_path, "BiomedDPT", 60)  # 73.51
    assert check.main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    theirs = published()["papers"]["Peng et al., Biomed-DPT (arXiv 2505.05189)"]["few_shot"]["BiomedDPT"][4]
    assert f"OUTSIDE: BiomedDPT / BiomedCLIP / nctx4, few_shot, 16 shots: 60.00, Peng et al., Biomed-DPT (arXiv 2505.05189) "\
           f"{theirs:.2f} ± 2.00 ({60 - theirs:+.2f})" in out  # fmt: skip
    assert out.count("config.yaml") == 33 and "config 0123456789ab" in out and "CoOp" not in out.replace("BiomedCoOp", "")
    assert check.main([str(tmp_path), "--tolerance", "20"]) == 0


def test_base_to_new_is_checked_with_hm(tmp_path: Path, capsys) -> None:
    protocol(tmp_path, "CoOp", 74, split="base")
    protocol(tmp_path, "CoOp", 50, split="new")
    assert check.main([str(tmp_path), "--all"]) == 1
    out = capsys.readouterr().out
    assert out.count("inside: CoOp") == 2 and out.count("OUTSIDE: CoOp") == 4  # two papers: base fits, new and HM do not
    assert "BUSI" not in out.replace("BUSI is", "") and out.count("config.yaml") == 2 * 30 + 2 * 60
    assert "of 10 datasets" not in out


def test_busi_is_no_dataset_of_wilcoxons_test_on_base_to_new(tmp_path: Path, capsys) -> None:
    for name in ("BUSI", "D1", "D2", "D3"):
        write_run(tmp_path, "A", name, split="base", accuracy=60)
        write_run(tmp_path, "B", name, split="base", accuracy=50)
    found, shown = paired(tmp_path, capsys, "A", "B")
    assert len(found) == 4 and "over 3 datasets: mean difference +10.00" in shown and "BUSI is shown apart" in shown


@pytest.mark.parametrize("kwargs", [{"rehearsal": True}, {"backbone": "PhantomCLIP"}])
def test_what_cannot_be_compared_is_not_outside(kwargs, tmp_path: Path, capsys) -> None:
    protocol(tmp_path, "CoOp", 20, **kwargs)
    assert check.main([str(tmp_path), "--all"]) == 2
    told = capsys.readouterr()
    assert "nothing to compare" in told.err and ("not comparable: CoOp" in told.out) == ("rehearsal" in kwargs)
    assert "69.72" not in told.out and "20.00" not in told.out, "no published number beside ours"


def test_recorded_bands(tmp_path: Path, capsys) -> None:
    runs, bands = tmp_path / "runs", tmp_path / "bands.json"
    for seed, accuracy in ((1, 60), (2, 62), (3, 64)):
        write_run(runs, seed=seed, accuracy=accuracy, rehearsal=True, backbone="PhantomCLIP")
    write_run(runs, "ZeroshotCLIP", seed=1, accuracy=40)
    assert check.main([str(runs), "--record", str(bands)]) == 0
    cells = {cell["method"]: cell for cell in json.loads(bands.read_text())["cells"]}
    assert cells["CoOp"]["mean"] == 62 and cells["CoOp"]["band"] == pytest.approx(4.302653 * 2 * (2 / 3) ** 0.5, abs=1e-3)
    assert cells["CoOp"]["seeds"] == [1, 2, 3] and cells["ZeroshotCLIP"]["band"] == check.TOLERANCE
    assert check.main([str(runs), "--bands", str(bands)]) == 0
    assert "2 cells compared, 0 outside" in capsys.readouterr().out
    for seed in (1, 2, 3):
        (folder,) = runs.glob(f"**/CoOp_PhantomCLIP/nctx4/seed{seed}")
        shutil.rmtree(folder)
        write_run(runs, seed=seed, accuracy=50, rehearsal=True, backbone="PhantomCLIP", changed={"OPTIM.LR": (0.002, 0.2)})
    assert check.main([str(runs), "--bands", str(bands)]) == 0  # other settings are another cell
    out = capsys.readouterr().out
    assert "no finished run: CoOp / PhantomCLIP, BTMRI all, 16 shots" in out and "1 cell of finished runs has no band" in out
    for path in runs.glob("**/CoOp_PhantomCLIP/nctx4/seed*/results.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"changed": {}}))
    assert check.main([str(runs), "--bands", str(bands)]) == 1
    out = capsys.readouterr().out
    assert "OUTSIDE: CoOp / PhantomCLIP, BTMRI all, 16 shots, accuracy: 50.00, bands.json 62.00 ± 7.03 (-12.00)" in out
    assert out.count("config.yaml: 50.00") == 3
    shutil.rmtree(next(runs.glob("**/CoOp_PhantomCLIP/nctx4/seed3")))
    assert check.main([str(runs), "--bands", str(bands), "--all"]) == 0
    assert "not comparable: CoOp / PhantomCLIP" in (out := capsys.readouterr().out) and "no finished run of seed 3" in out


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"metric": "accuracy", "cells": [{"mean": 1}]}', '{"metric": "accuracy", "cells": 3}']
)
def test_a_file_that_holds_no_bands_is_one_line(content, tmp_path: Path, capsys) -> None:
    write_run(tmp_path / "runs")
    path = tmp_path / "bands.json"
    path.write_text(content)
    assert check.main([str(tmp_path / "runs"), "--bands", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path} is no band file")
    assert check.main([str(tmp_path / "nowhere")]) == 2
