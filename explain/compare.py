"""Maps with and without a visual prompt: side by side on given images, and in numbers over data with masks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm
from yacs.config import CfgNode

from analysis.stats import ci95, mean
from backbones import VisionLanguageBackbone, VisualPrompt
from dassl.data.transforms import build_transform
from dassl.utils import PixelSettings, UserError, read_image
from datasets import by_key
from explain.figures import Panel, displayed, draw
from explain.maps import mass_inside, shift
from explain.masks import MASKS, coverage, is_informative, mask_path, read_mask
from explain.saliency import attention_maps, saliency
from runs.inference import find_images
from trainers.base import VLTrainer

ATTENTION_MAPS = ("attention", "rollout")  # those that ask for no class
BATCH_SIZE = 16


@dataclass(frozen=True)
class Shift:
    """One image's map without and with a visual prompt; all shares of mass are of the patches that both have.

    Attributes:
        moved: share of the map's mass that lies on other patches with the prompt (0 to 1); ``None`` for a map of zeros.
        prompt_share: what lies on the prompts, of what lies on patches and prompts.
        lesion_area: share of the image that the mask covers; ``None`` without a mask, as the two that follow.
        inside_without, inside_with: share of the mass that lies on the mask; ``None`` for a map of zeros.
    """

    image: Path
    kind: str
    moved: float | None
    prompt_share: float
    lesion_area: float | None = None
    inside_without: float | None = None
    inside_with: float | None = None


# -- pictures ---------------------------------------------------------------------------------------------


def compare_images(
    trainer: VLTrainer, paths: Sequence[Path], images: Tensor, prompt: VisualPrompt, kinds: Sequence[str], classes: Tensor
) -> tuple[list[list[list[Panel]]], list[list[Shift]]]:
    """Per image the panels of its picture, a row per map, and a :class:`Shift` per map.

    Args:
        images: (B, 3, H, W), of the files ``paths``.
        classes: (B,) what gradcam asks about.
    """
    shown = displayed(images, trainer.cfg.INPUT.PIXEL_MEAN, trainer.cfg.INPUT.PIXEL_STD)
    pictures: list[list[list[Panel]]] = [[] for _ in paths]
    numbers: list[list[Shift]] = [[] for _ in paths]
    for kind in kinds:
        plain, prompted = (saliency(kind, trainer.backbone, images, one, trainer.scores, classes) for one in (None, prompt))
        shares = prompted.prompt_share.tolist()
        for index, (path, *grids, share) in enumerate(zip(paths, plain.grid, prompted.grid, shares, strict=True)):
            found = measure(path, kind, *grids, share, images.shape[-1], overwritten(prompt))
            about = trainer.classnames[int(classes[index])] if kind == "gradcam" else kind
            pictures[index].append(_row(found, about, shown[index], grids))
            numbers[index].append(found)
    return pictures, numbers


def _row(found: Shift, about: str, image: Tensor, grids: Sequence[Tensor]) -> list[Panel]:
    row = [Panel(f"{found.image.name}\n{found.kind}" + ("" if about == found.kind else f": {about}"), image)]
    for what, grid, inside in zip(("without", "with"), grids, (found.inside_without, found.inside_with), strict=True):
        number = "" if inside is None else f"\n{100 * inside:.1f} % on the lesion"
        row.append(Panel(f"{what} visual prompt{number}", image, grid))
    return row


def write_pictures(
    folder: Path, paths: Sequence[Path], pictures: Sequence[list[list[Panel]]], start: int, size: int
) -> list[str]:
    """``<number>_<name>.png`` per image, numbered from ``start``; the mask's border is drawn where there is one.

    Returns:
        The names of the files.
    """
    names = []
    for number, (path, rows) in enumerate(zip(paths, pictures, strict=True), start=start):
        masked = mask_path(path)
        names.append(f"{number:04d}_{path.stem}.png")
        draw(rows, folder / names[-1], outline=read_mask(masked, size) if masked else None)
    return names


def measure(
    image: Path, kind: str, plain: Tensor, prompted: Tensor, prompt_share: float, size: int, overwritten: int = 0
) -> Shift:
    """What the prompt did to one image's map (side, side), on its mask where a mask divides it.

    Args:
        overwritten: the first patches, in whose place the prompts stood: left out of both maps, as otherwise every other
            patch would gain by their absence alone.
    """
    plain = plain.flatten().index_fill(0, torch.arange(overwritten, device=plain.device), 0).view_as(plain)
    moved = _defined(shift(plain[None], prompted[None]))
    masked = mask_path(image)
    mask = read_mask(masked, size) if masked else None
    if mask is None or not is_informative(mask):
        return Shift(image, kind, moved, prompt_share)
    covered = coverage(mask, plain.shape[-1])
    inside = [_defined(mass_inside(grid[None].cpu(), covered)) for grid in (plain, prompted)]
    return Shift(image, kind, moved, prompt_share, float(mask.float().mean()), *inside)


def overwritten(prompt: VisualPrompt) -> int:
    """How many patches the prompt stands in place of."""
    return prompt.num_tokens if prompt.placement == "replace" else 0


def _defined(value: Tensor) -> float | None:
    return None if bool(value.isnan()) else float(value)


# -- a table over data with masks -------------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """The effect of a visual prompt on one dataset's maps, in % of the map's mass; intervals are 95 % t-intervals.

    ``difference`` is with minus without, image by image.
    """

    dataset: str
    kind: str
    images: int
    lesion_area: float
    without: float
    with_prompt: float
    difference: float
    interval: float | None
    prompt_share: float


class UndividedError(UserError):
    """No mask of a dataset divides its image."""


def divided(root: Path, keys: Sequence[str], seed: int, size: int) -> list[str]:
    """Those of ``keys`` with a mask that divides its image; the last one's :class:`UndividedError` where there is none."""
    found, problem = [], None
    for key in keys:
        try:
            images_with_masks(root, key, 1, seed, size)
            found.append(key)
        except UndividedError as error:
            problem = error
    if problem is not None and not found:
        raise problem
    return found


