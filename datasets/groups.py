"""Which images belong together: a patient's, a slide's, an eye's, a sequence's; by their names, or by a table.

A split that divides a group shows a model at test what it saw in training. ``DATASET.GROUP_BY`` names the groups of any
dataset; of the published ones ``grouping`` in their class does, where their file names tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from yacs.config import CfgNode

from dassl.utils import UserError
from datasets.places import existing
from datasets.tables import group_table

STRETCHES = 20  # into how many each series of numbers is cut, where a split is made by groups
HOW = (
    "DATASET.GROUP_BY takes a regular expression on the path below the image folder, whose groups name the group "
    '("(\\d+)_(?:left|right)"), or a CSV file with a path and a group'
)


@dataclass(frozen=True)
class Grouping:
    """How the file names of a dataset tell which images belong together.

    Attributes:
        pattern: a regular expression, searched in the path below the image folder. The text of its group ``group``, else of
            all its groups, is the group's name. A group called ``number`` is none of these: images of one name whose
            numbers follow each other are neighbours, slices or frames, and no more is known of them. "": names tell nothing.
        what: a group is: "patient"; of numbers, what neighbours are: "slice".
        why: names tell nothing, or what there is to know.
    """

    pattern: str
    what: str = "group"
    why: str = ""


NO_GROUPS = Grouping("", why="no rule for its file names ships with it")


@dataclass(frozen=True)
class Groups:
    """The groups of some images.

    Attributes:
        of: the group's name by path; images without one are left out.
        numbers: place in a series by path, where groups are series of neighbours.
        what: a group is, in a word.
        source: where they come from, in words.
        notes: what a user should know of them.
    """

    of: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)
    what: str = "group"
    source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def units(self) -> str:
        """What :meth:`whole` keeps together, in the plural."""
        return f"stretches of following {self.what}s" if self.numbers else f"{self.what}s"

    def whole(self) -> dict[str, str]:
        """What a split may not divide, by path: the groups; of series, :data:`STRETCHES` runs of following numbers each."""
        if not self.numbers:
            return dict(self.of)
        series: dict[str, list[int]] = {}
        for path, number in self.numbers.items():
            series.setdefault(self.of[path], []).append(number)
        place = {(name, number): at * STRETCHES // len(set(own)) for name, own in series.items()
                 for at, number in enumerate(sorted(set(own)))}  # fmt: skip
        return {path: f"{self.of[path]}/{place[self.of[path], number]}" for path, number in self.numbers.items()}


def groups_of(
    paths: Sequence[str], own: CfgNode, published: Grouping, table: Mapping[str, str], images: Path, root: Path
) -> Groups:
    """The groups of a dataset's images: by DATASET.GROUP_BY, by the table that lists the images, or as published.

    Args:
        paths: below the image folder, with "/".
        own: the section DATASET.
        published: of the dataset's class.
        table: group by path, of a table's own column.
        images: the image folder; a relative GROUP_BY starts here, at ``root`` or at the working folder.

    Raises:
        UserError: GROUP_BY is no regular expression with a group, no readable table, or fits no image.
    """
    given = own.GROUP_BY.strip()
    if given.lower().endswith((".csv", ".tsv")):
        path = existing(given, root, "DATASET.GROUP_BY", (images, images.parent), "file")
        found, notes = by_table(paths, path, own)
        groups = Groups(found, what="group", source=path.name, notes=tuple(notes))
    elif given:
        groups = by_pattern(paths, Grouping(given), f"DATASET.GROUP_BY {given}")
    elif any(table.values()):
        return Groups({path: table[path] for path in paths if table.get(path)}, source="the table's group column")
    else:
        return by_pattern(paths, published, "the file names") if published.pattern else Groups(notes=(published.why,))
    if not groups.of:
        raise UserError(f"DATASET.GROUP_BY {given} fits none of the {len(paths)} images in {images}, as {paths[0]}")
    return groups


def by_pattern(paths: Sequence[str], grouping: Grouping, source: str) -> Groups:
    """The groups that a regular expression finds in the paths.

    Raises:
        UserError: it is none, or has no group.
    """
    try:
        pattern = re.compile(grouping.pattern)
    except re.error as error:
        raise UserError(f"DATASET.GROUP_BY {grouping.pattern} is no regular expression ({error}). {HOW}") from error
    names = [name for name in pattern.groupindex if name != "number"]
    if not pattern.groups or (names and "group" not in names):
        raise UserError(f"DATASET.GROUP_BY {grouping.pattern} has no group (…) that names the group. {HOW}")
    number = pattern.groupindex.get("number")
    places = [pattern.groupindex["group"]] if names else [at for at in range(1, pattern.groups + 1) if at != number]
    of, numbers = {}, {}
    for path in paths:
        match = pattern.search(path)
        if match is None:
            continue
        if number and not (match[number] or "").isdecimal():
            raise UserError(f'DATASET.GROUP_BY {grouping.pattern}: the group "number" fits "{match[number]}" in {path}')
        name = " ".join(match[place] or "" for place in places).strip() if places else "all"
        if name:
            of[path] = name
        if name and number:
            numbers[path] = int(match[number])
    return Groups(of, numbers, grouping.what, source, (grouping.why,) if grouping.why else ())


def by_table(paths: Sequence[str], table: Path, own: CfgNode) -> tuple[dict[str, str], list[str]]:
    """Group by path; a table may leave out suffix and folders where the name is enough. And what is to be said.

    Raises:
        UserError: the table cannot be read, or a name without folder fits several images.
    """
    listed = group_table(table, own)
    found: dict[str, str] = {}
    used: dict[str, str] = {}
    for path in paths:
        pure = PurePosixPath(path)
        for name in dict.fromkeys((path, str(pure.with_suffix("")), pure.name, pure.stem)):
            if name not in listed:
                continue
            twin = used.setdefault(name, path)
            if twin != path:
                raise UserError(f'{table}: "{name}" is both {twin} and {path}: write paths from the image folder')
            if listed[name]:
                found[path] = listed[name]
            break
    notes = [f"{table.name} says nothing of {len(paths) - len(used)} images"] if len(used) < len(paths) else []
    spare = len(listed) - len(used)
    return found, notes + ([f"{spare} rows of {table.name} fit no image"] if spare else [])
