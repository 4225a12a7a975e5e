"""LP++: a linear probe whose weights blend in the text features (Huang et al., CVPR 2024, arXiv 2404.02285)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.feature_trainer import FeatureTrainer, Fitted, count_correct
from trainers.prompt_learner import check_choice

log = logging.getLogger(__name__)

SELECT = ("best_val", "last")
INIT_PRECISIONS = ("fp32", "fp16")
ALPHA_INIT = 250.0  # 1 / lambda of alpha's initial value in the released code


def initial(features: Tensor, labels: Tensor, products: Tensor, half: bool = False) -> tuple[Tensor, Tensor]:
    """Approximate minima of the loss's two parts (section 3.4): weights (C, D) and multipliers alpha (C,).

    ``w_k`` is the sum of class k's features; ``half`` rounds features and sum to float16, as released. alpha is the same
    for all classes: 250 times the mean over classes of a class's mean product with its own text feature.

    Args:
        features: (N, D) unit features.
        labels: (N,), every class occurs.
        products: (N, C) ``v_i . F_k``.
    """
    one_hot = F.one_hot(labels, products.shape[1]).to(features)
    own_products = (one_hot * products).sum(dim=0) / one_hot.sum(dim=0)
    # summed in float32, as a GPU does inside a float16 product: the same on every device
    sums = (one_hot.T @ features.half().to(features)).half().to(features) if half else one_hot.T @ features
    return sums, (ALPHA_INIT * own_products.mean()).repeat(products.shape[1])


def step_sizes(features: Tensor, products: Tensor) -> tuple[Tensor, Tensor]:
    """Step sizes of w and of alpha, scalars, for the two blocks of gradients (section 3.3).

    ``4 N / lambda_max(v^T v)`` and ``N / (4 max_k sum_i (v_i . F_k)^2)``, the constants of the released code.
    """
    count = len(features)
    largest = torch.linalg.matrix_norm(features, ord=2) ** 2
    return 4 * count / largest, count / (4 * products.square().sum(dim=0).max())


def descend(
    features: Tensor,
    labels: Tensor,
    text: Tensor,
    *,
    iterations: int,
    momentum: float,
    alpha_every: int,
    half_init: bool = False,
    visit: Callable[[Tensor, Tensor], None],
) -> tuple[Tensor, Tensor]:
    """Full-batch block coordinate descent on ``CE(v_i . (w_k + alpha_k F_k))``; returns w (C, D) and alpha (C,).

    Both gradients are taken at the same point. w moves in every iteration, with heavy-ball momentum; alpha moves in
    every ``alpha_every``-th. ``momentum`` 0 is the paper's majorise-minimise step.

    Args:
        features: (N, D) unit features.
        labels: (N,).
        text: (C, D) unit features F.
        half_init: the initial w is rounded to float16 (:func:`initial`).
        visit: called with w and alpha after each iteration.
    """
    products = features @ text.T
    weight, alpha = initial(features, labels, products, half_init)
    weight_step, alpha_step = step_sizes(features, products)
    one_hot, velocity = F.one_hot(labels, len(text)).to(features), torch.zeros_like(weight)
    for iteration in range(1, iterations + 1):
        probabilities = (features @ weight.T + alpha * products).softmax(dim=1)
        residual = (probabilities - one_hot) / len(features)  # (N, C) the loss's gradient in the logits
        velocity = momentum * velocity + residual.T @ features
        weight = weight - weight_step * velocity
        if iteration % alpha_every == 0:
            alpha = alpha - alpha_step * (residual * products).sum(dim=0)
        visit(weight, alpha)
    return weight, alpha


@TRAINER_REGISTRY.register()
class LPPlusPlus(FeatureTrainer):
    """``v . (w_k + alpha_k F_k)``: class weights w and one multiplier of the text feature per class are learned.

    As in the paper there is no bias, and a step of alpha takes the gradient where it stands (the released code adds a
    bias, and up the gradients of alpha from the first iteration on). SELECT best_val keeps the iteration with most
    validation images right, the last of equals, as released. INIT_PREC fp16 starts from class sums rounded to float16, as
    the released code's are. The fit is to the images under the test transform, for
    the reason that :class:`trainers.linear_probe.LinearProbe` gives.
    """

    section = "LPPLUSPLUS"
    every_class = True
    least = {**FeatureTrainer.least, "ITERATIONS": 1, "ALPHA_EVERY": 1}
    released = {"INIT_PREC": "fp16"}

    @classmethod
    def defaults(cls) -> CfgNode:
        return CfgNode(
            {
                "AUGMENT_EPOCH": 0,  # views of every training image; 0: the image under the test transform
                "ITERATIONS": 300,  # full-batch steps
                "MOMENTUM": 0.9,  # of w; 0: the paper's steps
                "ALPHA_EVERY": 10,  # iterations to one step of alpha
                "SELECT": "best_val",  # or "last"
                "INIT_PREC": "fp32",  # of the class sums from which w starts; or fp16
                "PREC": "fp32",  # of the image tower: fp32, amp, bf16
            }
        )

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        own = cfg.TRAINER[cls.section]
        name = f"views{own.AUGMENT_EPOCH}_it{own.ITERATIONS}_mom{own.MOMENTUM}_{own.SELECT}"
        return name if own.INIT_PREC == "fp32" else f"{name}_init{own.INIT_PREC}"

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        for key, choices in (("SELECT", SELECT), ("INIT_PREC", INIT_PRECISIONS)):
            check_choice(f"TRAINER.{self.section}.{key}", cfg.TRAINER[self.section][key], choices)

    def build_learner(self, classnames: Sequence[str]) -> Fitted:
        count = len(classnames)
        return Fitted(weight=torch.zeros(count, self.backbone.embed_dim), alpha=torch.zeros(count))

    def classify(self, features: Tensor, weight: Tensor, alpha: Tensor) -> Tensor:
        """Unit features (B, D) -> logits (B, C) of the classifier (C, D), (C,)."""
        return features @ (weight + alpha[:, None] * self.text_features()).T

    def scores(self, features: Tensor) -> Tensor:
        return self.classify(features, self.prompt_learner.weight, self.prompt_learner.alpha)

    def fit(self) -> None:
        own, chooser = self.own, None
        if own.SELECT == "best_val":
            chooser = self.validation(f"TRAINER.{self.section}.SELECT last")
        features, labels = self.normalised(self.training_sets())
        best: tuple[int, Tensor, Tensor] | None = None

        def visit(weight: Tensor, alpha: Tensor) -> None:
            nonlocal best
            if chooser is None:
                return
            correct = int(count_correct(self.classify(chooser[0], weight, alpha), chooser[1]))
            if best is None or correct >= best[0]:
                best = (correct, weight, alpha)

        weight, alpha = descend(
            features,
            labels,
            self.text_features(),
            iterations=own.ITERATIONS,
            momentum=own.MOMENTUM,
            alpha_every=own.ALPHA_EVERY,
            half_init=own.INIT_PREC == "fp16",
            visit=visit,
        )
        if best is not None:
            correct, weight, alpha = best
            log.info("%d of %d validation images right", correct, len(chooser[1]))
        self.prompt_learner.fill(weight=weight, alpha=alpha)
