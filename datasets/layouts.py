"""Own images in folders: which folders are classes, which are parts of a split, and which images of a class are meant."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from yacs.config import CfgNode

from dassl.utils import IMAGE_SUFFIXES, UserError
from datasets.class_names import plain
from datasets.made_splits import Sample, part_of
from datasets.never_data import LeftOut, data_folders, image_files

# Names of folders with pictures that were made from the images: no images of a class
MADE_FROM = re.compile(
    r"(ground.?truth|gt|(seg\w*|mask|label|annot\w*|contour|overlay|heat.?map|outline)s?)(.?(mask|image|img|map|file)s?)?"
)
MADE = r"(?P<word>masks?|seg|segmentation|label|gt|overlay|annotation)"
MADE_FILE = re.compile(rf"(?P<of>.+?)[ ._-]?{MADE}([ _-]?\d+)?", re.IGNORECASE)  # x_mask, x_mask_1
FILE_MADE = re.compile(rf"(?P<folder>(.*/)?){MADE}[ ._-](?P<of>[^/]+)", re.IGNORECASE)  # mask_x


def folder_samples(folder: Path, own: CfgNode, left_out: LeftOut) -> tuple[list[Sample], list[str]]:
    """The images of class folders, with their part where folders of parts lie above; and what is to be said of it.

    Args:
        own: the section DATASET.
        left_out: counts what is no data.

    Raises:
        UserError: no class folders, or a layout that can be read in two ways: the message names the option that decides.
    """
    files = [path.relative_to(folder) for path in image_files(folder, IMAGE_SUFFIXES, left_out)]
    tops = [top.name for top in data_folders(folder)]
    paths, notes = chosen([PurePosixPath(path.as_posix()) for path in files], tops, own, folder)
    loose = [path for path in paths if len(path.parts) == 1]
    deep = [path for path in paths if len(path.parts) > 1]
    tops = [top for top in tops if not any(matches(PurePosixPath(top), glob) for glob in own.EXCLUDE)]
    if own.INCLUDE:
        tops = [top for top in tops if any(path.parts[0] == top for path in deep)]
    if not tops:
        raise UserError(
            f"{folder} holds no class folders{_table_hint(folder)}" + (f" ({len(loose)} images lie in it)" if loose else "")
        )
    if loose:
        notes.append(f"{len(loose)} images beside the folders are left out, first {loose[0]}")
    parts = parts_of(tops, deep, own, folder)
    if not parts:
        _refuse_wrapper(tops, deep, own, folder)
        _refuse_made_tops(tops, own, folder)
        by_key = {top: [path for path in deep if path.parts[0] == top] for top in tops}
        check_sub_folders({key: [path.relative_to(key) for path in own_] for key, own_ in by_key.items()}, own, folder, notes)
        if any(len(path.parts) > 2 for path in deep) and not own.GROUP_BY:
            notes.append(
                "if sub-folders are patients: DATASET.GROUP_BY '^[^/]+/([^/]+)/' with DATASET.SPLIT grouped keeps them whole"
            )
        _refuse_empty(by_key, own, folder)
        return [Sample(str(path), key) for key, paths in by_key.items() for path in paths], notes
    notes.append("folders as split parts: " + ", ".join(f"{top} = {part}" for top, part in parts.items()))
    return _with_parts(parts, deep, own, folder, notes), notes


def _table_hint(folder: Path) -> str:
    """Words on a table that lies in the folder; empty where there is none."""
    csvs = sorted(path.name for path in folder.glob("*.csv"))
    return f"; is {csvs[0]} a table of the images? DATASET.CSV {csvs[0]}" if csvs else ""


def _with_parts(
    parts: Mapping[str, str], deep: Sequence[PurePosixPath], own: CfgNode, folder: Path, notes: list[str]
) -> list[Sample]:
    spelt: dict[str, str] = {}  # a class may be spelt "no_tumor" in one part and "No tumor" in another
    samples, below = [], {}
    for top, part in parts.items():
        for path in (path for path in deep if path.parts[0] == top):
            if len(path.parts) == 2:
                raise UserError(
                    f"{folder / top} holds images outside class folders, first {path.name}: sort them into class folders, "
                    f'or leave them out, DATASET.EXCLUDE ["{top}"]{_table_hint(folder)}'
                )
            spelt.setdefault(plain(path.parts[1]), path.parts[1])
            samples.append(Sample(str(path), spelt[plain(path.parts[1])], part))
            below.setdefault(f"{top}/{path.parts[1]}", []).append(path.relative_to(*path.parts[:2]))
    check_sub_folders(below, own, folder, notes)
    return sorted(samples, key=lambda sample: sample.key)  # stable: labels in the order of the names


def parts_of(tops: Sequence[str], deep: Sequence[PurePosixPath], own: CfgNode, folder: Path) -> dict[str, str]:
    """Part of the split by folder, where the folders are parts and not classes; else empty.

    Raises:
        UserError: parts beside other folders, or two folders of one part.
    """
    named = {plain(str(name)) for name in (*own.CLASS_FOLDERS, *own.CLASSNAMES)}
    found = {top: part_of(top) for top in tops if part_of(top) and plain(top) not in named}
    others = [top for top in tops if top not in found]
    flat = {path.parts[0] for path in deep if len(path.parts) == 2}
    if not found or (others and flat.issuperset(found)):  # a folder of images called "test" among classes is one of them
        return {}
    if others:
        quoted = ", ".join(f'"{top}"' for top in others)
        raise UserError(
            f"{folder} has {', '.join(found)}, which are parts of a split, beside {', '.join(others)}: leave these out, "
            f"DATASET.EXCLUDE [{quoted}], or name all classes in DATASET.CLASSNAMES"
        )
    if "train" not in found.values():
        raise UserError(f"{folder} has {' and '.join(found)} and no folder for training: rename one to train")
    twice = [part for part, count in Counter(found.values()).items() if count > 1]
    if twice:
        both = [top for top, part in found.items() if part == twice[0]]
        raise UserError(f'{folder} has {" and ".join(both)} for one part: leave one out, DATASET.EXCLUDE ["{both[1]}"]')
    return found


def chosen(
    paths: Sequence[PurePosixPath], tops: Sequence[str], own: CfgNode, folder: Path
) -> tuple[list[PurePosixPath], list[str]]:
    """The paths that DATASET.INCLUDE and EXCLUDE leave, and what they left out.

    Raises:
        UserError: a glob that fits no image, or none left.
    """
    for key in ("INCLUDE", "EXCLUDE"):
        for glob in own[key]:
            if not any(matches(path, glob) for path in (*paths, *map(PurePosixPath, tops))):
                raise UserError(f'DATASET.{key} "{glob}" fits no image below {folder}')
    kept = [path for path in paths if not own.INCLUDE or any(matches(path, glob) for glob in own.INCLUDE)]
    kept = [path for path in kept if not any(matches(path, glob) for glob in own.EXCLUDE)]
    if paths and not kept:
        raise UserError(f"DATASET.INCLUDE and EXCLUDE leave none of the {len(paths)} images below {folder}")
    gone = len(paths) - len(kept)
    return kept, [f"{gone} images left out by DATASET.INCLUDE and EXCLUDE"] if gone else []


def matches(path: PurePosixPath, glob: object) -> bool:
    """A glob with "/" is held against the whole path, one without against each part of it; "*" matches "/" too."""
    pattern = str(glob).strip("/")
    return fnmatchcase(str(path), pattern) if "/" in pattern else any(fnmatchcase(part, pattern) for part in path.parts)


def check_sub_folders(classes: Mapping[str, Sequence[PurePosixPath]], own: CfgNode, folder: Path, notes: list[str]) -> None:
    """Refuse a class folder in which several kinds of pictures lie side by side, images/ and masks/ say.

    Sub-folders of one depth that are each the class's own (patients, slides) hold its images. ``classes`` has paths below
    the class folder.

    Raises:
        UserError: with the sub-folders, and the options that choose.
    """
    if own.INCLUDE:
        return
    folders = {key: Counter(str(path.parent) for path in paths) for key, paths in classes.items()}
    seen = Counter(name for found in folders.values() if len(found) > 1 for name in found)
    for key, found in folders.items():
        depths = {0 if name == "." else name.count("/") + 1 for name in found}
        kinds = len(depths) > 1 or any(seen[name] > 1 or _made_from(name) for name in found)
        if len(found) > 1 and kinds:
            shown = ", ".join(f"{'the folder itself' if n == '.' else n} ({c})" for n, c in sorted(found.items())[:6])
            names = [PurePosixPath(name).name for name in sorted(found) if name != "."]
            bad = next((name for name in names if MADE_FROM.fullmatch(name.lower())), names[-1])
            good = next((name for name in names if name != bad), "*")
            alike = len(folders) > 1 and len({frozenset(own_) for own_ in folders.values()}) == 1 and not _made_from(bad)
            hint = "; if these are the classes, list the images in a table, DATASET.CSV" if alike else ""
            raise UserError(
                f"{folder / key} holds images in several places: {shown}. Name what is meant, DATASET.INCLUDE "
                f'["{good}"], or what is not, DATASET.EXCLUDE ["{bad}"]; INCLUDE ["*"] takes all{hint}'
            )
        if len(found) > 1:
            notes.append(f"{key}: images of {len(found)} sub-folders are taken")
        _refuse_made_files(classes[key], folder / key)


def _made_from(name: str) -> bool:
    return any(MADE_FROM.fullmatch(part.lower()) for part in PurePosixPath(name).parts)


def _refuse_made_files(paths: Sequence[PurePosixPath], where: Path) -> None:
    """Refuse ``x_mask.png`` beside ``x.png``."""
    stems = {_stem(path) for path in paths}
    made = {path: word for path in paths if (word := _made_of(_stem(path), stems))}
    if made:
        first, word = next(iter(made.items()))
        raise UserError(
            f"{where} holds {len(made)} pictures made from others, {first.name} say: leave them out, "
            f'DATASET.EXCLUDE ["*{word}*"], or take all, DATASET.INCLUDE ["*"]'
        )


def _stem(path: PurePosixPath) -> str:
    return str(path)[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else str(path.with_suffix(""))


def _made_of(stem: str, stems: Collection[str]) -> str:
    """The word that says so, where this is a picture made from another of ``stems``; else ""."""
    after, before = MADE_FILE.fullmatch(stem), FILE_MADE.fullmatch(stem)
    if after and after["of"] in stems:
        return after["word"]
    return before["word"] if before and before["folder"] + before["of"] in stems else ""


def _refuse_wrapper(tops: Sequence[str], deep: Sequence[PurePosixPath], own: CfgNode, folder: Path) -> None:
    """Refuse a folder that holds nothing but the folder of the classes, or a folder of that."""
    if len(tops) != 1 or not deep or own.CLASSNAMES:
        return
    outer = PurePosixPath(os.path.commonpath([path.parent for path in deep]))
    inner = sorted({path.relative_to(outer).parts[0] for path in deep})
    if all(path.parent != outer for path in deep):
        raise UserError(
            f"{folder} holds one folder, {outer}, with folders in it ({', '.join(inner[:6])}): if these are the classes, "
            f"name {folder / outer} in DATASET.FOLDER"
        )


def _refuse_made_tops(tops: Sequence[str], own: CfgNode, folder: Path) -> None:
    """Refuse folders of masks or labels where the classes are, images/ beside masks/ say."""
    named = {plain(str(name)) for name in (*own.CLASS_FOLDERS, *own.CLASSNAMES, *own.INCLUDE)}
    made = [top for top in tops if MADE_FROM.fullmatch(top.lower()) and plain(top) not in named]
    if made and "*" not in own.INCLUDE:
        others = ", ".join(top for top in tops if top not in made) or "nothing else"
        quoted = ", ".join(f'"{top}"' for top in made)
        raise UserError(
            f"{folder} holds {', '.join(made)} beside {others}: if these are pictures made from the images, leave them out, "
            f"DATASET.EXCLUDE [{quoted}]; if all are classes, name them in DATASET.CLASSNAMES"
        )


def _refuse_empty(by_key: Mapping[str, Sequence[PurePosixPath]], own: CfgNode, folder: Path) -> None:
    """Refuse a folder without images, unless the class names leave it out."""
    for key, paths in by_key.items():
        if not paths and not own.CLASSNAMES:
            raise UserError(f'{folder / key} holds 0 images: if it is no class, DATASET.EXCLUDE ["{key}"]')
