"""What a trained run says of one image: probabilities, where it looked, and what the image is near to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from analysis.conformal import TooFewImages, percent
from dassl.data.transforms import build_transform
from dassl.utils import PixelSettings, UserError, kind_of, read_image
from demo.references import Near, References
from explain.figures import COLOURS, displayed, shares
from explain.saliency import saliency
from runs.calibration import Kept, answers
from runs.inference import probabilities
from trainers.base import VLTrainer

SHOWN_SENTENCES, SHOWN_IMAGES = 5, 6
COUNTED = 20  # nearest sentences whose classes are counted
LEAST_OPACITY = 0.1  # of the map where it is 0, so that its edge is seen


@dataclass(frozen=True)
class Reading:
    """One image's answer.

    Attributes:
        name, kind: of the file.
        picture: (S, S) as the model sees it.
        overlay: (S, S) RGBA map of what the likeliest class rests on; ``None`` with the reason in ``map_note``.
        raw: (C,) the run's own probabilities.
        sentences, images: nearest first.
        counted: of the nearest sentences how many are about each class, the most first.
    """

    name: str
    kind: str
    picture: Image.Image
    overlay: Image.Image | None
    map_note: str
    raw: list[float]
    sentences: list[Near[str]]
    images: list[Near[Path]]
    counted: list[tuple[str, int]]


class Reader:
    """Reads one image at a time.

    Args:
        trainer: in evaluation mode.
        kept: its calibration, where there is one.
        sentences, images: to compare with.
    """

    def __init__(self, trainer: VLTrainer, kept: Kept | None, sentences: References[str], images: References[Path]) -> None:
        self.trainer, self.kept, self.sentences, self.images = trainer, kept, sentences, images
        self._transform = build_transform(trainer.cfg, is_train=False)
        self.pixels = PixelSettings.from_cfg(trainer.cfg)

    @property
    def classnames(self) -> list[str]:
        return list(self.trainer.classnames)

    def read(self, path: Path, name: str = "") -> Reading:
        """The answer to an image file of any kind that the project reads.

        Raises:
            UnreadableImage: it is none.
            UserError: scores that are not finite.
        """
        trainer, own = self.trainer, self.trainer.cfg.INPUT
        images = self._transform(read_image(str(path), self.pixels))[None].to(trainer.device)
        raw = probabilities(trainer, images)[0]
        picture = _as_picture(displayed(images, own.PIXEL_MEAN, own.PIXEL_STD)[0].numpy())
        overlay, note = self._overlay(images, int(raw.argmax()))
        with torch.no_grad():
            feature = trainer.image_features(images)[0].float().cpu()
        near = self.sentences.nearest(feature, COUNTED)
        return Reading(
            name or path.name,
            kind_of(str(path), self.pixels),
            picture,
            overlay,
            note,
            raw.tolist(),
            near[:SHOWN_SENTENCES],
            self.images.nearest(feature, SHOWN_IMAGES),
            Counter(one.classname for one in near).most_common(),
        )

    def _overlay(self, images: Tensor, label: int) -> tuple[Image.Image | None, str]:
        trainer = self.trainer
        classes = torch.tensor([label], device=trainer.device)
        try:
            found = saliency("gradcam", trainer.backbone, images, trainer.visual_prompt(), trainer.scores, classes)
        except UserError as error:
            return None, str(error)
        grid = shares(found.grid[0])
        if not grid.any():
            return None, f"no place speaks for {self.classnames[label]}: the map is zero everywhere"
        size = images.shape[-1]
        smooth = F.interpolate(grid[None, None], size=(size, size), mode="bilinear", align_corners=False)[0, 0]
        smooth = smooth / smooth.max()
        colours = colormaps[COLOURS](smooth.numpy())
        colours[..., 3] = LEAST_OPACITY + (1 - LEAST_OPACITY) * smooth.numpy()
        return _as_picture(colours), f"what speaks for {self.classnames[label]} (Grad-CAM, last block)"

    def probabilities(self, raw: list[float]) -> list[tuple[str, float]]:
        """Class and probability, likeliest first; calibrated where there is a calibration."""
        p = self.kept.calibration.probabilities([raw])[0] if self.kept else np.asarray(raw)
        return sorted(zip(self.classnames, p.tolist(), strict=True), key=lambda pair: -pair[1])

    def prediction_set(self, raw: list[float], coverage: float) -> tuple[tuple[str, ...], str]:
        """The classes of the set, likeliest first, and what is to be said of it; no class where there can be no set."""
        if self.kept is None:
            return (), (
                "No prediction set: it needs labelled images that the model did not learn from, "
                "python -m demo RUN --calibrate LABELLED_FOLDER."
            )
        try:
            _, (chosen,) = answers(self.kept, [raw], self.classnames, coverage)
        except TooFewImages as error:
            return (), f"No set: {error}."
        return chosen, (
            f"Of images like those of the calibration, sets made so hold the true class of {percent(coverage)}; nothing is "
            "promised for a single class, or for images of another kind, scanner or hospital."
        )

    def calibration_note(self) -> str:
        """Whether the probabilities are calibrated, and by what."""
        if self.kept is None:
            return "Not calibrated: the softmax of the run's own scores. They may be far too sure, or not sure enough."
        said = self.kept.said(self.kept.record["held_out"]["coverage_asked"])
        return f"{said[0].upper()}{said[1:]}."


def _as_picture(values: np.ndarray) -> Image.Image:
    """(S, S, 3 or 4) in 0..1 as an image of 8 bits."""
    return Image.fromarray((np.clip(values, 0, 1) * 255).round().astype(np.uint8))
