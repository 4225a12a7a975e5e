"""Top-k accuracy."""

from __future__ import annotations

from torch import Tensor


def compute_accuracy(output: Tensor | tuple[Tensor, ...], target: Tensor, topk: tuple[int, ...] = (1,)) -> list[Tensor]:
    """Accuracy in % for each k: ``output`` (B, C) scores, ``target`` (B,) labels; a list of (1,) tensors."""
    if isinstance(output, (tuple, list)):
        output = output[0]
    best = output.topk(min(max(topk), output.shape[1]), dim=1).indices
    hits = best.eq(target.view(-1, 1))
    return [hits[:, :k].any(dim=1).float().mean(dim=0, keepdim=True) * 100.0 for k in topk]
