"""Temperature and prediction sets: by hand, against their definitions, and their promise over many draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import softmax

from analysis.conformal import (
    Calibration,
    TooFewImages,
    calibrated,
    fitted_temperature,
    held_out,
    images_needed,
    labelled_needed,
    nll,
    nonconformity,
    parts,
    rank_of,
    tempered,
    threshold,
)
from analysis.evaluation import Redrawn, as_text, brier_score, evaluation
from analysis.metrics import metrics

NAMES = ["a", "b", "c"]


def drawn(
    count: int, seed: int, classes: int = 4, sharpness: float = 2.0, believed: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from true probabilities; and what a model says, whose scores are ``believed`` times the true ones."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, sharpness, (count, classes))
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    labels = (p.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1).clip(max=classes - 1)
    return labels, tempered(p, 1 / believed)


# -- temperature ------------------------------------------------------------------------------------------


def test_tempering_is_the_softmax_of_divided_scores() -> None:
    scores = np.array([[2.0, -1.0, 0.5], [0.0, 900.0, -900.0]])
    np.testing.assert_allclose(tempered(softmax(scores[:1], axis=1), 2.5), softmax(scores[:1] / 2.5, axis=1), rtol=1e-12)
    assert np.isfinite(tempered(softmax(scores, axis=1), 0.1)).all()
    np.testing.assert_allclose(tempered(softmax(scores, axis=1), 1.0), softmax(scores, axis=1), atol=1e-12)


@pytest.mark.parametrize("believed", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_was_believed_too_much(believed: float) -> None:
    labels, p = drawn(6000, seed=3, believed=believed)
    found, note = fitted_temperature(labels, p)
    assert note == "" and found == pytest.approx(believed, rel=0.08)
    grid = min(np.exp(np.linspace(-2, 2, 801)), key=lambda t: nll(labels, tempered(p, t)))
    assert found == pytest.approx(grid, rel=0.01)


def test_without_an_error_there_is_no_temperature() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert fitted_temperature([0, 1], p) == (1.0, fitted_temperature([0, 1], p)[1])
    assert "none of the 2 images" in fitted_temperature([0, 1], p)[1]
    found, note = fitted_temperature([1, 0], p)  # always wrong: the flatter the better
    assert found == pytest.approx(20, rel=0.01) and "at the end" in note


# -- sets -------------------------------------------------------------------------------------------------


def test_scores_and_sets_by_hand() -> None:
    p = [[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]
    np.testing.assert_allclose(nonconformity(p), [[0.5, 0.8, 1.0], [1.0, 0.9, 0.7]])
    np.testing.assert_allclose(nonconformity(p, 0.1), [[0.5, 0.9, 1.2], [1.2, 1.0, 0.7]])
    kept = Calibration(1.0, (0.6, 0.7, 0.8, 0.85))
    # n = 4: of 80 % the ceil(5 * 0.8) = 4th, of 60 % the 3rd
    assert kept.sets(p, 0.8).tolist() == [[True, True, False], [False, False, True]]
    assert kept.sets(p, 0.6).tolist() == [[True, True, False], [False, False, True]]
    assert kept.sets(p, 0.2).tolist() == [[True, False, False], [False, False, True]]  # 0.7 > 0.6: the likeliest stays in


@pytest.mark.parametrize("coverage", [0.5, 0.55, 0.7, 0.8, 0.9, 0.95, 0.99])
def test_the_rank_and_the_least_number_of_images(coverage: float) -> None:
    from fractions import Fraction

    exact = Fraction(str(coverage))
    for count in range(1, 300):
        assert rank_of(count, coverage) == math.ceil((count + 1) * exact)
    least = images_needed(coverage)
    assert least == math.ceil(1 / (1 - exact)) - 1
    assert rank_of(least, coverage) <= least and rank_of(least - 1, coverage) > least - 1
    scores = np.linspace(0, 1, least)
    assert threshold(scores, coverage) == scores[rank_of(least, coverage) - 1]
    with pytest.raises(TooFewImages, match=f"need {least}"):
        threshold(scores[1:], coverage)


@pytest.mark.parametrize("penalty", [0.0, 0.1])
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_hold_the_true_class_as_often_as_promised(coverage: float, penalty: float) -> None:
    """Over many draws of calibration and new images of one kind; the model is far too sure of itself."""
    covered, alone = [], []
    for seed in range(150):
        labels, p = drawn(60 + 200, seed, believed=3.0)
        kept, _ = calibrated(labels[:60], p[:60], coverage, penalty, seed=seed)
        inside = kept.sets(p[60:], coverage)
        covered.append(inside[np.arange(200), labels[60:]].mean())
        alone.append(inside.sum(axis=1).mean())
    error = np.std(covered) / math.sqrt(len(covered))
    assert np.mean(covered) >= coverage - 3 * error
    assert np.mean(covered) <= coverage + 1 / 31 + 0.05  # 30 images for the threshold; some more as the likeliest stays in
    assert 1 <= np.mean(alone) < 4


def test_each_image_has_one_use_and_what_is_held_out_is_measured() -> None:
    labels, p = drawn(200, seed=5, believed=2.0)
    kept, report = calibrated(labels, p, 0.9, seed=7)
    own = parts(200, 7)
    assert {name: len(numbers) for name, numbers in own.items()} == report["images"] == {
        "temperature": 50, "threshold": 100, "held out": 50
    }  # fmt: skip
    assert sorted(np.concatenate(list(own.values())).tolist()) == list(range(200))
    assert kept.temperature == fitted_temperature(labels[own["temperature"]], p[own["temperature"]])[0]
    calm = tempered(p, kept.temperature)
    wanted = [nonconformity(calm)[number, labels[number]] for number in own["threshold"]]
    assert list(kept.scores) == sorted(wanted)
    told, rest = report["held_out"], own["held out"]
    limit = sorted(wanted)[math.ceil(101 * 0.9) - 1]
    inside = nonconformity(calm[rest]) <= limit
    inside[np.arange(50), calm[rest].argmax(axis=1)] = True
    hits = [bool(inside[row, labels[number]]) for row, number in enumerate(rest)]
    assert told["coverage"] == np.mean(hits) and told["mean_set_size"] == inside.sum() / 50
    low, high = told["coverage_interval"]
    assert low < told["coverage"] <= high <= 1
    for label in range(4):
        mine = [hit for hit, number in zip(hits, rest, strict=True) if labels[number] == label]
        assert told["coverage_per_class"][label] == pytest.approx(np.mean(mine))
    assert told["nll"]["calibrated"] < told["nll"]["raw"] and told["ece"]["calibrated"] < told["ece"]["raw"]


def test_too_few_images_are_refused_with_their_number() -> None:
    assert [labelled_needed(coverage) for coverage in (0.5, 0.9, 0.95, 0.99)] == [8, 17, 37, 197]
    labels, p = drawn(197, seed=1)
    with pytest.raises(TooFewImages, match="16 labelled images are too few for sets of 90 %: 17 are needed"):
        calibrated(labels[:16], p[:16], 0.9)
    kept, _ = calibrated(labels[:17], p[:17], 0.9)
    assert len(kept.scores) == 9
    with pytest.raises(TooFewImages, match="9 calibration images allow sets of up to 90 %: sets of 95 % need 19"):
        kept.sets(p, 0.95)
    calibrated(labels, p, 0.99)
    for wrong in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            calibrated(labels, p, wrong)
        with pytest.raises(ValueError, match="between 0 and 1"):
            threshold(kept.scores, wrong)
    with pytest.raises(ValueError, match="penalty -1"):
        calibrated(labels, p, 0.9, penalty=-1)


def test_a_class_without_images_has_no_coverage() -> None:
    found = held_out(Calibration(1.0, tuple(np.linspace(0.1, 1, 20))), [0, 0, 1], [[0.8, 0.1, 0.1]] * 3, 0.9)
    assert found["coverage_per_class"][2] is None and found["coverage_per_class"][0] == 1.0


# -- metrics with intervals -------------------------------------------------------------------------------


def test_brier_by_hand() -> None:
    assert brier_score([0, 1], [[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]]) == pytest.approx((0.09 + 0.04 + 0.01 + 1 + 1) / 2)


def test_intervals_are_percentiles_of_the_metrics_of_redrawn_images() -> None:
    labels, p = drawn(60, seed=2, classes=3)
    found = evaluation(labels, p, NAMES, resamples=40, seed=9)
    once = metrics(labels, p, NAMES)
    assert {**once["metrics"], "brier": brier_score(labels, p)} == found["metrics"]
    assert found["confusion_matrix"] == once["confusion_matrix"] and found["num_test"] == 60
    rng = np.random.default_rng(9)
    rows = [rng.integers(60, size=60) for _ in range(40)]
    for name in ("accuracy", "macro_auroc", "cohen_kappa", "ece"):
        values = [metrics(labels[own], p[own], NAMES)["metrics"][name] for own in rows]
        assert found["intervals"][name] == pytest.approx(np.percentile(values, [2.5, 97.5]).tolist())
    assert found["intervals"]["brier"][0] < found["metrics"]["brier"] < found["intervals"]["brier"][1]
    assert evaluation(labels, p, NAMES, resamples=40, seed=9) == found
    text = as_text(found, NAMES)
    low, high = found["intervals"]["accuracy"]
    assert f"{found['metrics']['accuracy']:.2f} %" in text and f"{low:.2f} to {high:.2f} %" in text
    for row, name in zip(found["confusion_matrix"], ("1 a", "2 b", "3 c"), strict=True):
        (line,) = [line for line in text.splitlines() if line.startswith(name)]
        assert [int(cell) for cell in line[3:].split()] == row


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("case", ["sharp", "ties", "a class is absent", "never predicted", "one class"])
def test_redrawn_metrics_are_those_of_scikit_learn(case: str, ordered: bool) -> None:
    labels, p = drawn(30, seed=4, classes=3)
    if case == "ties":
        p = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]])[labels % 2]
    if case == "a class is absent":
        labels = labels % 2
    if case == "never predicted":
        p = p @ np.array([[1, 0, 0], [0, 1, 0], [0.98, 0, 0.02]])
    if case == "one class":
        labels = np.zeros_like(labels)
    rng = np.random.default_rng(1)
    for _ in range(4):
        rows = rng.integers(30, size=30)
        wanted = metrics(labels[rows], p[rows], NAMES, ordered)["metrics"] | {"brier": brier_score(labels[rows], p[rows])}
        found = Redrawn(labels, p, ordered)(np.bincount(rows, minlength=30))
        assert list(found) == list(wanted)
        for name, value in wanted.items():
            assert found[name] == pytest.approx(math.nan if value is None else value, nan_ok=True, abs=1e-9), name


def test_what_is_not_defined_has_no_interval_and_says_so() -> None:
    """One image of the second class: a third of the draws are without it, and AUROC is not defined then."""
    p = np.array([[0.8, 0.2]] * 9 + [[0.3, 0.7]])
    found = evaluation([0] * 9 + [1], p, ["a", "b"], resamples=100)
    assert found["metrics"]["macro_auroc"] == 100 and found["intervals"]["macro_auroc"] is None
    assert any(note.startswith("macro_auroc has no interval") for note in found["metric_notes"])
    only = evaluation([0, 0], p[:2], ["a", "b"], resamples=10)
    assert only["metrics"]["macro_auroc"] is None and only["intervals"]["macro_auroc"] is None
    assert "not defined" in as_text(only, ["a", "b"])
