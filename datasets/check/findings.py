"""What the images and labels of a dataset say of its split: files that fail, labels that disagree, twins, groups that leak."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from datasets.check.files import Look
from datasets.check.twins import Twins, near_twins, same_pixels
from datasets.class_names import plain
from datasets.groups import Groups
from datasets.splits import PARTS, Split

TRAINED, SEEN = {"train"}, {"train", "val"}


@dataclass(frozen=True)
class Finding:
    """Something that the check found.

    Attributes:
        kind: in a word or two, always the same for the same thing.
        matters: numbers that rest on this dataset are wrong or too good; the others are to be known.
        said: in words.
        items: each ``{"paths": […], "why": "…"}`` or ``{"group": …, "parts": {…}}``.
    """

    kind: str
    matters: bool
    said: str
    items: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Listed:
    """What a split says of the images: part, label and class of each path, the first where it says several things.

    Attributes:
        part, label: by path.
        names: class name by label.
        counts: images by part and label.
        again: what else is said of a path, in words.
    """

    part: Mapping[str, str]
    label: Mapping[str, int]
    names: Mapping[int, str]
    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    again: tuple[tuple[str, str], ...] = ()


def listed(split: Split) -> Listed:
    """The rows of a split by path."""
    part_of: dict[str, str] = {}
    label_of: dict[str, int] = {}
    names: dict[int, str] = {}
    counts: Counter[tuple[str, int]] = Counter()
    again = []
    for part in PARTS:
        for path, label, name in split[part]:
            names[label] = name
            counts[part, label] += 1
            if path in part_of:
                first = f"{part_of[path]}, {names[label_of[path]]}"
                again.append((path, f"once as {first}, once as {part}, {name}"))
            part_of.setdefault(path, part)
            label_of.setdefault(path, label)
    return Listed(part_of, label_of, dict(sorted(names.items())), counts, tuple(again))


def of_files(rows: Listed, looks: Sequence[Look], missing: Sequence[str], spare: Sequence[str]) -> list[Finding]:
    """Files that cannot be read, are not there, or are in no part of the split."""
    found = []
    bad = [one for one in looks if one.reason]
    if bad:
        counts = Counter(rows.part[one.path] for one in bad)
        items = tuple({"paths": [one.path], "why": one.reason} for one in bad)
        found.append(Finding("unreadable", True, f"{len(bad)} files cannot be read ({_by_part(counts)})", items))
    if missing:
        items = tuple({"paths": [path], "why": rows.part[path]} for path in missing)
        found.append(Finding("missing", True, f"{len(missing)} images of the split are not there", items))
    if spare:
        items = tuple({"paths": [path]} for path in spare)
        found.append(Finding("in no part", False, f"{len(spare)} images of the folder are in no part of the split", items))
    return found


def of_labels(rows: Listed) -> list[Finding]:
    """Labels that are given twice or against the folder's name, classes that a part lacks."""
    found = []
    if rows.again:
        items = tuple({"paths": [path], "why": why} for path, why in rows.again)
        found.append(Finding("listed twice", True, f"{len(items)} times the split lists an image again", items))
    known = {plain(name) for name in rows.names.values()}
    against = []
    for path, label in rows.label.items():
        folder = PurePosixPath(path).parent.name
        if plain(folder) in known and plain(folder) != plain(rows.names[label]):
            against.append({"paths": [path], "why": f"labelled {rows.names[label]}"})
    if against:
        said = f"{len(against)} images lie in the folder of one class and have the label of another"
        found.append(Finding("label against folder", True, said, tuple(against)))
    if list(rows.names) != list(range(len(rows.names))):
        found.append(Finding("labels", False, f"the labels are {list(rows.names)}, not 0 to {len(rows.names) - 1}"))
    if len(rows.names) < 2:
        found.append(Finding("one class", True, "there is one class only: nothing to tell apart"))
    for part in PARTS:
        lacking = [name for label, name in rows.names.items() if not rows.counts[part, label]]
        if lacking:
            found.append(Finding("class without images", False, f"no {part} images of {', '.join(lacking)}"))
    return found


def of_twins(rows: Listed, looks: Sequence[Look], title: str = "") -> list[Finding]:
    """Images that are there twice, exactly or nearly."""
    good = [one for one in looks if not one.reason]
    sets = []
    for own in same_pixels(good):
        why = "the same file" if len({one.file for one in own}) == 1 else "the same pixels in different files"
        sets.append(([one.path for one in own], why))
    near, flat = near_twins(good, title)
    pixels = {one.path: one.pixels for one in good}
    copies: dict[str, list[str]] = {}  # one image stands for all of its pixels there
    for one in good:
        copies.setdefault(one.pixels, []).append(one.path)
    pairs = [(copies[pixels[one.first]] + copies[pixels[one.second]], _alike(one)) for one in near]
    found = _twin_findings(rows, sets, "same image", "the same image")
    found += _twin_findings(rows, pairs, "near-duplicate", "nearly the same image")
    if flat:
        said = f"{flat} images are nearly of one grey level: not compared for near-duplicates"
        found.append(Finding("flat", False, said))
    return found


