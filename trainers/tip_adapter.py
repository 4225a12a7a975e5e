"""Tip-Adapter and Tip-Adapter-F: a cache of the training features (Zhang et al., ECCV 2022, arXiv 2207.09519)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from dassl.engine.trainer import set_loader_epoch
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import UserError
from trainers.base import unit
from trainers.feature_trainer import FeatureTrainer, blended, count_correct

log = logging.getLogger(__name__)

LEAST = 0.1  # of alpha and beta in the search
CHUNK = 1024  # validation images that are scored at a time


def cache_scores(affinity: Tensor, values: Tensor, beta: Tensor | float) -> Tensor:
    """``exp(-beta (1 - v K^T)) V`` (section 3.1): affinities (…, B, N), one-hot values (N, C) -> (…, B, C)."""
    return torch.exp(-beta * (1 - affinity)) @ values


def search_grid(scale: float, steps: int) -> Tensor:
    """(steps,) values from 0.1 towards ``scale``, which is not reached (as published)."""
    return LEAST + torch.arange(steps) * (scale - LEAST) / steps


def search_blend(
    zero_shot: Tensor, affinity: Tensor, values: Tensor, labels: Tensor, alphas: Tensor, betas: Tensor
) -> tuple[float, float, int]:
    """The alpha and beta with the most images right; of equals the smallest beta, then the smallest alpha.

    Args:
        zero_shot: (V, C) logits.
        affinity: (V, N) products with the keys.
        values: (N, C) one-hot.
        labels: (V,).
        alphas, betas: (A,), (S,) candidates, ascending.

    Returns:
        alpha, beta, and how many of the V images they get right.
    """
    correct = torch.zeros(len(betas), len(alphas), dtype=torch.int64, device=labels.device)
    for rows in torch.arange(len(labels), device=labels.device).split(CHUNK):
        for row, beta in enumerate(betas):
            cached = cache_scores(affinity[rows], values, beta)
            correct[row] += count_correct(blended(zero_shot[rows], cached, alphas), labels[rows])
    best = int(correct.flatten().argmax())  # the first of equals
    beta, alpha = divmod(best, len(alphas))
    return float(alphas[alpha]), float(betas[beta]), int(correct.max())


class Cache(nn.Module):
    """Keys (…, N, D), one-hot values (N, C), and the weights alpha (…) and beta of what they say.

    Args:
        learn: whether the keys are parameters (Tip-Adapter-F) or fixed.
    """

    def __init__(self, keys: Tensor, values: Tensor, alpha: Tensor, beta: float, learn: bool) -> None:
        super().__init__()
        if learn:
            self.keys = nn.Parameter(keys)
        else:
            self.register_buffer("keys", keys)
        self.register_buffer("values", values)
        self.register_buffer("alpha", alpha)
        self.register_buffer("beta", torch.tensor(beta))

    def affinity(self, features: Tensor) -> Tensor:
        """(B, D) -> (…, B, N)."""
        return features @ self.keys.mT

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (…, B, C): what the cache adds to the zero-shot logits."""
        return self.alpha[..., None, None] * cache_scores(self.affinity(features), self.values, self.beta)


@TRAINER_REGISTRY.register()
class TipAdapter(FeatureTrainer):
    """``s v F^T + alpha exp(-beta (1 - v K^T)) V``: keys K are the training features, values V their labels.

    A key is the mean over AUGMENT_EPOCH views of an image, normalised. alpha and beta are chosen on validation images
    over SEARCH_STEP x SEARCH_STEP pairs; the first of the best wins, beta in the outer loop, as published.
    """

    section = "TIPADAPTER"

    @classmethod
    def defaults(cls) -> CfgNode:
        return CfgNode(
            {
                "AUGMENT_EPOCH": 1,  # views of every training image; 0: the image under the test transform
                "SEARCH": True,  # choose alpha and beta on validation
                "SEARCH_SCALE": [50, 50],  # upper ends of beta and alpha
                "SEARCH_STEP": [200, 200],  # how many values of beta and alpha
                "INIT_ALPHA": 1.0,  # without SEARCH
                "INIT_BETA": 1.0,
                "PREC": "fp32",  # fp32, amp, bf16
            }
        )

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        own = cfg.TRAINER[cls.section]
        return f"views{own.AUGMENT_EPOCH}" + ("" if own.SEARCH else f"_alpha{own.INIT_ALPHA}_beta{own.INIT_BETA}")

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        own = cfg.TRAINER[self.section]
        for key in ("SEARCH_SCALE", "SEARCH_STEP"):
            if len(own[key]) != 2 or min(own[key]) < 1:
                raise UserError(f"TRAINER.{self.section}.{key} is {own[key]}, must be two numbers, of beta and alpha")

    def build_learner(self, classnames: Sequence[str]) -> Cache:
        size, own = len(self.dm.dataset.train_x) if self.has_images else 0, self.own
        keys, values = torch.zeros(size, self.backbone.embed_dim), torch.zeros(size, len(classnames))
        return Cache(keys, values, torch.tensor(own.INIT_ALPHA), own.INIT_BETA, learn=self.uses_optimizer)

    def make_room(self, stored: dict[str, Tensor]) -> None:
        self.take_sizes(stored, "keys", "values")  # only the checkpoint tells how many they were

    def scores(self, features: Tensor) -> Tensor:
        return self.zero_shot(features) + self.prompt_learner(features)

    @torch.no_grad()
    def fill_cache(self) -> None:
        """Keys and values from the training images."""
        sets, cache = self.training_sets(), self.prompt_learner
        cache.keys.copy_(unit(torch.stack([one.features for one in sets]).mean(dim=0)))
        cache.values.copy_(F.one_hot(sets[0].labels, len(self.classnames)))

    @torch.no_grad()
    def search(self) -> None:
        """Choose alpha and beta on the validation images."""
        if not self.own.SEARCH:
            return
        cache = self.prompt_learner
        features, labels = self.validation(f"TRAINER.{self.section}.SEARCH False to use its INIT_ALPHA and INIT_BETA")
        (top_beta, top_alpha), (betas, alphas) = self.own.SEARCH_SCALE, self.own.SEARCH_STEP
        grids = [search_grid(top, steps).to(self.device) for top, steps in ((top_alpha, alphas), (top_beta, betas))]
        found = search_blend(self.zero_shot(features), cache.affinity(features), cache.values, labels, *grids)
        cache.alpha.fill_(found[0])
        cache.beta.fill_(found[1])
        log.info("alpha %.3f, beta %.3f: %d of %d validation images right", *found, len(labels))

    def fit(self) -> None:
        self.fill_cache()
        self.search()


