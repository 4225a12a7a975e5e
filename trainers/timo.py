"""TIMO and TIMO-S: images weigh the LLM prompts, prompts join the images (Li et al., AAAI 2025, arXiv 2412.11375)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError
from features import FeatureSet
from trainers.base import unit
from trainers.feature_trainer import FeatureTrainer, Fitted, blended, count_correct
from trainers.gda import gaussian_classifier

log = logging.getLogger(__name__)

ALPHAS = tuple(10.0**power for power in range(-4, 5))  # from which validation chooses the blend
GAMMAS = tuple(range(5, 101, 5))  # from which TIMO-S chooses how sharply prompts are told apart
ROUNDS = 2  # the ranked prompts stand this often in the row from which TIMO-S takes the first β


def class_means(sets: Sequence[FeatureSet], num_classes: int) -> Tensor:
    """m (C, D): per class the mean of its images' keys, normalised; a key is the normalised mean of an image's views.

    Args:
        sets: views of the same N images, in the same order; every class occurs.
    """
    keys, labels = unit(torch.stack([one.features for one in sets]).mean(dim=0)), sets[0].labels
    return unit(torch.stack([keys[labels == label].mean(dim=0) for label in range(num_classes)]))


def prompt_scores(means: Tensor, prompts: Tensor) -> Tensor:
    """q (C, P): ``q_cp = m_c . T_cp`` of means (C, D) and unit prompts (C, P, D)."""
    return torch.einsum("cd,cpd->cp", means, prompts)


def guided_text(scores: Tensor, prompts: Tensor, gamma: float) -> Tensor:
    """F (C, D): ``unit(Σ_p w_cp T_cp)`` with ``w_c = softmax_p(γ q_c / |q_c|)``."""
    weights = (gamma * unit(scores)).softmax(dim=1)
    return unit(torch.einsum("cp,cpd->cd", weights, prompts))


def text_samples(scores: Tensor, prompts: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` best prompts of each class, each times its score, as samples (C count, D) with labels (C count,).

    The ranked prompts stand twice in a row, so that ``count`` may be 1 to 2 P: above P the best come a second time.
    """
    classes, width = scores.shape[0], prompts.shape[2]
    best = scores.argsort(dim=1, descending=True, stable=True).repeat(1, ROUNDS)[:, :count]
    rows = prompts.gather(1, best.unsqueeze(2).expand(-1, -1, width)) * scores.gather(1, best).unsqueeze(2)
    return rows.reshape(-1, width), torch.arange(classes, device=scores.device).repeat_interleave(best.shape[1])


