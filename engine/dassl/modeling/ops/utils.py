"""Labels, probabilities and schedules of methods that learn from unlabelled images."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sharpen_prob(p: Tensor, temperature: float = 2) -> Tensor:
    """(B, C) probabilities, raised to the power ``temperature`` and normalised again."""
    p = p.pow(temperature)
    return p / p.sum(1, keepdim=True)


def reverse_index(data: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Both in reverse order of their rows."""
    return data.flip(0), label.flip(0)


def shuffle_index(data: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the same random order of their rows."""
    order = torch.randperm(data.shape[0])
    return data[order], label[order]


def create_onehot(label: Tensor, num_classes: int) -> Tensor:
    """(B,) labels -> (B, num_classes) floats, on the CPU."""
    return F.one_hot(label.detach().cpu(), num_classes).float()


def sigmoid_rampup(current: float, rampup_length: float) -> float:
    """``exp(-5 (1 - t)^2)`` with t = current / rampup_length, kept within 0 and 1 (Laine and Aila, ICLR 2017)."""
    return math.exp(-5.0 * (1.0 - linear_rampup(current, rampup_length)) ** 2)


def linear_rampup(current: float, rampup_length: float) -> float:
    """current / rampup_length, kept within 0 and 1.

    Raises:
        ValueError: a length that is not positive.
    """
    if rampup_length <= 0:
        raise ValueError(f"rampup_length must be positive, got {rampup_length}")
    return min(max(current / rampup_length, 0.0), 1.0)


@torch.no_grad()
def ema_model_update(model: nn.Module, ema_model: nn.Module, alpha: float) -> None:
    """Move the parameters of ``ema_model`` to ``alpha`` times themselves + (1 - alpha) times those of ``model``."""
    for average, parameter in zip(ema_model.parameters(), model.parameters(), strict=True):
        average.mul_(alpha).add_(parameter, alpha=1 - alpha)
