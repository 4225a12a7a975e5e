"""Metrics against scikit-learn and against their definitions, and the file that they can be had from again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from analysis import metrics as command
from analysis.metrics import METRICS, expected_calibration_error, metrics
from analysis.predictions import Predictions, read_predictions, write_predictions
from analysis.results import DamagedRun
from dassl.config import get_cfg_default
from dassl.evaluation import Classification
from dassl.utils import UserError
from tests.conftest import BTMRI_CLASSES, REPO, write_dataset
from tests.helpers import arguments
from tests.synthetic_runs import write_run
from trainers.config import methods
from trainers.evaluation import ClassificationPerImage
from trainers.records import changed_settings
from trainers.settings import config_file


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


# -- the file of predictions ------------------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAMES, st.integers(0, 2), st.lists(st.floats(0, 1), min_size=3, max_size=3)), min_size=1, max_size=8))
def test_predictions_read_back_to_the_bit(tmp_path_factory, rows) -> None:
    path = tmp_path_factory.mktemp("kept") / "predictions.csv.gz"
    kept = Predictions([row[0] for row in rows], np.array([row[1] for row in rows]), np.array([row[2] for row in rows]))
    write_predictions(path, kept)
    again = read_predictions(path)
    assert list(again.paths) == list(kept.paths) and np.array_equal(again.labels, kept.labels)
    assert again.probabilities.tobytes() == kept.probabilities.tobytes()
    written = path.read_bytes()
    write_predictions(path, again)
    assert path.read_bytes() == written


def test_predictions_cut_anywhere_are_damaged(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    path = folder / "predictions.csv.gz"
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedRun, match="predictions.csv.gz"):
            read_predictions(path)
    path.unlink()
    with pytest.raises(DamagedRun, match="no .*predictions.csv.gz"):
        read_predictions(path)


# -- runs -------------------------------------------------------------------------------------------------


def test_the_command_says_whether_a_run_equals_its_predictions(tmp_path: Path, capsys) -> None:
    folder = write_run(tmp_path, accuracy=73)
    assert command.main([str(folder)]) == 0
    assert "accuracy: 73.00 %" in capsys.readouterr().out
    path = folder / "results.json"
    record = json.loads(path.read_text())
    record["metrics"]["macro_f1"] += 1
    path.write_text(json.dumps(record))
    assert command.main([str(folder)]) == 1
    assert "NOT equal to results.json: metrics" in capsys.readouterr().out
    (folder / "predictions.csv.gz").unlink()
    assert command.main([str(folder)]) == 2
    assert "--eval-only" in capsys.readouterr().err


@pytest.mark.parametrize(
    "key, name, classes, split",
    [("btmri", "BTMRI", BTMRI_CLASSES, "base"), ("busi", "BUSI", ("benign tumor", "malignant tumor", "normal scan"), "new"),
     ("kneexray", "KneeXray", ("healthy knee", "doubtful osteoarthritis", "minimal osteoarthritis", "moderate osteoarthritis",
                               "severe osteoarthritis"), "all")],
)  # fmt: skip
def test_a_run_keeps_what_its_metrics_need(key, name, classes, split, tiny_biomedclip, tmp_path) -> None:
    import train

    root = write_dataset(tmp_path / "data", name, classes, per_class=10)
    words = arguments("ZeroshotCLIP", tiny_biomedclip, root, tmp_path / "run", split=split, dataset=key)
    assert train.main(words) == 0
    record, again = command.recomputed(tmp_path / "run")
    assert {field: record[field] for field in again} == again
    assert record["kappa_weights"] == ("quadratic" if key == "kneexray" else None)
    assert (record["metrics"]["macro_auroc"] is None) == (split == "new")
    assert set(record["files"]) == {"config.yaml", "log.txt", "predictions.csv.gz"} and record["changed"] == {}
    kept = read_predictions(tmp_path / "run" / "predictions.csv.gz")
    tested_images = json.loads((root / name / f"split_{name}.json").read_text())["test"]
    wanted = [(path, record["classnames"].index(c)) for path, _, c in tested_images if c in record["classnames"]]
    assert list(zip(kept.paths, kept.labels.tolist(), strict=True)) == wanted


def test_only_the_last_test_is_kept_and_changed_settings_are_named(tiny_biomedclip, btmri_root, tmp_path) -> None:
    import train

    words = arguments("CoOp", tiny_biomedclip, btmri_root, tmp_path / "run", split="base", epochs=1, N_CTX=3)
    assert train.main([*words, "TEST.FINAL_MODEL", "best_val"]) == 0  # tests on validation images, then on test images
    record, again = command.recomputed(tmp_path / "run")
    assert record["num_test"] == again["num_test"] == 2 * 4
    assert record["changed"] == {
        "OPTIM.MAX_EPOCH": {"config_file": 50, "run": 1},
        "TEST.FINAL_MODEL": {"config_file": "last_step", "run": "best_val"},
        "TRAINER.COOP.N_CTX": {"config_file": 4, "run": 3},
    }
    assert "prompt_learner/model-best.pth.tar" in record["files"]


def test_a_run_that_lost_a_file_is_done_again(tiny_biomedclip, btmri_root, tmp_path, capsys) -> None:
    import train

    words = arguments("ZeroshotCLIP", tiny_biomedclip, btmri_root, tmp_path, split="base")
    place = words.index("--output-dir")
    words[place : place + 2] = ["--output-root", str(tmp_path / "out"), "--task", "few_shot"]
    assert train.main(words) == 0
    (path,) = (tmp_path / "out").rglob("predictions.csv.gz")
    kept = path.read_bytes()
    assert train.main(words) == 0 and "done already" in capsys.readouterr().out
    path.unlink()
    assert train.main(words) == 0 and "done already" not in capsys.readouterr().out
    assert path.read_bytes() == kept


@pytest.mark.parametrize("method", sorted(methods()))
def test_a_run_by_its_config_file_has_changed_nothing(method, tmp_path) -> None:
    import train

    for key, split in (("btmri", "all"), ("kneexray", "base")):
        file = config_file(method, split, key)
        assert file is not None
        words = ["--root", str(tmp_path), "--seed", "3", "--trainer", method, "--output-dir", str(tmp_path / "run"),
                 "--dataset-config-file", str(REPO / "configs" / "datasets" / f"{key}.yaml"), "--config-file", str(file),
                 "DATASET.SUBSAMPLE_CLASSES", split, "DATASET.NUM_SHOTS", "2", "DATALOADER.NUM_WORKERS", "0"]  # fmt: skip
        assert changed_settings(train.setup_cfg(train.parse_arguments(words)), key) == {}
        longer = train.setup_cfg(train.parse_arguments([*words, "DATALOADER.TEST.BATCH_SIZE", "7"]))
        assert changed_settings(longer, key) == {"DATALOADER.TEST.BATCH_SIZE": {"config_file": 100, "run": 7}}


def test_an_evaluator_that_keeps_nothing_is_refused(tiny_biomedclip, btmri_root, tmp_path, capsys) -> None:
    import train

    words = arguments("ZeroshotCLIP", tiny_biomedclip, btmri_root, tmp_path / "run", split="base")
    assert train.main([*words, "TEST.EVALUATOR", "Classification"]) == 2
    assert "TEST.EVALUATOR" in capsys.readouterr().err


def test_the_evaluator_is_dassls_and_keeps_probabilities() -> None:
    cfg, names = get_cfg_default(), {0: "a", 1: "b", 2: "c"}
    ours, plain = ClassificationPerImage(cfg, lab2cname=names), Classification(cfg, lab2cname=names)
    drawn = torch.Generator().manual_seed(0)
    scores, labels = 30 * torch.randn(9, 3, generator=drawn), torch.randint(3, (9,), generator=drawn)
    for part in range(0, 9, 4):
        ours.paths += [f"{part}_{index}" for index in range(len(labels[part : part + 4]))]
        for one in (ours, plain):
            one.process(scores[part : part + 4], labels[part : part + 4])
    assert ours.evaluate() == plain.evaluate()
    kept = ours.predictions()
    exponentials = np.exp(scores.double().numpy())
    assert np.allclose(kept.probabilities, exponentials / exponentials.sum(axis=1, keepdims=True), rtol=1e-12, atol=0)
    assert kept.labels.tolist() == labels.tolist() and len(kept.paths) == 9
    ours.process(scores[:1] * torch.nan, labels[:1])
    ours.paths.append("x")
    with pytest.raises(UserError, match="infinite or NaN"):
        ours.predictions()
    ours.reset()
    assert ours.paths == [] and ours.y_true == []