@TRAINER_REGISTRY.register()
class TipAdapterF(TipAdapter):
    """Tip-Adapter whose keys are trained by cross-entropy from where the cache put them (section 3.2).

    GRID_SEARCH: the alpha of training is the one of 1, 2, … below INIT_ALPHA_SCALE whose trained keys get most
    validation images right, the first of equals; 0 is left out, with which no key would move. beta is INIT_BETA in
    training. Afterwards alpha and beta are chosen as for Tip-Adapter. The last epoch's keys are tested. (The released
    search goes on from one candidate's trained keys to the next; here each starts from the cache.)
    """

    section = "TIPADAPTERF"
    uses_optimizer = True
    least = {**TipAdapter.least, "INIT_ALPHA_SCALE": 2}

    @classmethod
    def defaults(cls) -> CfgNode:
        added = {"GRID_SEARCH": True, "INIT_ALPHA_SCALE": 10, "EPS": 1e-4}  # EPS: of AdamW
        return CfgNode(dict(super().defaults()) | added)

    @classmethod
    def variant(cls, cfg: CfgNode) -> str:
        own = cfg.TRAINER[cls.section]
        return super().variant(cfg) + ("" if own.GRID_SEARCH else f"_train{own.INIT_ALPHA}")

    def optimizer_and_schedule(self, learner: nn.Module) -> tuple[Any, Any]:
        group = {"params": list(learner.parameters()), "eps": self.own.EPS}
        optim = build_optimizer(learner, self.cfg.OPTIM, param_groups=[group])
        return optim, build_lr_scheduler(optim, self.cfg.OPTIM)

    def before_train(self) -> None:
        super().before_train()
        if self.start_epoch == 0:
            self.fill_cache()
            if self.own.GRID_SEARCH:
                self.prompt_learner.alpha.fill_(self.search_initial_alpha())

    def run_epoch(self) -> None:
        super().run_epoch()
        if self.epoch + 1 == self.max_epoch:
            self.search()

    def search_initial_alpha(self) -> float:
        """Train the keys once for every candidate, side by side, and return the best candidate on validation."""
        instead = f"TRAINER.{self.section}.GRID_SEARCH False and SEARCH False to use its INIT_ALPHA and INIT_BETA"
        features, labels = self.validation(instead)
        alphas = torch.arange(1.0, self.own.INIT_ALPHA_SCALE, device=self.device)
        trained = self.train_candidates(alphas)
        with torch.no_grad():
            correct = count_correct(self.zero_shot(features) + trained(features), labels)
        best = float(alphas[correct.argmax()])
        log.info("initial alpha %g: %d of %d validation images right", best, correct.max(), len(labels))
        return best

    def train_candidates(self, alphas: Tensor) -> Cache:
        """A cache with keys (A, N, D), each slice trained with its own alpha as the run itself would train it.

        The optimiser works element by element, so the sum of the candidates' losses trains each as if it were alone.
        """
        loader, start = self.train_loader_x, self.prompt_learner
        loader.keep = True  # the run itself takes the same views
        keys = start.keys.detach().repeat(len(alphas), 1, 1)
        candidates = Cache(keys, start.values.clone(), alphas, self.own.INIT_BETA, learn=True).to(self.device)
        optim, schedule = self.optimizer_and_schedule(candidates)
        for epoch in range(self.max_epoch):
            set_loader_epoch(loader, epoch)
            for batch in loader:
                features, labels = self.parse_batch_train(batch)
                features = unit(features)
                logits = self.zero_shot(features) + candidates(features)  # (A, B, C)
                loss = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(alphas)), reduction="sum") / len(labels)
                optim.zero_grad()
                loss.backward()
                optim.step()
            schedule.step()
        return candidates
