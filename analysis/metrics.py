"""Metrics of one run, from labels and class probabilities by scikit-learn.

This module is a pure function of arrays: it imports nothing of this project at import time, so that the trainers may
call it for ``results.json`` while the rest of ``analysis`` reads finished files.

    python -m analysis.metrics RUN_FOLDER …      # again from predictions.csv.gz, compared with results.json
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from entry import program

ECE_BINS = 15


@dataclass(frozen=True)
class Metric:
    """How a metric is shown: title, unit, digits behind the point, and whether more is better."""

    title: str
    unit: str = "%"
    digits: int = 2
    higher_is_better: bool = True


METRICS = {
    "accuracy": Metric("accuracy"),
    "error_rate": Metric("error rate", higher_is_better=False),
    "balanced_accuracy": Metric("balanced accuracy"),
    "macro_f1": Metric("macro F1"),
    "macro_auroc": Metric("macro one-vs-rest AUROC"),
    "cohen_kappa": Metric("Cohen's kappa", unit="", digits=3),
    "ece": Metric("expected calibration error", higher_is_better=False),
}


def metrics(labels: ArrayLike, probabilities: ArrayLike, classnames: Sequence[str], ordered: bool = False) -> dict[str, Any]:
    """All metrics of one test.

    The prediction is the class of the highest probability, the first of equal ones. Averages over classes ("macro",
    "balanced") are over the classes that have test images, as Dassl's macro F1 is. What is not defined is ``None`` and
    is told in ``metric_notes``.

    Args:
        labels: (N,) true class of each image, 0 … C-1.
        probabilities: (N, C), rows that sum to 1.
        classnames: the C names.
        ordered: the classes are grades: Cohen's kappa with quadratic weights (Cohen, 1968).

    Returns:
        ``metrics`` (by the names of :data:`METRICS`; in %, kappa in [-1, 1]), ``per_class`` (label, classname, support,
        correct; precision, recall, f1, auroc in %), ``confusion_matrix`` (C, C) with true classes as rows,
        ``num_test``, ``kappa_weights`` ("quadratic" or ``None``) and ``metric_notes``.

    Raises:
        ValueError: no images, shapes that do not fit, a label outside 0 … C-1, or rows that are no probabilities.
    """
    from sklearn import metrics as sk  # half a second, which tables and --help do not pay

    y, p = _checked(labels, probabilities, len(classnames))
    predicted = p.argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # undefined values: they are NaN here and told in metric_notes
        per_class = _per_class(y, p, predicted, classnames)
        accuracy = 100 * sk.accuracy_score(y, predicted)
        overall = {
            "accuracy": accuracy,
            "error_rate": 100 - accuracy,
            "balanced_accuracy": 100 * sk.balanced_accuracy_score(y, predicted),
            "macro_f1": _mean([row["f1"] for row in per_class if row["support"]]),
            "macro_auroc": _mean([row["auroc"] for row in per_class if row["support"]]),
            "cohen_kappa": sk.cohen_kappa_score(
                y, predicted, labels=range(len(classnames)), weights="quadratic" if ordered else None
            ),
            "ece": 100 * expected_calibration_error(y, p),
        }
        confusion = sk.confusion_matrix(y, predicted, labels=range(len(classnames))).tolist()
    return {
        "metrics": {name: _number(value) for name, value in overall.items()},
        "per_class": per_class,
        "confusion_matrix": confusion,
        "num_test": len(y),
        "kappa_weights": "quadratic" if ordered else None,
        "metric_notes": _notes(overall, per_class),
    }


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = ECE_BINS) -> float:
    """``Σ_b n_b/N |acc_b - conf_b|`` over equal bins (lo, hi] of the highest probability (Guo et al., 2017, equation 3).

    Args:
        labels: (N,).
        probabilities: (N, C).
    """
    y, p = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == y
    inner_edges = np.linspace(0, 1, bins + 1)[1:-1]
    which = np.digitize(confidence, inner_edges, right=True)
    gaps = np.bincount(which, weights=correct, minlength=bins) - np.bincount(which, weights=confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(y))  # n_b |acc_b - conf_b| is the difference of the two sums of a bin


def _checked(labels: ArrayLike, probabilities: ArrayLike, classes: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    y, p = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if y.ndim != 1 or not len(y):
        raise ValueError(f"labels of shape {y.shape}: nothing to measure")
    if p.shape != (len(y), classes):
        raise ValueError(f"probabilities of shape {p.shape} for {len(y)} labels and {classes} classes")
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= classes:
        raise ValueError(f"labels must be whole numbers from 0 to {classes - 1}")
    if not np.isfinite(p).all() or p.min() < 0 or not np.allclose(p.sum(axis=1), 1, atol=1e-4):
        raise ValueError("probabilities must be finite, not negative, and each row sum to 1")
    return y.astype(np.int64), p


def _per_class(
    y: NDArray[np.int64], p: NDArray[np.float64], predicted: NDArray[np.int64], classnames: Sequence[str]
) -> list[dict[str, Any]]:
    from sklearn import metrics as sk

    numbers = range(len(classnames))
    precision, recall, f1, support = sk.precision_recall_fscore_support(y, predicted, labels=numbers, zero_division=np.nan)
    return [
        {
            "label": label,
            "classname": classnames[label],
            "support": int(support[label]),
            "correct": int(((y == label) & (predicted == label)).sum()),
            "precision": _number(100 * precision[label]),
            "recall": _number(100 * recall[label]),
            "f1": _number(100 * f1[label]),
            "auroc": 100 * float(sk.roc_auc_score(y == label, p[:, label])) if 0 < support[label] < len(y) else None,
        }
        for label in numbers
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    """``None`` when one of the values is not defined, or there is none."""
    return None if not values or any(value is None for value in values) else float(np.mean(values))


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _notes(overall: dict[str, Any], per_class: Sequence[dict[str, Any]]) -> list[str]:
    notes = []
    if len(per_class) == 1:
        notes.append("one class: every image is classified right whatever the model, so accuracy, F1 and ECE say nothing")
    absent = [row["classname"] for row in per_class if not row["support"]]
    if absent:
        notes.append(f"no test images of {', '.join(absent)}: averages over classes leave them out")
    never = [row["classname"] for row in per_class if row["precision"] is None]
    if never:
        notes.append(f"precision is not defined for {', '.join(never)}: no image was classified so")
    if overall["macro_auroc"] is None:
        notes.append("macro_auroc is not defined: the test images are all of one class")
    if _number(overall["cohen_kappa"]) is None:
        notes.append("cohen_kappa is not defined: all labels and predictions are one class")
    return notes


def recomputed(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """``results.json`` of a run, and :func:`metrics` of its ``predictions.csv.gz``.

    Raises:
        analysis.results.DamagedRun: either file is missing, cut short, or they do not fit each other.
    """
    from analysis.predictions import read_predictions
    from analysis.results import PREDICTIONS, RESULTS, DamagedRun, read_record

    record = read_record(folder)
    names = record.get("classnames")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DamagedRun(f"{folder / RESULTS} lacks or garbles classnames")
    for key in ("method", "backbone", "dataset", "split"):
        if not isinstance(record.get(key), str):
            raise DamagedRun(f"{folder / RESULTS} lacks or garbles {key}")
    kept = read_predictions(folder / PREDICTIONS)
    try:
        return record, metrics(kept.labels, kept.probabilities, record["classnames"], record.get("kappa_weights") is not None)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DamagedRun(f"{folder / PREDICTIONS} does not fit results.json: {error}") from error


def show(folder: Path) -> bool:
    """Print the metrics of a run; whether they equal those of its results file."""
    record, again = recomputed(folder)
    print(
        f"{folder}: {record['method']}, {record['backbone']}, {record['dataset']} {record['split']}, {again['num_test']} images"
    )
    for name, value in again["metrics"].items():
        metric = METRICS[name]
        shown = "not defined" if value is None else f"{value:.{metric.digits}f}{' %' if metric.unit else ''}"
        print(f"  {metric.title}: {shown}")
    for note in again["metric_notes"]:
        print(f"  note: {note}")
    differing = [key for key, value in again.items() if record.get(key) != value]
    print("  equal to results.json" if not differing else f"  NOT equal to results.json: {', '.join(differing)}")
    return not differing


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 equal to the results files, 1 not equal, 2 a file is missing or damaged."""
    parser = argparse.ArgumentParser(description="A run's metrics, again from its stored predictions.")
    parser.add_argument("folders", type=Path, nargs="+", metavar="RUN_FOLDER")
    parser.add_argument("--json", action="store_true", help="print what results.json would hold")
    args = parser.parse_args(argv)
    if args.json:
        for folder in args.folders:
            print(json.dumps(recomputed(folder)[1], indent=2, ensure_ascii=False))
        return 0
    return int(not all([show(folder) for folder in args.folders]))


if __name__ == "__main__":
    sys.exit(main())
