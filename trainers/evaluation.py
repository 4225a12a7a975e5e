"""The evaluator of this project's methods: Dassl's, which also keeps what was said of each image."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dassl.evaluation import EVALUATOR_REGISTRY, Classification
from dassl.utils import UserError


@EVALUATOR_REGISTRY.register()
class ClassificationPerImage(Classification):
    """``Classification`` that keeps the scores of the last test, image by image.

    ``process(mo, gt)`` is Dassl's; who also knows the images' paths adds them to ``paths`` in the same order.
    """

    def reset(self) -> None:
        super().reset()
        self.paths: list[str] = []
        self._scores: list[torch.Tensor] = []

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        super().process(mo, gt)
        self._scores.append(mo.detach().double().cpu())

    def predictions(self) -> tuple[list[str], NDArray[np.int64], NDArray[np.float64]]:
        """Paths (N), labels (N,) and ``softmax`` of the scores (N, C), in double precision.

        Raises:
            UserError: a score is not finite.
            RuntimeError: fewer or more paths than images.
        """
        if len(self.paths) != len(self.y_true):
            raise RuntimeError(f"{len(self.paths)} paths for {len(self.y_true)} images")
        scores = torch.cat(self._scores)
        if not torch.isfinite(scores).all():
            raise UserError("the model's scores are infinite or NaN: train in full precision (PREC fp32), or lower OPTIM.LR")
        return list(self.paths), torch.tensor(self.y_true).numpy(), scores.softmax(dim=1).numpy()
