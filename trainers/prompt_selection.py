"""Which of the K LLM prompts of a class make up its feature F_c, chosen on the few-shot training images.

Biomed-DPT's published runs average all K (``all``); its journal version ranks the prompts and searches their best
combination. Here every choice is a table of weights w (C, K), rows summing to 1, and ``F_c = unit(Σ_k w_ck unit(F_ck))``:

* ``topk``: the k prompts per class that classify best alone, in equal parts;
* ``greedy``: prompts are added, one at a time, while that lowers the cross-entropy, in equal parts;
* ``learned``: w = softmax of C K free numbers, fitted to the cross-entropy plus a pull towards equal parts.

Everything follows from the cosines of images and prompts and from those of the prompts among each other, so nothing is
encoded again. No random number is drawn: for one seed, that is for one draw of the few shots, the choice is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.base import unit

SELECTIONS = ("all", "topk", "greedy", "learned")
MAX_FOLDS = 16  # leaving out one shot of 16 is exact; of more shots several are left out together
LEARNED_STEPS = 200
MIN_GAIN = 1e-6  # of cross-entropy: a prompt that lowers it by less is not worth adding


@dataclass(frozen=True)
class Selection:
    """What was chosen.

    Attributes:
        how: one of :data:`SELECTIONS`.
        weights: (C, K), rows summing to 1.
        train_ce: cross-entropy on the training images with all prompts in equal parts, and with ``weights``.
    """

    how: str
    weights: Tensor
    train_ce: tuple[float, float]

    def record(self, classnames: Sequence[str]) -> dict[str, Any]:
        """For the results file: per class the indices of the chosen prompts (from 0), or all weights."""
        rows = self.weights.tolist()
        if self.how == "learned":
            what = {"weights": {n: [round(w, 6) for w in row] for n, row in zip(classnames, rows, strict=True)}}
        else:
            what = {"indices": {n: [k for k, w in enumerate(row) if w] for n, row in zip(classnames, rows, strict=True)}}
        return {"how": self.how, "train_ce_all": self.train_ce[0], "train_ce_selected": self.train_ce[1], **what}


@dataclass(frozen=True)
class Cosines:
    """All that selection needs to know, in float64.

    Attributes:
        images: (N, C, K) cosine of training image n with prompt k of class c.
        prompts: (C, K, K) cosines of the prompts of one class among each other.
        labels: (N,) classes of the images.
        scale: s = exp(logit_scale).
    """

    images: Tensor
    prompts: Tensor
    labels: Tensor
    scale: float

    def of(self, rows: Tensor) -> Cosines:
        """Only the images ``rows`` (a mask (N,))."""
        return Cosines(self.images[rows], self.prompts, self.labels[rows], self.scale)

    def logits(self, weights: Tensor) -> Tensor:
        """(N, C): ``s v F(w)^T``, from the cosines alone (|Σ_k w_k F_k|² = w^T G w)."""
        products = torch.einsum("nck,ck->nc", self.images, weights)
        norms = torch.einsum("ck,ckl,cl->c", weights, self.prompts, weights).sqrt()
        return self.scale * products / norms

    def cross_entropy(self, weights: Tensor) -> Tensor:
        """Mean over the images."""
        return F.cross_entropy(self.logits(weights), self.labels)


def cosines(image_features: Tensor, labels: Tensor, prompt_features: Tensor, scale: float) -> Cosines:
    """:class:`Cosines` from image features (N, D) and encoded prompts (C, K, D), neither need be normalised."""
    v, f = unit(image_features.double().cpu()), unit(prompt_features.double().cpu())
    return Cosines(torch.einsum("nd,ckd->nck", v, f), f @ f.transpose(1, 2), labels.cpu(), scale)


def select(how: str, given: Cosines, *, top: int, pull: float) -> Selection:
    """Weights (C, K) by one of :data:`SELECTIONS`.

    Args:
        top: k of ``topk``.
        pull: strength of the regulariser of ``learned``.
    """
    weights = even = equal_parts(torch.ones(given.prompts.shape[:2], dtype=torch.bool))
    with one_thread():
        if how == "topk":
            weights = equal_parts(top_mask(given, top))
        elif how == "greedy":
            weights = equal_parts(greedy_mask(given))
        elif how == "learned":
            weights = learned_weights(given, pull)
    return Selection(how, weights, (float(given.cross_entropy(even)), float(given.cross_entropy(weights))))


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order whatever the machine; thousands of small products are faster so, too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def weighted_ensemble(encoded: Tensor, weights: Tensor) -> Tensor:
    """F (C, D) from encoded prompts (C, K, D) and weights (C, K): normalised, averaged by weight, normalised again."""
    return unit((weights.to(encoded).unsqueeze(-1) * unit(encoded)).sum(dim=1))


def equal_parts(mask: Tensor) -> Tensor:
    """Weights (C, K) that share each row out among its chosen prompts."""
    return mask.double() / mask.sum(dim=1, keepdim=True)


def replaced_losses(given: Cosines, logits: Tensor, columns: Tensor) -> Tensor:
    """(N, C, K) cross-entropy of image n when class c's logit is taken from ``columns`` instead.

    Args:
        logits: (N, C), for the other classes.
        columns: (N, C, K) logit of class c with candidate k.
    """
    count = logits.shape[1]
    itself = torch.eye(count, dtype=torch.bool)
    others = logits[:, None, :].expand(-1, count, -1).masked_fill(itself, float("-inf")).logsumexp(dim=2)  # (N, C)
    total = torch.logaddexp(others.unsqueeze(2), columns)
    own = F.one_hot(given.labels, count).bool().unsqueeze(2)  # (N, C, 1): is c the image's class?
    right = logits.gather(1, given.labels[:, None]).unsqueeze(2)  # (N, 1, 1)
    return total - torch.where(own, columns, right)


def top_mask(given: Cosines, top: int) -> Tensor:
    """(C, K) mask of the ``top`` prompts of each class that classify best alone.

    Prompt k of class c alone stands for its class while the other classes keep all their prompts; the lower the
    cross-entropy over all training images, the better. Equal ones go by their place in the file.
    """
    everything = torch.ones(given.prompts.shape[:2], dtype=torch.bool)
    losses = replaced_losses(given, given.logits(equal_parts(everything)), given.scale * given.images).mean(dim=0)
    best = losses.argsort(dim=1, stable=True)[:, :top]
    return torch.zeros_like(everything).scatter(1, best, True)


def greedy_path(given: Cosines) -> list[Tensor]:
    """Masks (C, K): the best single prompt of each class, then one prompt more each, the one that helps most.

    It ends where no prompt lowers the cross-entropy on the images of ``given`` by :data:`MIN_GAIN` or more.
    """
    path = [top_mask(given, 1)]
    best = float(given.cross_entropy(equal_parts(path[0])))
    while not path[-1].all():
        mask = path[-1]
        chosen = mask.double()
        sums = torch.einsum("nck,ck->nc", given.images, chosen)
        inner = torch.einsum("ckl,cl->ck", given.prompts, chosen)  # of each prompt with the sum of the chosen ones
        squares = (chosen * inner).sum(dim=1, keepdim=True) + 2 * inner + 1
        columns = given.scale * (sums.unsqueeze(2) + given.images) / squares.sqrt()
        losses = replaced_losses(given, given.logits(equal_parts(mask)), columns).mean(dim=0)
        losses = losses.masked_fill(mask, float("inf"))
        place = int(losses.argmin())
        if losses.flatten()[place] > best - MIN_GAIN:
            break
        best = float(losses.flatten()[place])
        grown = mask.clone()
        grown.view(-1)[place] = True
        path.append(grown)
    return path


def shot_folds(labels: Tensor) -> Tensor:
    """(N,) fold of each image: the how-manieth of its class it is (modulo :data:`MAX_FOLDS`)."""
    seen: dict[int, int] = {}
    folds = []
    for label in labels.tolist():
        folds.append(seen.get(label, 0) % MAX_FOLDS)
        seen[label] = seen.get(label, 0) + 1
    return torch.tensor(folds)


def greedy_mask(given: Cosines) -> Tensor:
    """(C, K) mask of the grown ensemble.

    With two images or more of every class, how far it grows is chosen by leaving one shot out: for each fold (the j-th
    image of every class) it is grown on the others and judged on the fold, and the length with the lowest
    cross-entropy over all left-out images is taken. With one shot it grows as long as the training loss falls.
    """
    path, labels = greedy_path(given), given.labels
    counts = labels.bincount(minlength=given.prompts.shape[0])
    if int(counts[counts > 0].min()) < 2:
        return path[-1]
    folds, held_out = shot_folds(labels), torch.zeros(len(path), dtype=torch.float64)
    for fold in folds.unique():
        inside, outside = given.of(folds != fold), given.of(folds == fold)
        grown = greedy_path(inside)
        for length in range(len(path)):  # a shorter path has ended: it stays as it is
            weights = equal_parts(grown[min(length, len(grown) - 1)])
            held_out[length] += F.cross_entropy(outside.logits(weights), outside.labels, reduction="sum")
    return path[int(held_out.argmin())]


@torch.enable_grad()
def learned_weights(given: Cosines, pull: float) -> Tensor:
    """w (C, K) = softmax(a) that minimises ``CE + pull * mean_c KL(w_c || equal parts)``, from a = 0 by L-BFGS."""
    shape = given.prompts.shape[:2]
    free = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([free], max_iter=LEARNED_STEPS, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def objective() -> Tensor:
        optimiser.zero_grad()
        logs = F.log_softmax(free, dim=1)
        weights = logs.exp()
        divergence = (weights * (logs + torch.tensor(shape[1]).double().log())).sum(dim=1).mean()
        loss = given.cross_entropy(weights) + pull * divergence
        loss.backward()
        return loss

    optimiser.step(objective)
    return F.softmax(free.detach(), dim=1)
