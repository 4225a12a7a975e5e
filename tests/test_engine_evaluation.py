"""The engine's evaluator, metrics and small operations against scikit-learn and their definitions."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from dassl.config import get_cfg_default
from dassl.evaluation import Classification, build_evaluator
from dassl.metrics import compute_accuracy, compute_distance_matrix
from dassl.modeling.ops import utils as ops

LABELLED = st.integers(2, 6).flatmap(
    lambda c: st.tuples(st.just(c), st.lists(st.tuples(st.integers(0, c - 1), st.integers(0, c - 1)), min_size=1, max_size=40))
)


@given(LABELLED)
def test_evaluator_against_scikit_learn(case) -> None:
    classes, pairs = case
    true, predicted = [t for t, _ in pairs], [p for _, p in pairs]
    cfg = get_cfg_default()
    cfg.merge_from_list(["TEST.PER_CLASS_RESULT", True])
    evaluator = build_evaluator(cfg, lab2cname={label: f"class {label}" for label in range(classes)})
    scores = torch.nn.functional.one_hot(torch.tensor(predicted), classes).float()
    for start in range(0, len(pairs), 7):
        evaluator.process(scores[start : start + 7], torch.tensor(true[start : start + 7]))
    results = evaluator.evaluate()
    seen = sorted(set(true))
    assert list(results) == ["accuracy", "error_rate", "macro_f1", "perclass_accuracy"]
    assert results["accuracy"] == pytest.approx(100 * sk.accuracy_score(true, predicted))
    assert results["error_rate"] == pytest.approx(100 - 100 * sk.accuracy_score(true, predicted))
    f1 = sk.f1_score(true, predicted, average="macro", labels=seen, zero_division=0)
    assert results["macro_f1"] == pytest.approx(100 * f1)
    recalls = sk.recall_score(true, predicted, average=None, labels=seen)
    assert results["perclass_accuracy"] == pytest.approx(100 * recalls.mean())
    counts = [[pairs.count((t, p)) for p in range(classes)] for t in range(classes)]
    assert evaluator.confusion_matrix.tolist() == counts
    evaluator.reset()
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluator.evaluate()


def test_evaluator_log_lines_and_confusion_matrix_file(tmp_path: Path, caplog) -> None:
    cfg = get_cfg_default()
    cfg.merge_from_list(["TEST.PER_CLASS_RESULT", True, "TEST.COMPUTE_CMAT", True, "OUTPUT_DIR", str(tmp_path / "new")])
    evaluator = Classification(cfg, lab2cname={0: "cat", 1: "dog"})
    # 1,200 images: of 1,000 cats 850 are right, of 200 dogs 149
    true, right = torch.tensor([0] * 1000 + [1] * 200), torch.tensor([1] * 850 + [0] * 150 + [1] * 149 + [0] * 51)
    predicted = torch.where(right == 1, true, 1 - true)
    caplog.set_level(logging.INFO, logger="dassl")
    evaluator.process(torch.nn.functional.one_hot(predicted, 2).float(), true)
    evaluator.evaluate()
    lines = "\n".join(record.getMessage() for record in caplog.records).split("\n")
    macro = 100 * sk.f1_score(true, predicted, average="macro")
    assert lines == [
        "=> result", "* total: 1,200", "* correct: 999", "* accuracy: 83.25%", "* error: 16.75%",
        f"* macro_f1: {macro:.2f}%", "=> per-class result",
        "* class: 0 (cat)\ttotal: 1,000\tcorrect: 850\tacc: 85.0%", "* class: 1 (dog)\ttotal: 200\tcorrect: 149\tacc: 74.5%",
        "* average: 79.8%", f"Confusion matrix is saved to {tmp_path / 'new' / 'cmat.pt'}",
    ]  # fmt: skip
    shares = torch.load(tmp_path / "new" / "cmat.pt", weights_only=True)
    torch.testing.assert_close(shares, torch.tensor([[0.85, 0.15], [0.255, 0.745]], dtype=torch.float64))


@given(st.integers(1, 8), st.integers(1, 12), st.integers(0, 99))
def test_accuracy_from_the_definition(classes: int, batch: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(batch, classes, generator=generator)
    target = torch.randint(classes, (batch,), generator=generator)
    best, both = compute_accuracy((scores, None), target, topk=(1, 2))
    ranks = [sum(float(other) > float(row[t]) for other in row) for row, t in zip(scores, target.tolist(), strict=True)]
    assert best.shape == both.shape == (1,)
    assert best.item() == pytest.approx(100 * sum(rank < 1 for rank in ranks) / batch, rel=1e-5)
    assert both.item() == pytest.approx(100 * sum(rank < 2 for rank in ranks) / batch, rel=1e-5)


def test_distances_from_the_definition() -> None:
    a, b = torch.randn(3, 5), torch.randn(4, 5)
    euclidean, cosine = compute_distance_matrix(a, b), compute_distance_matrix(a, b, metric="cosine")
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            assert euclidean[i, j].item() == pytest.approx(((x - y) ** 2).sum().item(), rel=1e-4, abs=1e-5)
            assert cosine[i, j].item() == pytest.approx(1 - (x @ y / (x.norm() * y.norm())).item(), abs=1e-5)
    with pytest.raises(ValueError, match="unknown distance metric"):
        compute_distance_matrix(a, b, metric="manhattan")
    with pytest.raises(ValueError, match="expected"):
        compute_distance_matrix(a, b[:, :4])


def test_ops_from_their_formulas() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2]])
    want = torch.tensor([[0.25, 0.09, 0.04]]) / 0.38
    torch.testing.assert_close(ops.sharpen_prob(p, 2), want)
    assert ops.create_onehot(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert ops.sigmoid_rampup(3, 10) == pytest.approx(math.exp(-5 * 0.7**2)) and ops.sigmoid_rampup(99, 10) == 1.0
    assert ops.linear_rampup(3, 10) == 0.3 and ops.linear_rampup(99, 10) == 1.0
    model, average = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    mixed = 0.9 * average.weight.detach() + 0.1 * model.weight.detach()
    ops.ema_model_update(model, average, 0.9)
    torch.testing.assert_close(average.weight.detach(), mixed)
