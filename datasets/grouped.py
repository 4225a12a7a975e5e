"""Splits in which no group (a patient's images, a slide's tiles) is in two parts: whole groups are drawn, seeded.

scikit-learn's ``StratifiedGroupKFold`` makes folds of equal size; parts of 50/20/30 are then unions of ten folds. With few or
uneven groups, which is where it matters, the unions miss: of 10 invented slides with 8 tissues it put 12 to 20 % of all tiles
too many or too few into a part, :func:`groups_to_parts` 3 to 4 %; of 40 patients with up to 60 images 22 to 24 % against 3 %;
of 4,100 patients with one or two images each both hit the sizes to 0.02 %, in 2.5 s against 0.04 s (docs/DATASETS.md). So
groups are drawn here by one function of our own.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

from dassl.utils import UserError
from datasets.splits import PARTS, Row, Split

GROUPED = "grouped"  # DATASET.SPLIT


def groups_to_parts(
    groups: Mapping[str, Mapping[Hashable, int]], wanted: Mapping[tuple[str, Hashable], float], seed: int
) -> dict[str, str]:
    """A part of the split for each group, so that every part has about as many images of each class as it should.

    Groups go one by one, the large ones first (their order is drawn by ``seed``: a size counts between once and twice), each
    to the part where it lessens the squared misses most.

    Args:
        groups: images of each class, by group.
        wanted: images by part and class.
    """
    draw = random.Random(f"split/{seed}/groups")
    weight = {name: sum(groups[name].values()) * (1 + draw.random()) for name in sorted(groups)}
    parts = list(dict.fromkeys(part for part, _ in wanted))
    have: Counter[tuple[str, Hashable]] = Counter()

    def more_missed(part: str, own: Mapping[Hashable, int]) -> float:
        # (have + n - want)² - (have - want)², in units of what is wanted
        return sum(n * (n + 2 * (have[part, key] - wanted[part, key])) / max(wanted[part, key], 1e-9) for key, n in own.items())

    chosen = {}
    for name in sorted(weight, key=lambda name: (-weight[name], name)):
        own = groups[name]
        chosen[name] = min(parts, key=lambda part: more_missed(part, own))
        have.update({(chosen[name], key): n for key, n in own.items()})
    return chosen


def regrouped(split: Split, groups: Mapping[str, str], units: str, seed: int, where: str) -> tuple[Split, list[str]]:
    """The images of a split in new parts of about the same sizes, whole groups in one part; and what is to be said of it.

    Args:
        groups: name of the group by path; an image without one is a group of its own.
        units: what groups are, in the plural: "slides".

    Raises:
        UserError: the groups are too few or too large to give every class images for training and test.
    """
    rows = sorted({row for part in PARTS for row in split[part]}, key=lambda row: (row[1], row[0]))
    members: dict[str, list[Row]] = {}
    for row in rows:
        members.setdefault(group_name(groups.get(row[0], ""), row[0]), []).append(row)
    names = {label: name for _, label, name in rows}
    before = Counter((part, label) for part in PARTS for _, label, _ in split[part])
    wanted = {(part, label): before[part, label] for part in PARTS if split[part] for label in names}
    chosen = groups_to_parts({name: Counter(row[1] for row in own) for name, own in members.items()}, wanted, seed)
    part_of = {row: chosen[name] for name, own in members.items() for row in own}
    new: Split = {part: [row for row in rows if part_of[row] == part] for part in PARTS}
    check_classes({(part, row[1]) for part in PARTS for row in new[part]}, names, ("train", "test"), where)
    lone = sum(1 for row in rows if not groups.get(row[0]))
    sizes = ", ".join(f"{len(new[part])} {part} (for {len(split[part])})" for part in PARTS if split[part])
    notes = [f"split by groups: {len(members) - lone} {units}, each whole in one part, drawn by seed {seed}: {sizes}"]
    return new, notes + ([f"{lone} of {len(rows)} images are of none of the {units}: each was drawn alone"] if lone else [])


def group_name(group: str, path: str) -> str:
    """A group's name among those of images without one."""
    return f"g/{group}" if group else f"p/{path}"


def check_classes(there: set[tuple[str, Hashable]], names: Mapping[Hashable, str], parts: Sequence[str], where: str) -> None:
    """Raise where a class has no image in one of these parts.

    Raises:
        UserError: with the class and the part.
    """
    for key, name in names.items():
        for part in parts:
            if (part, key) not in there:
                raise UserError(
                    f'{where}: the groups leave no {part} images of the class "{name}": give a split with them, or try another '
                    "DATASET.SPLIT_SEED"
                )
