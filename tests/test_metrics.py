"""Metrics against scikit-learn and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from analysis.metrics import METRICS, expected_calibration_error, metrics


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, bool]:
    """Labels and probabilities: often few images, absent classes, and ties (coarse probabilities)."""
    classes, count = draw(st.integers(1, 5)), draw(st.integers(1, 25))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count))
    steps = draw(st.sampled_from([2, 5, 1000]))
    row = st.lists(st.integers(0, steps), min_size=classes, max_size=classes).filter(any)
    raw = np.array(draw(st.lists(row, min_size=count, max_size=count)), dtype=np.float64)
    return np.array(labels), raw / raw.sum(axis=1, keepdims=True), draw(st.booleans())


def percent(value: float) -> object:
    return pytest.approx(100 * value, abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_equal_to_scikit_learn(case) -> None:
    y, p, ordered = case
    classes, predicted = p.shape[1], p.argmax(axis=1)
    got = metrics(y, p, [str(n) for n in range(classes)], ordered)
    overall, present = got["metrics"], np.unique(y)
    assert list(overall) == list(METRICS)
    assert overall["accuracy"] == percent(reference.accuracy_score(y, predicted))
    assert overall["error_rate"] == percent(1 - reference.accuracy_score(y, predicted))
    recalls = reference.recall_score(y, predicted, labels=present, average=None, zero_division=0)
    assert overall["balanced_accuracy"] == percent(recalls.mean())
    f1 = reference.f1_score(y, predicted, labels=present, average="macro", zero_division=0)
    assert overall["macro_f1"] == percent(f1)
    if len(present) == 1:
        assert overall["macro_auroc"] is None
    elif len(present) == classes and classes > 2:
        assert overall["macro_auroc"] == percent(reference.roc_auc_score(y, p, multi_class="ovr", average="macro"))
    assert got["confusion_matrix"] == reference.confusion_matrix(y, predicted, labels=range(classes)).tolist()
    assert got["num_test"] == len(y) and got["kappa_weights"] == ("quadratic" if ordered else None)


def auroc(positive: np.ndarray, score: np.ndarray) -> float:
    """The share of (positive, negative) pairs in the right order, equal scores counted half."""
    wins = [(a > b) + 0.5 * (a == b) for a in score[positive] for b in score[~positive]]
    return sum(wins) / len(wins)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_per_class_from_the_definitions(case) -> None:
    y, p, _ = case
    predicted = p.argmax(axis=1)
    got = metrics(y, p, [f"class {n}" for n in range(p.shape[1])])
    areas = []
    for row in got["per_class"]:
        own, said = y == row["label"], predicted == row["label"]
        hit = int((own & said).sum())
        assert (row["support"], row["correct"], row["classname"]) == (own.sum(), hit, f"class {row['label']}")
        assert row["precision"] == (percent(hit / said.sum()) if said.any() else None)
        assert row["recall"] == (percent(hit / own.sum()) if own.any() else None)
        assert row["f1"] == (percent(2 * hit / (own.sum() + said.sum())) if own.any() or said.any() else None)
        area = auroc(own, p[:, row["label"]]) if own.any() and not own.all() else None
        assert row["auroc"] == (None if area is None else percent(area))
        areas += [area] if own.any() else []
    assert got["metrics"]["macro_auroc"] == (None if None in areas else percent(sum(areas) / len(areas)))


@settings(max_examples=100, deadline=None)
@given(cases())
def test_kappa_from_the_definition(case) -> None:
    y, p, ordered = case
    predicted, classes = p.argmax(axis=1), p.shape[1]
    weight = [[(i - j) ** 2 if ordered else float(i != j) for j in range(classes)] for i in range(classes)]
    observed = sum(weight[a][b] for a, b in zip(y, predicted, strict=True)) / len(y)
    expected = sum(weight[a][b] for a in y for b in predicted) / len(y) ** 2
    got = metrics(y, p, [str(n) for n in range(classes)], ordered)
    kappa = got["metrics"]["cohen_kappa"]
    if expected == 0:
        assert kappa is None and any("cohen_kappa" in note for note in got["metric_notes"])
    else:
        assert kappa == pytest.approx(1 - observed / expected, abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_calibration_error_from_the_definition(case) -> None:
    y, p, _ = case
    total, edges = 0.0, [k / 15 for k in range(16)]
    for low, high in zip(edges, edges[1:], strict=False):
        inside = [i for i in range(len(y)) if low < max(p[i]) <= high]
        if inside:
            accuracy = sum(int(np.argmax(p[i])) == y[i] for i in inside) / len(inside)
            confidence = sum(max(p[i]) for i in inside) / len(inside)
            total += len(inside) / len(y) * abs(accuracy - confidence)
    assert expected_calibration_error(y, p) == pytest.approx(total, abs=1e-9)


def test_calibration_error_by_hand() -> None:
    # 0.9 right, 0.9 wrong: |0.5 - 0.9|; 0.6 = 9/15 belongs to the bin below, with 0.55: |0.5 - 0.575|
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.55, 0.45]])
    assert expected_calibration_error([0, 1, 0, 1], p) == pytest.approx(0.5 * 0.4 + 0.5 * 0.075)


def test_one_class_has_no_auroc_and_no_kappa() -> None:
    got = metrics([0, 0, 0], np.ones((3, 1)), ["normal scan"])
    assert got["metrics"] == {"accuracy": 100.0, "error_rate": 0.0, "balanced_accuracy": 100.0, "macro_f1": 100.0,
                              "macro_auroc": None, "cohen_kappa": None, "ece": 0.0}  # fmt: skip
    assert "one class" in got["metric_notes"][0] and len(got["metric_notes"]) == 3


def test_an_absent_class_is_null_and_left_out_of_averages() -> None:
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.3, 0.1, 0.6], [0.2, 0.7, 0.1]])
    got = metrics([0, 1, 0, 1], p, ["a", "b", "never seen"])
    assert got["per_class"][2] | {"auroc": None, "recall": None} == got["per_class"][2]
    assert got["per_class"][2]["precision"] == 0.0  # image 2 was taken for it
    assert got["metrics"]["macro_f1"] == percent((2 / 3 + 1) / 2) and got["metrics"]["balanced_accuracy"] == 75
    assert got["metric_notes"] == ["no test images of never seen: averages over classes leave them out"]


def test_of_equal_probabilities_the_first_class_is_taken() -> None:
    got = metrics([0, 1], np.full((2, 2), 0.5), ["a", "b"])
    assert got["confusion_matrix"] == [[1, 0], [1, 0]] and got["metrics"]["macro_auroc"] == 50


@pytest.mark.parametrize(
    "labels, probabilities, what",
    [([], np.ones((0, 2)), "nothing to measure"), ([0, 1], np.ones((2, 3)) / 3, "2 classes"), ([2], [[0.5, 0.5]], "0 to 1"),
     ([-1], [[0.5, 0.5]], "0 to 1"), ([0.0], [[0.5, 0.5]], "whole numbers"), ([0], [[np.nan, 1]], "finite"),
     ([0], [[0.5, 0.6]], "sum to 1"), ([0], [[-0.5, 1.5]], "negative")],
)  # fmt: skip
def test_what_is_no_prediction_is_refused(labels, probabilities, what) -> None:
    with pytest.raises(ValueError, match=what):
        metrics(labels, probabilities, ["a", "b"])
