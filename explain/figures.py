"""Pictures of maps over images, drawn without a display."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from analysis.figure_style import styled
from dassl.utils import atomic
from explain.saliency import saliency
from trainers.base import VLTrainer

COLOURS = "viridis"  # even steps of lightness: readable in grey and by the colour-blind
OPACITY = (0.15, 0.7)  # of a map where it is 0, and where it is largest
INCHES = 2.6  # of one panel
DOTS = 110  # per inch


@dataclass(frozen=True)
class Panel:
    """An image (S, S, 3) in 0..1, with a map (side, side) over it where there is one."""

    title: str
    image: Tensor
    grid: Tensor | None = None


def displayed(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(B, 3, S, S) normalised -> (B, S, S, 3) in 0..1."""
    scale, centre = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (std, mean))
    return (images.cpu() * scale + centre).clamp(0, 1).permute(0, 2, 3, 1)


@styled
def draw(rows: Sequence[Sequence[Panel]], path: Path, title: str = "", outline: Tensor | None = None) -> None:
    """Write a PNG with the panels of each row side by side.

    Each map is drawn as shares of its own sum, and the maps of one row on one scale: their colours can be compared.

    Args:
        outline: (S, S) bool, a mask whose border is drawn on every panel.
    """
    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(INCHES * columns, (INCHES + 0.45) * len(rows) + (0.4 if title else 0)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, places in zip(rows, axes, strict=True):
        grids = [None if panel.grid is None else shares(panel.grid) for panel in row]
        top = max((float(grid.max()) for grid in grids if grid is not None), default=0.0) or 1.0
        for place in places:
            place.set_axis_off()
        for panel, grid, place in zip(row, grids, places, strict=False):
            _draw_panel(place, panel, None if grid is None else grid / top, outline)
    if title:
        figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DOTS)


def shares(grid: Tensor) -> Tensor:
    """A map with sum 1, on the CPU; a map of zeros as it is."""
    grid = grid.detach().float().cpu()
    return grid / grid.sum() if grid.sum() > 0 else grid


def _draw_panel(place: Axes, panel: Panel, grid: Tensor | None, outline: Tensor | None) -> None:
    """``grid`` (side, side) is in 0..1."""
    size = panel.image.shape[0]
    place.imshow(panel.image.numpy())
    if grid is not None:
        smooth = F.interpolate(grid[None, None], size=(size, size), mode="bilinear", align_corners=False)[0, 0].numpy()
        opacity = OPACITY[0] + (OPACITY[1] - OPACITY[0]) * smooth
        place.imshow(smooth, cmap=COLOURS, vmin=0, vmax=1, alpha=opacity)
    if outline is not None and outline.any() and not outline.all():
        # two lines, dark under light: seen on any background
        for colour, width in (("black", 2.0), ("white", 0.9)):
            place.contour(outline.numpy().astype(float), levels=[0.5], colors=colour, linewidths=width)
    # names of files that are no UTF-8 are shown as they are
    title = panel.title.encode("utf-8", "backslashreplace").decode()
    place.set_title(title, fontsize=8)


class OverlayWriter:
    """Writes a PNG per image: the image, and over it what its likeliest class rests on.

    Args:
        trainer: in evaluation mode; its own visual prompt stands among the patches.
        folder: made where it is missing.
        kind: of map, one of :data:`explain.saliency.MAPS`.

    Raises:
        UserError: an image tower of which no such map can be made.
    """

    def __init__(self, trainer: VLTrainer, folder: Path, kind: str) -> None:
        self.trainer, self.folder, self.kind = trainer, folder, kind
        self.written = 0
        size = trainer.backbone.image_size
        self._maps(torch.zeros(1, 3, size, size, device=trainer.device))  # a mistake is told before anything is written

    def _maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class probabilities (B, C) and maps (B, side, side)."""
        trainer = self.trainer
        probabilities = trainer.model_inference(images).float().softmax(dim=1)
        classes = probabilities.argmax(dim=1)
        found = saliency(self.kind, trainer.backbone, images, trainer.visual_prompt(), trainer.scores, classes)
        return probabilities, found.grid

    def __call__(self, paths: Sequence[Path], images: Tensor) -> None:
        """Write the pictures of a batch, ``<number>_<name>.png``."""
        probabilities, grids = self._maps(images)
        own = self.trainer.cfg.INPUT
        for path, shown, row, grid in zip(
            paths, displayed(images, own.PIXEL_MEAN, own.PIXEL_STD), probabilities, grids, strict=True
        ):
            self.written += 1
            said = f"{self.trainer.classnames[int(row.argmax())]} {100 * float(row.max()):.1f} %"
            panels = [Panel(path.name, shown), Panel(f"{self.kind}: {said}", shown, grid)]
            draw([panels], self.folder / f"{self.written:04d}_{path.stem}.png")
