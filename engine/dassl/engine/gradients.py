"""Two losses, one step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def project(g_a: Tensor, g_b: Tensor, strength: float = 1.0) -> Tensor:
    """``g_a`` without ``strength`` times its component against ``g_b`` (ProGrad, section 3.2); the shape is kept.

    Where the two agree (their dot product is not negative), and where ``g_b`` is zero, ``g_a`` comes back as it is.
    A gradient that is not finite gives one that is not finite, by which a GradScaler knows to leave the step out.
    """
    direction = F.normalize(g_b.flatten().double(), dim=0, eps=torch.finfo(torch.float64).tiny)
    against = torch.dot(g_a.flatten().double(), direction).clamp(max=0.0)
    return g_a - (strength * against * direction).view_as(g_a).to(g_a.dtype)