def images_with_masks(root: Path, key: str, count: int, seed: int, size: int) -> list[Path]:
    """At most ``count`` images of a dataset whose mask divides the image, drawn with ``seed``.

    Raises:
        UndividedError: no such mask.
        UserError: the dataset is not there, or has no masks.
    """
    cls = by_key()[key]
    folder = root / cls.dataset_dir
    if not (folder / MASKS).is_dir():
        raise UserError(f"{folder} has no folder {MASKS}: only generated data have them (python -m datasets.phantom)")
    images = find_images([folder / cls.dataset_dir])
    random.Random(f"explain/{seed}/{key}").shuffle(images)
    chosen = []
    for path in images:
        masked = mask_path(path)
        if masked and is_informative(read_mask(masked, size)):
            chosen.append(path)
        if len(chosen) == count:
            break
    if not chosen:
        raise UndividedError(f"no mask of {folder} divides its image: there is nothing to measure")
    return chosen


def zero_vector_effect(
    backbone: VisionLanguageBackbone,
    cfg: CfgNode,
    prompt: VisualPrompt,
    root: Path,
    keys: Sequence[str],
    *,
    kinds: Sequence[str] = ATTENTION_MAPS,
    count: int = 40,
    seed: int = 1,
) -> list[Effect]:
    """How much of the attention lies on the lesion with ``prompt`` among the patches and without it.

    Args:
        cfg: its INPUT section gives the test transform.
        root: of generated datasets.
        keys: of datasets.
        count: images per dataset.

    Raises:
        UserError: data or masks are missing, fewer than two images asked for, or a map that asks for a class.
    """
    if count < 2:
        raise UserError(f"--count is {count}: an interval over images needs 2 or more")
    for kind in kinds:
        if kind not in ATTENTION_MAPS:
            raise UserError(f'the table compares attention, which asks for no class: {", ".join(ATTENTION_MAPS)}, not "{kind}"')
    transform, pixels = build_transform(cfg, is_train=False), PixelSettings.from_cfg(cfg)
    effects = []
    for key in tqdm(keys, desc="datasets", disable=None, leave=False):
        paths = images_with_masks(root, key, count, seed, backbone.image_size)
        found: dict[str, list[Shift]] = {kind: [] for kind in kinds}
        for start in range(0, len(paths), BATCH_SIZE):
            part = paths[start : start + BATCH_SIZE]
            images = torch.stack([transform(read_image(str(path), pixels)) for path in part]).to(backbone.device)
            plain, prompted = (attention_maps(kinds, backbone, images, one) for one in (None, prompt))
            for kind in kinds:
                shares = prompted[kind].prompt_share.tolist()
                rows = zip(part, plain[kind].grid, prompted[kind].grid, shares, strict=True)
                found[kind] += [measure(path, kind, *rest, backbone.image_size, overwritten(prompt)) for path, *rest in rows]
        effects += [effect(key, kind, shifts) for kind, shifts in found.items()]
    return effects


def effect(key: str, kind: str, shifts: Sequence[Shift]) -> Effect:
    """The mean over a dataset's images, all of which have a mask."""
    without, prompted, area, share = (
        [100 * getattr(one, field) for one in shifts]
        for field in ("inside_without", "inside_with", "lesion_area", "prompt_share")
    )
    differences = [after - before for before, after in zip(without, prompted, strict=True)]
    means = mean(area), mean(without), mean(prompted), mean(differences)
    return Effect(key, kind, len(shifts), *means, ci95(differences), mean(share))
