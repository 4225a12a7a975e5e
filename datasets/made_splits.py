"""Splits of labelled images that come without a split file: parts that are given, the others drawn, seeded."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dassl.utils import IMAGE_SUFFIXES, UserError
from datasets.class_names import Classes, classes_of
from datasets.grouped import check_classes, group_name, groups_to_parts
from datasets.never_data import LeftOut, data_folders, image_files
from datasets.splits import PARTS, Split

SHARES = {"train": 0.5, "val": 0.2, "test": 0.3}
PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# words behind a part's name in the name of a folder: training_set, Test images
_PART_FOLDER = re.compile(rf"({'|'.join(PART_NAMES)})[ _-]?(data|dataset|set|split|folder|images?|imgs?|img)?", re.IGNORECASE)


def part_of(folder: str) -> str:
    """The part of the split that a folder of this name holds; "" where it is no such name."""
    match = _PART_FOLDER.fullmatch(folder)
    return PART_NAMES[match[1].lower()] if match else ""


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes:
        path: below the image folder, with "/".
        key: what its class is called on disk: a folder's name, or a label in a table.
        part: of the split that it belongs to; "" leaves that to a draw.
        group: images of one group (a patient's, a slide's) are drawn into one part; "" is a group of its own.
    """

    path: str
    key: str
    part: str = ""
    group: str = ""


def make_split(images: Path, classnames: Sequence[str], seed: int) -> Split:
    """50/20/30 per class, seeded, from the class folders of a published dataset; labels follow ``classnames``.

    Raises:
        UserError: no class folders, or a class with fewer than three images.
    """
    left_out = LeftOut()
    folders = data_folders(images)
    if not folders:
        raise UserError(f"{images} holds no class folders")
    classes, _ = classes_of([folder.name for folder in folders], classnames, (), where=str(images))
    samples = [
        Sample(path.relative_to(images).as_posix(), folder.name)
        for folder in folders
        if folder.name in classes
        for path in image_files(folder, IMAGE_SUFFIXES, left_out)
    ]
    return split_of(samples, classes, seed, where=str(images))[0]


def split_of(samples: Sequence[Sample], classes: Classes, seed: int, where: str) -> tuple[Split, list[str]]:
    """The split of ``samples``, and what is to be said of how it was made.

    Parts that no sample is given to are drawn from those without a part, or from the training part, in the proportions
    50/20/30.

    Raises:
        UserError: a class with too few images to draw from, or without images for training; no images for training.
    """
    given = {sample.part for sample in samples if sample.key in classes and sample.part}
    if not given:
        wanted, source, notes = PARTS, "", []
    elif "train" not in given:
        raise UserError(f"{where} has no images for training, only for {' and '.join(sorted(given))}")
    else:
        wanted, source = tuple(part for part in PARTS if part == "train" or part not in given), "train"
        notes = [f"parts as given: {_counted(samples, classes)}"]
        if len(wanted) > 1:
            proportion = "/".join(f"{SHARES[part] * 100:.0f}" for part in wanted)
            notes.append(f"{' and '.join(wanted[1:])} drawn from the training images, {proportion} per class, seed {seed}")
    if len(wanted) > 1:
        samples = _drawn(samples, classes, wanted, source, seed, where)
    if any(sample.group for sample in samples):
        notes += _of_groups(samples, classes, drawn=len(wanted) > 1)
    split: Split = {part: [] for part in PARTS}
    by_key: dict[str, list[Sample]] = {key: [] for key in classes}
    for sample in samples:
        by_key.get(sample.key, []).append(sample)
    for key, (label, name) in sorted(classes.items(), key=lambda pair: pair[1][0]):
        own = by_key[key]
        for sample in own:
            split[sample.part].append((sample.path, label, name))
        absent = [part for part in PARTS if all(sample.part != part for sample in own)]
        if "train" in absent:
            raise UserError(f'{where} has no training images of the class "{name}"')
        notes += [f'no {part} images of the class "{name}"' for part in absent]
    return split, notes


def _counted(samples: Iterable[Sample], classes: Classes) -> str:
    counts = Counter(sample.part for sample in samples if sample.key in classes)
    return ", ".join(f"{counts[part]} {part}" for part in PARTS if counts[part])


def _drawn(
    samples: Sequence[Sample], classes: Classes, wanted: Sequence[str], source: str, seed: int, where: str
) -> list[Sample]:
    """All samples with a part each: those of the part ``source`` are drawn anew into the ``wanted`` ones."""
    kept = [sample for sample in samples if sample.part != source]
    pool = [sample for sample in samples if sample.part == source and sample.key in classes]
    counts = Counter(sample.key for sample in pool)
    for key in classes:
        if source and not counts[key]:
            raise UserError(f'{where} has no training images of the class "{classes[key][1]}"')
        if counts[key] < len(wanted):
            what = f"{'training ' if source else ''}images"
            raise UserError(f"{where}: {key} holds {counts[key]} {what}; a split needs at least {len(wanted)} per class")
    if any(sample.group for sample in pool):
        return kept + _by_groups(pool, classes, wanted, seed, where)
    for key, (_, name) in classes.items():
        own = [sample for sample in pool if sample.key == key]
        random.Random(f"split/{seed}/{name}").shuffle(own)
        sizes = _sizes(len(own), wanted)
        parts = [part for part, size in zip(wanted, sizes, strict=True) for _ in range(size)]
        kept += [replace(sample, part=part) for sample, part in zip(own, parts, strict=True)]
    return kept


def _sizes(count: int, wanted: Sequence[str]) -> list[int]:
    """How many of ``count`` images each part gets: at least one, the last part the rest."""
    whole = sum(SHARES[part] for part in wanted)
    sizes: list[int] = []
    for left, part in zip(range(len(wanted) - 1, 0, -1), wanted, strict=False):
        sizes.append(min(max(1, round(count * SHARES[part] / whole)), count - sum(sizes) - left))
    return [*sizes, count - sum(sizes)]


def _by_groups(pool: Sequence[Sample], classes: Classes, wanted: Sequence[str], seed: int, where: str) -> list[Sample]:
    """Whole groups into parts.

    Raises:
        UserError: the groups are too few or too large to give every class images for training and for the last part.
    """
    groups: dict[str, list[Sample]] = {}
    for sample in pool:
        groups.setdefault(group_name(sample.group, sample.path), []).append(sample)
    whole = sum(SHARES[part] for part in wanted)
    total = Counter(sample.key for sample in pool)
    targets = {(part, key): total[key] * SHARES[part] / whole for part in wanted for key in total}
    chosen = groups_to_parts({name: Counter(sample.key for sample in own) for name, own in groups.items()}, targets, seed)
    drawn = [replace(sample, part=chosen[name]) for name, own in groups.items() for sample in own]
    names = {key: name for key, (_, name) in classes.items()}
    check_classes({(sample.part, sample.key) for sample in drawn}, names, (wanted[0], wanted[-1]), where)
    return drawn


def _of_groups(samples: Sequence[Sample], classes: Classes, drawn: bool) -> list[str]:
    """How many groups there are, and how many have images in more than one part."""
    parts: dict[str, set[str]] = {}
    for sample in samples:
        if sample.group and sample.key in classes:
            parts.setdefault(sample.group, set()).add(sample.part)
    torn = sum(len(found) > 1 for found in parts.values())
    said = [f"{len(parts)} groups, each whole in one part"] if drawn and not torn else []
    return said + ([f"{torn} of {len(parts)} groups have images in more than one part of the split"] if torn else [])
