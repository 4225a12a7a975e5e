"""From scores to accuracy, macro F1 and the confusion matrix."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from yacs.config import CfgNode

from dassl.evaluation.build import EVALUATOR_REGISTRY
from dassl.utils import mkdir_if_missing

log = logging.getLogger(__name__)


class EvaluatorBase:
    """Base: ``reset``, ``process`` batches, ``evaluate``."""

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg

    def reset(self) -> None:
        raise NotImplementedError

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        raise NotImplementedError

    def evaluate(self) -> OrderedDict[str, float]:
        raise NotImplementedError


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Accuracy, error rate and macro F1 in %; per-class accuracy and confusion matrix.

    Args:
        cfg: reads TEST.PER_CLASS_RESULT, TEST.COMPUTE_CMAT and OUTPUT_DIR.
        lab2cname: label -> class name; without it the labels seen count as the classes.
    """

    def __init__(self, cfg: CfgNode, lab2cname: dict[int, str] | None = None, **kwargs: Any) -> None:
        super().__init__(cfg)
        self._lab2cname = lab2cname
        self.reset()

    def reset(self) -> None:
        self._y_true: list[int] = []
        self._y_pred: list[int] = []

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """Add a batch: scores (B, C) and labels (B,)."""
        self._y_pred.extend(mo.argmax(dim=1).tolist())
        self._y_true.extend(gt.tolist())

    @property
    def y_true(self) -> list[int]:
        """Labels of the images processed so far."""
        return self._y_true

    @property
    def y_pred(self) -> list[int]:
        """Their best-scored classes."""
        return self._y_pred

    @property
    def confusion_matrix(self) -> np.ndarray:
        """(C, C) counts, rows: true labels."""
        from sklearn.metrics import confusion_matrix

        labels = sorted(self._lab2cname) if self._lab2cname else sorted(set(self._y_true) | set(self._y_pred))
        return confusion_matrix(self._y_true, self._y_pred, labels=labels)

    def evaluate(self) -> OrderedDict[str, float]:
        """Print and return accuracy, error_rate and macro_f1 (over the classes that occur) in %.

        Raises:
            ValueError: nothing was processed.
        """
        if not self._y_true:
            raise ValueError("nothing to evaluate: no batch was processed")
        from sklearn.metrics import f1_score  # half a second, which a run pays only when it tests

        y_true, y_pred = np.asarray(self._y_true), np.asarray(self._y_pred)
        total, correct = len(y_true), int((y_true == y_pred).sum())
        accuracy = 100.0 * correct / total
        macro_f1 = 100.0 * float(f1_score(y_true, y_pred, average="macro", labels=np.unique(y_true), zero_division=0))
        results = OrderedDict(accuracy=accuracy, error_rate=100.0 - accuracy, macro_f1=macro_f1)
        log.info(
            "=> result\n* total: %s\n* correct: %s\n* accuracy: %.2f%%\n* error: %.2f%%\n* macro_f1: %.2f%%",
            f"{total:,}",
            f"{correct:,}",
            accuracy,
            100.0 - accuracy,
            macro_f1,
        )
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self._per_class()
        if self.cfg.TEST.COMPUTE_CMAT:
            self._save_confusion_matrix()
        return results

    def _save_confusion_matrix(self) -> None:
        """Shares of the classes that were predicted for each true class, as a tensor (upstream: a NumPy array)."""
        counts = torch.from_numpy(self.confusion_matrix).double()
        path = os.path.join(self.cfg.OUTPUT_DIR, "cmat.pt")
        mkdir_if_missing(self.cfg.OUTPUT_DIR)
        torch.save(counts / counts.sum(1, keepdim=True).clamp(min=1), path)
        log.info("Confusion matrix is saved to %s", path)

    def _per_class(self) -> float:
        log.info("=> per-class result")
        accuracies = []
        for label in sorted(set(self._y_true)):
            hits = [pred == label for true, pred in zip(self._y_true, self._y_pred, strict=True) if true == label]
            accuracies.append(100.0 * sum(hits) / len(hits))
            name = self._lab2cname[label] if self._lab2cname else label
            log.info(
                "* class: %s (%s)\ttotal: %s\tcorrect: %s\tacc: %.1f%%",
                label,
                name,
                f"{len(hits):,}",
                f"{sum(hits):,}",
                accuracies[-1],
            )
        mean = float(np.mean(accuracies))
        log.info("* average: %.1f%%", mean)
        return mean