def sample_counts(prompts: int, steps: int) -> list[int]:
    """β: ``steps`` whole numbers from 1 to 2 P, evenly spread and rounded down, each once."""
    last = ROUNDS * prompts - 1
    return sorted({1 + step * last // max(steps - 1, 1) for step in range(steps)})


@TRAINER_REGISTRY.register()
class TIMO(FeatureTrainer):
    """``α v F^T + v W^T + b``: text weighted by the images, and a Gaussian classifier of images and prompts together.

    ``q_cp = m_c . T_cp``, ``w_c = softmax_p(γ q_c / |q_c|)``, ``F_c = unit(Σ_p w_cp T_cp)`` (image-guided text); W, b:
    :func:`trainers.gda.gaussian_classifier` of all views of the images and of the samples ``q_cp T_cp`` (text-guided
    image). v: unit image features; m_c: unit class mean; T_cp: unit features of the P LLM prompts. There is no logit scale:
    α, the first of the best of 10^-4 … 10^4 on validation in ascending order, takes its place.
    """

    section = "TIMO"
    every_class = True
    least = {**FeatureTrainer.least, "GAMMA": 0, "ALPHA": 0, "N_PROMPTS": 1}

    @classmethod
    def defaults(cls) -> CfgNode:
        return CfgNode(
            {
                "AUGMENT_EPOCH": 10,  # views of every training image; 0: the image under the test transform
                "N_PROMPTS": 50,  # P
                "GAMMA": 50.0,  # sharpness of the prompts' weights (released: 50, ImageNet 1, Flowers 100)
                "SEARCH": True,  # choose alpha on validation
                "ALPHA": 100.0,  # without SEARCH
                "PREC": "fp32",  # of the image tower: fp32, amp, bf16
            }
        )

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        own = cfg.TRAINER[cls.section]
        return f"views{own.AUGMENT_EPOCH}_K{own.N_PROMPTS}" + cls.chosen(own)

    @classmethod
    def chosen(cls, own: CfgNode) -> str:
        """What tells apart runs by what they do not choose themselves, for the folder's name."""
        return f"_gamma{own.GAMMA:g}" + ("" if own.SEARCH else f"_alpha{own.ALPHA:g}")

    def build_teacher(self, classnames: Sequence[str]) -> None:
        self.prompts = self.load_prompts(classnames)
        self.prompt_features = unit(self.encode_prompts(self.prompts.texts, classnames))  # T (C, P, D)

    def build_learner(self, classnames: Sequence[str]) -> Fitted:
        count, width = len(classnames), self.backbone.embed_dim
        text, weight = torch.zeros(count, width), torch.zeros(count, width)
        return Fitted(text=text, weight=weight, bias=torch.zeros(count), alpha=torch.tensor(self.own.ALPHA))

    def encode_classes(self) -> Tensor:
        return self.prompt_learner.text

    def scores(self, features: Tensor) -> Tensor:
        held = self.prompt_learner
        return held.alpha * features @ held.text.T + F.linear(features, held.weight, held.bias)

    def gammas(self) -> Sequence[float]:
        """Candidates for γ."""
        return (self.own.GAMMA,)

    def counts(self) -> Sequence[int]:
        """Candidates for β, the number of prompts per class that join the images: all P, once."""
        return (self.own.N_PROMPTS,)

    def fit(self) -> None:
        sets, prompts, classes = self.training_sets(), self.prompt_features, len(self.classnames)
        images, labels = self.normalised(sets)
        q = prompt_scores(class_means(sets, classes).to(self.device), prompts)
        own, given = self.own, None
        if own.SEARCH:
            given = self.validation(f"TRAINER.{self.section}.SEARCH False to use its ALPHA")
        texts = torch.stack([guided_text(q, prompts, gamma) for gamma in self.gammas()])  # (G, C, D)
        # γ by the text alone; the first of equals
        place = 0 if given is None else int(count_correct(given[0] @ texts.mT, given[1]).argmax())
        alphas, most = torch.tensor(ALPHAS, device=self.device), -1
        for count in self.counts():
            rows, of = text_samples(q, prompts, count)
            weight, bias = gaussian_classifier(torch.cat([rows, images]), torch.cat([of, labels]), classes)
            if given is None:
                self.prompt_learner.fill(text=texts[place], weight=weight, bias=bias)
                return
            logits = blended(F.linear(given[0], weight, bias), given[0] @ texts[place].T, alphas)
            correct = count_correct(logits, given[1])
            if int(correct.max()) > most:
                most, kept = int(correct.max()), count
                self.prompt_learner.fill(text=texts[place], weight=weight, bias=bias, alpha=alphas[correct.argmax()])
        log.info(
            "gamma %g, %d prompts per class, alpha %g: %d of %d validation images right",
            *(self.gammas()[place], kept, self.prompt_learner.alpha, most, len(given[1])),
        )


@TRAINER_REGISTRY.register()
class TIMOS(TIMO):
    """TIMO-S: TIMO with γ and β, how many weighted prompts per class join the images, chosen on validation too.

    γ of 5, 10 … 100 by the text alone (``argmax_c v F_c^T``), then β of BETA_STEP numbers from 1 to 2 P in the outer and α
    in the inner loop; the first of the best, as released. Above P the best prompts join a second time.
    """

    section = "TIMOS"
    least = {**TIMO.least, "BETA": 0, "BETA_STEP": 1}

    @classmethod
    def defaults(cls) -> CfgNode:
        # GAMMA, BETA (0: N_PROMPTS) and ALPHA are read without SEARCH
        return CfgNode(dict(super().defaults()) | {"BETA": 0, "BETA_STEP": 10})

    @classmethod
    def chosen(cls, own: CfgNode) -> str:
        return "" if own.SEARCH else super().chosen(own) + f"_beta{own.BETA}"

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        own = cfg.TRAINER[self.section]
        if own.BETA > ROUNDS * own.N_PROMPTS:
            raise UserError(f"TRAINER.{self.section}.BETA is {own.BETA}, must be 0 to 2 N_PROMPTS ({ROUNDS * own.N_PROMPTS})")

    def gammas(self) -> Sequence[float]:
        return GAMMAS if self.own.SEARCH else super().gammas()

    def counts(self) -> Sequence[int]:
        if self.own.SEARCH:
            return sample_counts(self.own.N_PROMPTS, self.own.BETA_STEP)
        return (self.own.BETA or self.own.N_PROMPTS,)
