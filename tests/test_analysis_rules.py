"""Statistics, metrics and texts of analysis/, each against its definition written out here."""

from __future__ import annotations

import csv
import itertools
import math
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from analysis import metrics as measured
from analysis.files import harmless, read_text, write_whole
from analysis.paired import _over_datasets, _row, hits, image_accuracies
from analysis.predictions import Predictions, write_predictions
from analysis.render import Cell, Table, render, render_tables
from analysis.results import PREDICTIONS, DamagedRun
from analysis.stats import ci95, harmonic, paired_bootstrap, wilcoxon


def test_interval_and_harmonic_mean() -> None:
    assert ci95([1.0]) is None and ci95([1.0, 3.0]) == pytest.approx(12.7062 * math.sqrt(2) / math.sqrt(2), rel=1e-4)
    assert ci95([1.0, 2.0, 6.0]) == pytest.approx(4.30265 * math.sqrt(7) / math.sqrt(3), rel=1e-4)
    assert harmonic(90, 60) == 72 and harmonic(0, 0) == 0


def test_bootstrap_against_all_resamples() -> None:
    """Of four images all 256 draws can be listed; the mean is tested from both sides."""
    d = [0.0, 100.0, 100.0, -100.0]
    means = np.array([np.mean(draw) for draw in itertools.product(d, repeat=4)])
    found = paired_bootstrap(d, resamples=200_000)
    assert found.value == 25 and found.p == pytest.approx(2 * min((means <= 0).mean(), (means >= 0).mean()), abs=0.01)
    assert (found.low, found.high) == (-50.0, 100.0)
    turned = paired_bootstrap([-one for one in d], resamples=200_000)
    assert turned.p == pytest.approx(found.p, abs=0.01) and turned.value == -25
    assert paired_bootstrap([100.0] * 5).p == pytest.approx(2 / 10001)  # the smallest that as many draws can tell


def test_wilcoxon_by_all_signs() -> None:
    a, b = [1.0, 5.0, 9.0, 14.0], [0.0, 7.0, 6.0, 10.0]
    ranks = [1, -2, 3, 4]  # of the differences 1, -2, 3, 4
    seen = [sum(s * abs(r) for s, r in zip(signs, ranks, strict=True)) for signs in itertools.product((1, -1), repeat=4)]
    assert wilcoxon(a, b) == pytest.approx(np.mean(np.abs(seen) >= abs(sum(ranks))))
    assert wilcoxon([1.0], [2.0]) is None and wilcoxon(a, a) == 1.0
    with pytest.raises(ValueError, match="no pairs"):
        wilcoxon(a, b[1:])


def run(folder: Path, labels: list[int], probabilities: list[list[float]], names: str = "abc") -> SimpleNamespace:
    folder.mkdir()
    write_predictions(folder / PREDICTIONS, Predictions(list(names), np.array(labels), np.array(probabilities)))
    return SimpleNamespace(folder=folder)


def test_accuracies_of_images_over_seeds(tmp_path: Path) -> None:
    right, wrong = [0.9, 0.1], [0.2, 0.8]
    one = run(tmp_path / "1", [0, 0, 1], [right, wrong, wrong])
    two = run(tmp_path / "2", [0, 0, 1], [wrong, wrong, wrong])
    assert image_accuracies([one, two]) == {("a", 0): 50.0, ("b", 0): 0.0, ("c", 1): 100.0}
    assert hits(Predictions(["a"], np.array([1]), np.array([wrong]))) == {("a", 1): 100.0}
    with pytest.raises(DamagedRun, match="tested on other images"):
        image_accuracies([one, run(tmp_path / "3", [0, 0, 1], [right] * 3, "abd")])
    with pytest.raises(DamagedRun, match="no seed"):
        image_accuracies([])


def test_the_first_against_the_second() -> None:
    images, seeds, first, second, difference, *_ = _row([np.array([100.0, 0.0]), np.array([0.0, 0.0])], 3, 0)
    assert [cell.value for cell in (images, seeds, first, second, difference)] == [2, 3, 50.0, 0.0, 50.0]
    said = _over_datasets([(3.0, 1.0), (5.0, 4.0), (9.0, 6.0)])
    assert "mean difference +2.00, p = 0.2500" in said and "cannot be below 0.25" in said


