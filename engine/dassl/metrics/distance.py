"""Distances between the rows of two matrices."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def compute_distance_matrix(input1: Tensor, input2: Tensor, metric: str = "euclidean") -> Tensor:
    """(M, D), (N, D) -> (M, N): squared Euclidean ("euclidean", as upstream) or "cosine" distances.

    Raises:
        ValueError: another metric or shapes that do not fit.
    """
    if input1.ndim != 2 or input2.ndim != 2 or input1.shape[1] != input2.shape[1]:
        raise ValueError(f"expected (M, D) and (N, D), got {tuple(input1.shape)} and {tuple(input2.shape)}")
    if metric == "euclidean":
        return euclidean_squared_distance(input1, input2)
    if metric == "cosine":
        return cosine_distance(input1, input2)
    raise ValueError(f'unknown distance metric "{metric}": use "euclidean" or "cosine"')


def euclidean_squared_distance(input1: Tensor, input2: Tensor) -> Tensor:
    """(M, D), (N, D) -> (M, N): squared Euclidean distances."""
    return torch.cdist(input1, input2).square()


def cosine_distance(input1: Tensor, input2: Tensor) -> Tensor:
    """(M, D), (N, D) -> (M, N): 1 - cosine similarity."""
    return 1 - F.normalize(input1, dim=1) @ F.normalize(input2, dim=1).T
