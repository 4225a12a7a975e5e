"""Small metrics on tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def compute_accuracy(output: Tensor | tuple[Tensor, ...], target: Tensor, topk: tuple[int, ...] = (1,)) -> list[Tensor]:
    """Accuracy in % for each k: ``output`` (B, C) scores, ``target`` (B,) labels; a list of (1,) tensors."""
    if isinstance(output, (tuple, list)):
        output = output[0]
    best = output.topk(min(max(topk), output.shape[1]), dim=1).indices
    hits = best.eq(target.view(-1, 1))
    return [hits[:, :k].any(dim=1).float().mean(dim=0, keepdim=True) * 100.0 for k in topk]


def compute_distance_matrix(input1: Tensor, input2: Tensor, metric: str = "euclidean") -> Tensor:
    """(M, D), (N, D) -> (M, N): squared Euclidean ("euclidean", as upstream) or "cosine" distances.

    Raises:
        ValueError: another metric or shapes that do not fit.
    """
    if input1.ndim != 2 or input2.ndim != 2 or input1.shape[1] != input2.shape[1]:
        raise ValueError(f"expected (M, D) and (N, D), got {tuple(input1.shape)} and {tuple(input2.shape)}")
    if metric == "euclidean":
        return torch.cdist(input1, input2).square()
    if metric == "cosine":
        return 1 - F.normalize(input1, dim=1) @ F.normalize(input2, dim=1).T
    raise ValueError(f'unknown distance metric "{metric}": use "euclidean" or "cosine"')


__all__ = ["compute_accuracy", "compute_distance_matrix"]