def _alike(twins: Twins) -> str:
    turned = f"{twins.how}, " if twins.how else ""
    return f"{turned}{twins.bits} of 256 bits differ, correlation {twins.correlation:.3f}"


def _twin_findings(rows: Listed, sets: Iterable[tuple[list[str], str]], kind: str, what: str) -> list[Finding]:
    """Sorted by what is wrong with each set of twins: under two labels, in two parts, or only there twice."""
    labels, parts, plain_ = [], [], []
    for paths, why in sets:
        item = {"paths": paths, "why": why}
        names = [rows.names[rows.label[path]] for path in paths]
        where = [rows.part[path] for path in paths]
        if len(set(names)) > 1:
            labels.append(item | {"why": f"{' / '.join(names)}; {why}"})
        if len(set(where)) > 1:
            parts.append(item | {"why": f"{' / '.join(where)}; {why}"})
        if len(set(names)) == len(set(where)) == 1:
            plain_.append(item)
    tested = {path for item in parts for path in item["paths"] if rows.part[path] == "test"
              and any(rows.part[other] == "train" for other in item["paths"])}  # fmt: skip
    found = []
    if labels:
        found.append(Finding(f"{kind} under two labels", True, f"{len(labels)} times {what} has two labels", tuple(labels)))
    if parts:
        said = f"{len(parts)} times {what} is in two parts of the split; {len(tested)} test images are in training too"
        found.append(Finding(f"{kind} in two parts", True, said, tuple(parts)))
    if plain_:
        said = f"{len(plain_)} times {what} is there again, in one part and class"
        found.append(Finding(f"{kind} again", False, said, tuple(plain_)))
    return found


def of_groups(rows: Listed, groups: Groups) -> list[Finding]:
    """Groups that the split divides; of neighbours by number, test images with a neighbour in another part."""
    if not groups.of:
        return []
    notes = [Finding("groups", False, note) for note in groups.notes]
    without = len(rows.part) - len(groups.of)
    if without:
        said = f"{without} of {len(rows.part)} images have no {groups.what} (by {groups.source})"
        notes.append(Finding("without group", False, said))
    if groups.numbers:
        return [*_neighbours(rows, groups), *notes]
    members: dict[str, Counter[str]] = {}
    for path, name in groups.of.items():
        members.setdefault(name, Counter())[rows.part[path]] += 1
    torn = {name: own for name, own in members.items() if len(own) > 1}
    if not torn:
        return [Finding("groups", False, f"{len(members)} {groups.what}s, each whole in one part (by {groups.source})"), *notes]
    trained, seen = (sum(own["test"] for own in torn.values() if any(own[part] for part in where)) for where in (TRAINED, SEEN))
    tested = sum(rows.part[path] == "test" for path in groups.of)
    said = f"{len(torn)} of {len(members)} {groups.what}s are in several parts: {_shared(groups, trained, seen, tested)}"
    items = tuple({"group": name, "parts": dict(own)} for name, own in sorted(torn.items()))
    return [Finding("group in several parts", True, said, items), *notes]


def _shared(groups: Groups, trained: int, seen: int, tested: int) -> str:
    what = groups.what
    if groups.numbers:
        said = f"of {tested} numbered test images {trained} have a neighbouring {what} in training, {seen} in training or"
        return f"{said} validation (by {groups.source})"
    said = f"of {tested} test images that have a {what}, {trained} share it with training, {seen} with training or validation"
    return f"{said} (by {groups.source})"


def _neighbours(rows: Listed, groups: Groups) -> list[Finding]:
    there: dict[tuple[str, int], set[str]] = {}
    for path, number in groups.numbers.items():
        there.setdefault((groups.of[path], number), set()).add(rows.part[path])
    trained, items = 0, []
    tested = [path for path in groups.numbers if rows.part[path] == "test"]
    for path in tested:
        name, number = groups.of[path], groups.numbers[path]
        near = {part for step in (-1, 1) for part in there.get((name, number + step), ())}
        trained += bool(near & TRAINED)
        if near & SEEN:
            items.append({"paths": [path], "why": f"{groups.what} {number} of {name}; next to {', '.join(sorted(near))}"})
    said = _shared(groups, trained, len(items), len(tested))
    return [Finding("neighbours in several parts", bool(items), said, tuple(items))]


def _by_part(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[part]} {part}" for part in PARTS if counts[part])


def missing_of(rows: Listed, images: Path) -> list[str]:
    """Paths of the split that are not there."""
    return [path for path in rows.part if not (images / path).is_file()]
