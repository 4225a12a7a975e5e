"""Linear probe: logistic regression on frozen features with CoOp's search (Radford et al., 2021; Zhou et al., 2022)."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.feature_trainer import FeatureTrainer, Fitted, count_correct

log = logging.getLogger(__name__)

COARSE = (6.0, 4.0, 2.0, 0.0, -2.0, -4.0, -6.0)  # log10 of the first values of C, in the published order
MAX_ITER = 1000


def search_c(score: Callable[[float], float], num_step: int) -> float:
    """log10 of the C that the published search ends with.

    First the best of :data:`COARSE` (the first of equals); then ``num_step`` times the better end of an interval
    around it, which is halved towards that end (the lower of equals).

    Args:
        score: log10 C -> validation accuracy.
    """
    best = max(COARSE, key=score)
    low, high = best - 1, best + 1
    for _ in range(num_step):
        middle = (low + high) / 2
        if score(low) < score(high):
            best, low = high, middle
        else:
            best, high = low, middle
    return best


def fit_logistic(features: np.ndarray, labels: np.ndarray, log_c: float) -> tuple[Tensor, Tensor]:
    """Weights (C, D) and biases (C,) of scikit-learn's L2-regularised logistic regression.

    Args:
        features: (N, D) float64.
        labels: (N,), every class occurs.
        log_c: log10 of the inverse regularisation strength.
    """
    from sklearn.exceptions import ConvergenceWarning  # slow to import: no other method uses it
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=10.0**log_c, max_iter=MAX_ITER)  # its defaults: L2, lbfgs
    with warnings.catch_warnings():
        # a large C on few separable images does not converge in any number of iterations
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, labels)
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:  # two classes: one row, the logit difference
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return torch.from_numpy(weight).float(), torch.from_numpy(bias).float()


@TRAINER_REGISTRY.register()
class LinearProbe(FeatureTrainer):
    """``v W^T + b``, fitted by scikit-learn; C is searched on validation, the text tower is not used.

    The protocol of CoOp's linear probe (section 4.1 of that paper; supplementary material of Radford et al.), on the
    training images under the test transform. The published runs fit to one augmented view of each, cropped to half of
    the image at the least; crops as small as those of this project's training transform tell a single fit little. The fit
    is in float64, which scikit-learn before 1.9 made of any features; from 1.9 on it keeps the float32 of the released code.
    """

    section = "LINEARPROBE"
    every_class = True
    reads_names = False
    least = {**FeatureTrainer.least, "NUM_STEP": 0, "C": 1e-9}

    @classmethod
    def defaults(cls) -> CfgNode:
        return CfgNode(
            {
                "AUGMENT_EPOCH": 0,  # views of every training image; 0: the image under the test transform
                "SEARCH": True,  # choose C on validation
                "NUM_STEP": 8,  # of the binary search
                "C": 1.0,  # without SEARCH
                "PREC": "fp32",  # of the image tower: fp32, amp, bf16
            }
        )

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        own = cfg.TRAINER[cls.section]
        return f"views{own.AUGMENT_EPOCH}_" + (f"step{own.NUM_STEP}" if own.SEARCH else f"C{own.C}")

    def build_learner(self, classnames: Sequence[str]) -> Fitted:
        count = len(classnames)
        return Fitted(weight=torch.zeros(count, self.backbone.embed_dim), bias=torch.zeros(count))

    def scores(self, features: Tensor) -> Tensor:
        return F.linear(features, self.prompt_learner.weight, self.prompt_learner.bias)

    def fit(self) -> None:
        features, labels = (part.cpu().numpy() for part in self.normalised(self.training_sets()))
        fitted = cache(lambda log_c: fit_logistic(features.astype(np.float64), labels, log_c))
        log_c = self._search(fitted) if self.own.SEARCH else math.log10(self.own.C)
        weight, bias = fitted(log_c)
        self.prompt_learner.fill(weight=weight, bias=bias)

    def _search(self, fitted: Callable[[float], tuple[Tensor, Tensor]]) -> float:
        features, labels = self.validation(f"TRAINER.{self.section}.SEARCH False to use its C")
        features, labels = features.cpu(), labels.cpu()

        def correct(log_c: float) -> int:
            return int(count_correct(F.linear(features, *fitted(log_c)), labels))

        log_c = search_c(correct, self.own.NUM_STEP)
        log.info("C %.4g: %d of %d validation images right", 10**log_c, correct(log_c), len(labels))
        return log_c
