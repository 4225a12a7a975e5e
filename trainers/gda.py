"""GDA: Gaussian discriminant analysis on frozen features, blended with zero-shot (Wang et al., ICLR 2024)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.feature_trainer import FeatureTrainer, Fitted, blended, count_correct

log = logging.getLogger(__name__)

ALPHAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)  # from which validation chooses the blend


def precision_matrix(centred: Tensor) -> Tensor:
    """``D ((N - 1) S + tr(S) I)^-1``: the ridge-type estimate of the inverse of the covariance S (section 3.2).

    Args:
        centred: (N, D) features less their class's mean.

    Returns:
        (D, D). Features that do not vary at all (one image per class and one view of it) have S = 0, whose
        pseudo-inverse is 0: the Gaussian part then says nothing and zero-shot decides.
    """
    count, width = centred.shape
    covariance = centred.T @ centred / max(count - 1, 1)
    ridge = torch.eye(width, dtype=centred.dtype, device=centred.device) * covariance.trace()
    return width * torch.linalg.pinv((count - 1) * covariance + ridge, hermitian=True)


def gaussian_classifier(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Weights (C, D) and biases (C,) of ``log p(k | v)`` for Gaussians with one covariance and equal priors.

    ``w_k = S^-1 mu_k``, ``b_k = log(1 / C) - mu_k^T S^-1 mu_k / 2`` (section 3.1), in float64 inside.

    Args:
        features: (N, D); every class occurs.
        labels: (N,).
    """
    v = features.double()
    means = torch.stack([v[labels == label].mean(dim=0) for label in range(num_classes)])
    weight = means @ precision_matrix(v - means[labels])
    bias = -math.log(num_classes) - (weight * means).sum(dim=1) / 2
    return weight.to(features), bias.to(features)


@TRAINER_REGISTRY.register()
class GDA(FeatureTrainer):
    """``s v F^T + alpha (v W^T + b)``: class means and a shared covariance, no gradient step (section 3).

    alpha is the first of the best on validation in ascending order, as published. Each of AUGMENT_EPOCH views counts
    as an image of its own. The released code was written for CLIP, and has its s = 100 as a number: SCALE 100 blends in
    the same proportion on backbones of another scale (BiomedCLIP's is 85.23).
    """

    section = "GDA"
    every_class = True
    least = {**FeatureTrainer.least, "SCALE": 0}
    released = {"SCALE": 100.0}

    @classmethod
    def defaults(cls) -> CfgNode:
        return CfgNode(
            {
                "AUGMENT_EPOCH": 10,  # views of every training image; 0: the image under the test transform
                "SEARCH": True,  # choose alpha on validation
                "ALPHA": 0.1,  # without SEARCH
                "SCALE": 0.0,  # s of the zero-shot logits; 0: the backbone's exp(logit_scale)
                "PREC": "fp32",  # of the image tower: fp32, amp, bf16
            }
        )

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        own = cfg.TRAINER[cls.section]
        scale = f"_scale{own.SCALE:g}" if own.SCALE else ""
        return f"views{own.AUGMENT_EPOCH}" + ("" if own.SEARCH else f"_alpha{own.ALPHA}") + scale

    def build_learner(self, classnames: Sequence[str]) -> Fitted:
        count = len(classnames)
        weight, bias = torch.zeros(count, self.backbone.embed_dim), torch.zeros(count)
        return Fitted(weight=weight, bias=bias, alpha=torch.tensor(self.own.ALPHA))

    def gaussian(self, features: Tensor) -> Tensor:
        """Unit features (B, D) -> logits (B, C) of the Gaussian classifier alone."""
        return F.linear(features, self.prompt_learner.weight, self.prompt_learner.bias)

    def zero_shot(self, features: Tensor) -> Tensor:
        return (self.own.SCALE or self.logit_scale) * features @ self.text_features().T

    def scores(self, features: Tensor) -> Tensor:
        return self.zero_shot(features) + self.prompt_learner.alpha * self.gaussian(features)

    def fit(self) -> None:
        weight, bias = gaussian_classifier(*self.normalised(self.training_sets()), len(self.classnames))
        self.prompt_learner.fill(weight=weight, bias=bias)
        if not self.own.SEARCH:
            return
        features, labels = self.validation(f"TRAINER.{self.section}.SEARCH False to use its ALPHA")
        alphas = torch.tensor(ALPHAS, device=self.device)
        correct = count_correct(blended(self.zero_shot(features), self.gaussian(features), alphas), labels)
        best = alphas[correct.argmax()]  # the first of equals
        self.prompt_learner.fill(alpha=best)
        log.info("alpha %g: %d of %d validation images right", best, correct.max(), len(labels))