def test_calibration_error_bin_by_bin() -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.dirichlet([1, 1, 1], 300), [[0.6, 0.4, 0.0], [0.8, 0.1, 0.1]]])  # on edges too
    y = rng.integers(0, 3, 302)
    total = 0.0
    for low, high in itertools.pairwise(n / 15 for n in range(16)):
        inside = [n for n in range(302) if low < p[n].max() <= high + 1e-12]
        if inside:
            gap = np.mean([p[n].argmax() == y[n] for n in inside]) - np.mean([p[n].max() for n in inside])
            total += len(inside) / 302 * abs(gap)
    assert measured.expected_calibration_error(y, p) == pytest.approx(total)
    edge = [[0.6, 0.4], [0.65, 0.35]]  # (8/15, 9/15] and (9/15, 10/15]: two bins, of opposite gaps
    assert measured.expected_calibration_error([0, 1], edge) == pytest.approx((0.4 + 0.65) / 2)


def test_metrics_of_a_small_test() -> None:
    p = np.eye(4)[[0, 1, 2, 0, 1]] * 0.94 + 0.015
    y = [0, 1, 2, 2, 1]
    found = measured.metrics(y, p, list("abcd"), ordered=True)
    assert found["metrics"]["accuracy"] == 80 and found["metrics"]["error_rate"] == pytest.approx(20)
    assert found["metrics"]["macro_f1"] == pytest.approx(100 * (2 / 3 + 1 + 2 / 3) / 3)  # d has no image
    cost = sum((a - b) ** 2 for a, b in zip(y, (0, 1, 2, 0, 1), strict=True)) / 5
    chance = sum((a - b) ** 2 for a in y for b in (0, 1, 2, 0, 1)) / 25
    assert found["metrics"]["cohen_kappa"] == pytest.approx(1 - cost / chance)
    assert found["per_class"][3]["auroc"] is None and found["per_class"][0]["auroc"] is not None
    assert measured.metrics([0, 0], p[:2], list("abcd"))["per_class"][0]["auroc"] is None


@pytest.mark.parametrize("y, p", [([2], [[0.5, 0.5]]), ([0], [[1.5, -0.5]]), ([0], [[0.5, 0.4]]), ([-1], [[0.5, 0.5]])])
def test_what_is_no_test_is_refused(y: list[int], p: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="must be"):
        measured.metrics(y, p, ["a", "b"])


def test_cells_that_a_spreadsheet_would_run() -> None:
    cells = ["=1+1", "+a", "-a", "@a", "\t=1", "a", "", "-1.5", "+2", 3, None]
    assert harmless(cells) == ["'=1+1", "'+a", "'-a", "'@a", "'\t=1", "a", "", "-1.5", "+2", 3, None]
    text = render("=title", ["@head"], [["-row"], ["-1.0"]], "csv")
    assert list(csv.reader(text.splitlines())) == [["table", "'@head"], ["'=title", "'-row"], ["'=title", "-1.0"]]


def test_a_table_as_csv() -> None:
    rows = ((("=m",), (Cell(3.0, published=4.5), Cell(1.0))), (("n",), (Cell(2.0), Cell(5.0))))
    for best, wanted in (("max", ["1", "0", "0", "1"]), ("min", ["0", "1", "1", "0"])):
        table = Table("t", ("method",), ("a", "b"), rows, (), best=best)
        lines = list(csv.DictReader(render_tables([table], "csv").splitlines()))
        assert [line["method"] for line in lines] == ["'=m", "'=m", "n", "n"]
        assert lines[0]["difference"] == "-1.5" and [line["best"] for line in lines] == wanted


def test_files_that_are_whole_or_not_there(tmp_path: Path, monkeypatch) -> None:
    write_whole(tmp_path / "a" / "x", "é")
    assert read_text(tmp_path / "a" / "x") == "é" and os.listdir(tmp_path / "a") == ["x"]
    with pytest.raises(OSError, match="not a regular file"):
        read_text(Path("/dev/null"))
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_whole(tmp_path / "a" / "x", "other")
    assert os.listdir(tmp_path / "a") == ["x"] and read_text(tmp_path / "a" / "x") == "é"
