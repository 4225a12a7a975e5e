"""ProKeR: kernel ridge regression of what zero-shot leaves over (Bendou et al., CVPR 2025, arXiv 2501.11175)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError
from features import FeatureSet
from trainers.biomed_dpt import prompt_ensemble
from trainers.feature_trainer import FeatureTrainer, Fitted, count_correct
from trainers.prompt_learner import check_choice

log = logging.getLogger(__name__)

SELECT, FORMS, TEXTS = ("loo", "val", "fixed"), ("released", "exact"), ("template", "ensemble")
MOST_SAMPLES = 12_000  # the kernel of more takes gigabytes, and minutes for each beta


def kernel(affinity: Tensor, beta: float) -> Tensor:
    """``k(x, s) = exp(-beta (1 - x . s))`` of products of unit features, of any shape."""
    return torch.exp(-beta * (1 - affinity))


@dataclass(frozen=True)
class Ridge:
    """The kernel K (N, N) = U diag(e) U^T of the samples, taken apart once for every λ, and what is to be explained.

    Attributes:
        values: e (N,).
        vectors: U (N, N).
        residual: R (N, C), ``Y - f0(S)``.
    """

    values: Tensor
    vectors: Tensor
    residual: Tensor

    @classmethod
    def of(cls, gram: Tensor, residual: Tensor) -> Ridge:
        return cls(*torch.linalg.eigh(gram), residual)

    def solved(self, strength: float) -> Tensor:
        """``G R`` (N, C) with ``G = (K + λ I)^-1``: the coefficients of the exact minimiser."""
        return (self.vectors / (self.values + strength)) @ (self.vectors.T @ self.residual)

    def left_out(self, strength: float, views: int) -> Tensor:
        """(N, C): what the exact minimiser adds to f0 at each sample, had it been fitted without that sample's image.

        For one view per image ``R_i - [G R]_i / G_ii``. Views of one image know each other, so that all B of them are left
        out together: ``R_B - G_BB^-1 [G R]_B``.

        Args:
            views: the samples are this many views of N / views images, view by view.
        """
        rows = torch.arange(len(self.residual), device=self.residual.device).view(views, -1).T  # (images, views)
        held = self.vectors[rows]  # (images, views, N)
        inner = (held / (self.values + strength)) @ held.mT  # G_BB of each image
        found = torch.empty_like(self.residual)
        found[rows] = self.residual[rows] - torch.linalg.solve(inner, self.solved(strength)[rows])
        return found


@TRAINER_REGISTRY.register()
class ProKeR(FeatureTrainer):
    """``f(x) = f0(x) + k(x, S) A``: ridge regression in the kernel's space, pulled towards zero-shot instead of towards 0.

    ``k(x, s) = exp(-β (1 - x . s))``, ``f0(x) = x . t`` without logit scale, ``A = (K / λ + I)^-1 (Y - f0(S))``, Y one-hot. S:
    the training images, each of AUGMENT_EPOCH views a sample of its own. So it is released; the minimiser of the squared
    error plus ``λ |f - f0|^2`` has a further 1 / λ, ``A = (K + λ I)^-1 (Y - f0(S))``: FORM exact.

    SELECT loo: β and λ are those with most training images right, each image left out in turn with all its views (of
    equals the pair with the smallest squared error); images that are alone in their class are not judged, as nothing stands
    for it without them. Where every image is alone (one shot) BETA and LAMBDA are taken: the release's pair for one shot,
    chosen on another dataset (ImageNet). SELECT val: most validation images right, the first of equals, as released.
    """

    section = "PROKER"
    released = {"SELECT": "val"}
    least = {**FeatureTrainer.least, "BETA": 0, "N_PROMPTS": 1}

    @classmethod
    def defaults(cls) -> CfgNode:
        return CfgNode(
            {
                "AUGMENT_EPOCH": 10,  # views of every training image; 0: the image under the test transform
                "SELECT": "loo",  # beta and lambda by leaving out training images, or "val", or "fixed"
                "BETA_SEARCH": [0.1, 10.0, 20],  # from, to, how many
                "LAMBDA_SEARCH": [0.001, 1.0, 10],
                "BETA": 3.0,  # of SELECT fixed, and of loo where every image is alone in its class
                "LAMBDA": 0.05,
                "FORM": "released",  # or "exact"
                "PROMPTS": "template",  # t: the dataset's clinical template, or "ensemble" of the LLM-written prompts
                "N_PROMPTS": 50,  # of the ensemble
                "PREC": "fp32",  # of the image tower: fp32, amp, bf16
            }
        )

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        own, usual = cfg.TRAINER[cls.section], cls.defaults()
        name = f"views{own.AUGMENT_EPOCH}_{own.SELECT}"
        if own.SELECT == "fixed" or (own.BETA, own.LAMBDA) != (usual.BETA, usual.LAMBDA):
            name += f"_beta{own.BETA:g}_lambda{own.LAMBDA:g}"
        name += "" if own.FORM == "released" else "_exact"
        return name + (f"_K{own.N_PROMPTS}" if cls.uses_prompts(cfg) else "")

    @classmethod
    def uses_prompts(cls, cfg: CfgNode) -> bool:
        return cfg.TRAINER[cls.section].PROMPTS == "ensemble"

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        own, name = cfg.TRAINER[self.section], f"TRAINER.{self.section}"
        for key, choices in (("SELECT", SELECT), ("FORM", FORMS), ("PROMPTS", TEXTS)):
            check_choice(f"{name}.{key}", own[key], choices)
        if own.LAMBDA <= 0:
            raise UserError(f"{name}.LAMBDA is {own.LAMBDA}, must be above 0")
        for key, above in (("BETA_SEARCH", 0.0), ("LAMBDA_SEARCH", 1e-9)):
            grid = own[key]
            if len(grid) != 3 or not above <= grid[0] <= grid[1] or grid[2] < 1 or int(grid[2]) != grid[2]:
                least = "0" if not above else "above 0"
                raise UserError(f"{name}.{key} is {grid}, must be [from, to, how many], from {least} up, and 1 or more of them")

    # -- building -----------------------------------------------------------------------------------------

    def build_teacher(self, classnames: Sequence[str]) -> None:
        self.class_texts, self.forced = self.fixed_features, []
        if self.uses_prompts(self.cfg):
            self.prompts = self.load_prompts(classnames)
            self.class_texts = prompt_ensemble(self.encode_prompts(self.prompts.texts, classnames))  # t (C, D)
        labels, own = [item.label for item in self.dm.dataset.train_x], self.own
        samples = len(labels) * self.views
        if samples > MOST_SAMPLES:
            raise UserError(
                f"{samples} samples ({len(labels)} images, TRAINER.{self.section}.AUGMENT_EPOCH {own.AUGMENT_EPOCH}) are too "
                f"many for ProKeR's kernel, {MOST_SAMPLES} at most: lower AUGMENT_EPOCH or DATASET.NUM_SHOTS"
            )
        if own.SELECT == "loo" and max(Counter(labels).values(), default=0) < 2:
            self.forced.append(
                f"beta {own.BETA:g} and lambda {own.LAMBDA:g} are fixed: with one image per class none can be left out"
            )
            log.info(self.forced[-1])

    def build_learner(self, classnames: Sequence[str]) -> Fitted:
        samples = len(self.dm.dataset.train_x) * self.views if self.has_images else 0
        count, width = len(classnames), self.backbone.embed_dim
        keys, values = torch.zeros(samples, width), torch.zeros(samples, count)
        return Fitted(keys=keys, values=values, text=torch.zeros(count, width), beta=torch.tensor(float(self.own.BETA)))

    def make_room(self, stored: dict[str, Tensor]) -> None:
        self.take_sizes(stored, "keys", "values")

    # -- samples ------------------------------------------------------------------------------------------

    @property
    def views(self) -> int:
        """Samples per image: a bank of FEATURES.VIEWS has no more different ones, and a copy would only make N larger."""
        asked, bank = self.own.AUGMENT_EPOCH, self.cfg.FEATURES.VIEWS
        return max(min(asked, bank) if bank else asked, 1)

    def training_sets(self) -> list[FeatureSet]:
        return super().training_sets()[: self.views]

    # -- classification -----------------------------------------------------------------------------------

    def encode_classes(self) -> Tensor:
        return self.prompt_learner.text

    def scores(self, features: Tensor) -> Tensor:
        held = self.prompt_learner
        return features @ held.text.T + kernel(features @ held.keys.T, held.beta) @ held.values

    # -- fitting ------------------------------------------------------------------------------------------

    def factor(self, strength: float) -> float:
        """What FORM makes of the exact minimiser's coefficients: the released ones are λ times as large."""
        return strength if self.own.FORM == "released" else 1.0

    def fit(self) -> None:
        features, labels = self.normalised(self.training_sets())
        keys, text = features.double(), self.class_texts.double()
        residual = F.one_hot(labels, len(text)).double() - keys @ text.T
        beta, strength = self.choose(keys, residual, labels)
        ridge = Ridge.of(kernel(keys @ keys.T, beta), residual)
        values = self.factor(strength) * ridge.solved(strength)
        self.prompt_learner.fill(keys=features, values=values, text=self.class_texts, beta=beta)

    def choose(self, keys: Tensor, residual: Tensor, labels: Tensor) -> tuple[float, float]:
        """β and λ by SELECT."""
        own = self.own
        if own.SELECT == "fixed" or self.forced:
            return float(own.BETA), float(own.LAMBDA)
        judged, candidates = self.by_leaving_out, self.candidates()
        if own.SELECT == "val":
            judged = self.by_validation
        right, _, beta, strength = max(judged(candidates, keys, residual, labels), key=lambda found: found[:2])
        log.info("beta %g, lambda %g by %s: %d right", beta, strength, own.SELECT, right)
        return beta, strength

    def candidates(self) -> tuple[list[float], list[float]]:
        """All β and all λ, ascending."""
        betas, strengths = (
            torch.linspace(low, high, int(count), dtype=torch.float64).tolist()
            for low, high, count in (self.own.BETA_SEARCH, self.own.LAMBDA_SEARCH)
        )
        return betas, strengths

    def by_leaving_out(
        self, candidates: tuple[list[float], list[float]], keys: Tensor, residual: Tensor, labels: Tensor
    ) -> Iterator[tuple[int, float, float, float]]:
        """For each pair: how many left-out samples are right, minus their squared error, β, λ; β in the outer loop."""
        truth = F.one_hot(labels, residual.shape[1]).to(residual)
        seen = labels.bincount(minlength=residual.shape[1])[labels] > self.views  # not alone in its class
        for beta in candidates[0]:
            ridge = Ridge.of(kernel(keys @ keys.T, beta), residual)
            for strength in candidates[1]:
                scores = (truth - residual) + self.factor(strength) * ridge.left_out(strength, self.views)
                error = float((truth - scores)[seen].square().sum())
                yield int(count_correct(scores[seen], labels[seen])), -error, beta, strength

    def by_validation(
        self, candidates: tuple[list[float], list[float]], keys: Tensor, residual: Tensor, labels: Tensor
    ) -> Iterator[tuple[int, float, float, float]]:
        """For each pair: how many validation images are right, 0, β, λ; β in the outer loop."""
        found, right = self.validation(f"TRAINER.{self.section}.SELECT loo, or fixed to use its BETA and LAMBDA")
        new, plain = found.double(), found.double() @ self.class_texts.double().T
        for beta in candidates[0]:
            ridge, between = Ridge.of(kernel(keys @ keys.T, beta), residual), kernel(new @ keys.T, beta)
            for strength in candidates[1]:
                scores = plain + self.factor(strength) * (between @ ridge.solved(strength))
                yield int(count_correct(scores, right)), 0.0, beta, strength
