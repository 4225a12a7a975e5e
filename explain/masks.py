"""Masks of where the decisive structure of an image lies: the rehearsal data have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision import transforms as T
from torchvision.transforms.functional import InterpolationMode

MASKS = "masks"


def mask_path(image: Path) -> Path | None:
    """``<root>/<NAME>/masks/<class>/<file>`` of ``<root>/<NAME>/<NAME>/<class>/<file>``; ``None`` where there is none."""
    parents = image.resolve().parents
    if len(parents) < 3:
        return None
    path = parents[2] / MASKS / parents[0].name / image.name
    return path if path.is_file() else None


def read_mask(path: Path, size: int) -> Tensor:
    """(size, size) bool: resized and cropped as the test transform does it with the image."""
    steps = T.Compose([T.Resize(size, interpolation=InterpolationMode.NEAREST), T.CenterCrop(size)])
    with Image.open(path) as mask:
        return torch.from_numpy(np.array(steps(mask.convert("L"))) > 127)


def coverage(mask: Tensor, side: int) -> Tensor:
    """(S, S) bool -> (side, side): the fraction of each patch that the mask covers."""
    return F.adaptive_avg_pool2d(mask[None, None].float(), side)[0, 0]


def is_informative(mask: Tensor) -> bool:
    """Whether the mask divides the image: one that is empty, or covers everything, says nothing about where to look."""
    return bool(mask.any()) and not bool(mask.all())
