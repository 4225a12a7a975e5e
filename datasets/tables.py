"""Own images by a table: a CSV with a path, a label or class, and perhaps a split and a group per image."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path, PurePosixPath, PureWindowsPath

from yacs.config import CfgNode

from dassl.utils import IMAGE_SUFFIXES, UserError, read_text
from datasets.made_splits import PART_NAMES, Sample
from datasets.never_data import image_files, is_never_data

# What columns are usually called, in lower case, "_" for spaces; the first that a table has is taken
COLUMNS = {
    "PATH": (
        "path",
        "file",
        "filename",
        "file_name",
        "filepath",
        "file_path",
        "image",
        "image_path",
        "img",
        "image_id",
        "image_index",
        "id_code",
        "id",
    ),  # fmt: skip
    "LABEL": ("label", "target", "y"),
    "CLASS": ("class", "classname", "class_name", "diagnosis", "dx", "finding", "finding_labels", "category"),
    "SPLIT": ("split", "part", "subset"),
    "GROUP": ("group", "patient", "patient_id", "patientid", "subject", "subject_id", "slide", "lesion_id"),
}
MEDMNIST = ("SPLIT", "PATH", "LABEL")  # the columns of its export, which has no header
Rows = list[tuple[int, list[str]]]  # number of the line, cells


def of_medmnist(images: Path) -> Path | None:
    """``<folder>.csv`` beside a folder of loose images, if it is what MedMNIST's ``save`` writes there."""
    path = images.parent / f"{images.name}.csv"
    if not path.is_file() or any(entry.is_dir() and not is_never_data(entry.name) for entry in images.iterdir()):
        return None
    rows = _read(path)
    return path if rows and _is_medmnist(rows[0][1]) else None


def table_samples(path: Path, images: Path, own: CfgNode) -> tuple[list[Sample], list[str]]:
    """The images of a table, in the order that labels get; and what is to be said of it.

    Args:
        images: the folder that the paths count from.
        own: the section DATASET; CSV_PATH, CSV_LABEL, … name the columns.

    Raises:
        UserError: no such column, a row that cannot be read (with its line), an image twice.
    """
    rows = _read(path)
    if not rows:
        raise UserError(f"{path} is empty")
    width = len(rows[0][1])
    columns, rows, notes = _columns(path, rows, own)
    if not rows:
        raise UserError(f"{path} has a header and no rows")
    found: dict[str, Sample] = {}
    lines: dict[str, int] = {}
    labels: dict[str, str] = {}
    parts: set[bool] = set()
    below = _Below(path, images)
    for line, cells in rows:
        where = f"{path}, line {line}"
        if len(cells) > width and any(cell.strip() for cell in cells[width:]):
            raise UserError(
                f'{where}: {len(cells)} cells under {width} columns: a text that holds the divider needs quotes "…"'
            )
        row = {column: cells[place].strip() if place < len(cells) else "" for column, place in columns.items()}
        sample = Sample(below.of(row["PATH"], where), _key(row, labels, where), _part(row, where), row.get("GROUP", ""))
        if sample.path in lines:
            raise UserError(f"{where}: {sample.path} stands in line {lines[sample.path]} already")
        lines[sample.path], found[sample.path] = line, sample
        parts.add(bool(sample.part))
    if len(parts) > 1:
        raise UserError(f"{path}: some rows have a split and some have none: fill the column, or leave it out")
    if below.searched:
        notes = [*notes, f"{below.searched} images found by their names alone, in another folder or case than their row says"]
    found, more = _relabelled(found, own)
    keys = _ordered({sample.key for sample in found.values()}, labels)
    by_key: dict[str, list[Sample]] = {key: [] for key in keys}
    for sample in found.values():
        by_key[sample.key].append(sample)
    return [sample for key in keys for sample in by_key[key]], [f"images by {path.name}, {len(found)} rows", *notes, *more]


def group_table(path: Path, own: CfgNode) -> dict[str, str]:
    """Group by image of a table that DATASET.GROUP_BY names; an image is a path or a name, as the table has it, with "/".

    Args:
        own: the section DATASET; CSV_PATH and CSV_GROUP name the columns where they are not called as usual.

    Raises:
        UserError: no readable table, no such column, or an image twice with two groups.
    """
    rows = _read(path)
    head = [cell.strip() for cell in rows[0][1]] if rows else []
    places = {}
    for column in ("PATH", "GROUP"):
        usual = [name for name in (own[f"CSV_{column}"], *COLUMNS[column]) if name]
        name = next((name for wanted in usual for name in head if _usual(name) == _usual(wanted)), None)
        if name is None:
            said = f"its columns: {', '.join(head) or 'none'}"
            raise UserError(f"{path} has no column for the {column.lower()} (DATASET.CSV_{column} names it); {said}")
        places[column] = head.index(name)
    found: dict[str, str] = {}
    for line, cells in rows[1:]:
        name, group = (cells[place].strip() if place < len(cells) else "" for place in places.values())
        if found.setdefault(name.replace("\\", "/"), group) != group:
            raise UserError(f'{path}, line {line}: {name} is in the group "{group}" here and in "{found[name]}" before')
    return found


def _read(path: Path) -> Rows:
    try:
        text = read_text(path).removeprefix("\ufeff")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no readable CSV in UTF-8: {error}") from error
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter, strict=True)
        rows = [(reader.line_num, [cell.replace("\n", " ") for cell in cells]) for cells in reader]
        return [(line, cells) for line, cells in rows if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise UserError(f"{path} is no readable CSV: {error}") from error


def _usual(column: str) -> str:
    """The name of a column as :data:`COLUMNS` has it: "Patient ID" is "patient_id"."""
    return re.sub(r"[ -]+", "_", column.strip().lower())


def _is_medmnist(cells: Sequence[str]) -> bool:
    return len(cells) >= 3 and cells[0] in ("TRAIN", "VALIDATION", "TEST") and PurePosixPath(cells[1]).suffix != ""


def _columns(path: Path, rows: Rows, own: CfgNode) -> tuple[Mapping[str, int], Rows, list[str]]:
    """Place of each column, the rows without the header, and what is to be said.

    Raises:
        UserError: a column that is named and not there, or no path, or neither label nor class.
    """
    head = [cell.strip() for cell in rows[0][1]]
    if _is_medmnist(head) and not any(own[f"CSV_{column}"] for column in COLUMNS):
        wide = next((line for line, cells in rows if len(cells) != 3), None)
        if wide:
            raise UserError(f"{path}, line {wide}: several labels for one image, and a class is one label")
        return dict(zip(MEDMNIST, range(3), strict=True)), rows, ["MedMNIST's own table: split, file, label"]
    lower = [_usual(name) for name in head]
    places = {}
    for column, usual in COLUMNS.items():
        given = own[f"CSV_{column}"]
        if given and given not in head:
            raise UserError(f'{path} has no column "{given}" (DATASET.CSV_{column}); its columns: {", ".join(head)}')
        name = next((name for name in usual if name in lower), None)
        if given or name:
            places[column] = head.index(given) if given else lower.index(name)
    if own.CSV_LABEL and not own.CSV_CLASS:  # who names one means it, whatever else there is
        places.pop("CLASS", None)
    if own.CSV_CLASS and not own.CSV_LABEL:
        places.pop("LABEL", None)
    lacking = "path" if "PATH" not in places else "" if {"LABEL", "CLASS"} & set(places) else "label or class"
    if lacking:
        keys = "DATASET.CSV_PATH" if lacking == "path" else "DATASET.CSV_LABEL or CSV_CLASS"
        raise UserError(f"{path} has no column for the {lacking}: name it, {keys}; its columns: {', '.join(head)}")
    said = ", ".join(f"{column.lower()} = {head[place]}" for column, place in places.items())
    return places, rows[1:], [f"columns: {said}"]


class _Below:
    """Finds the images of a table below the image folder.

    Attributes:
        searched: images so far that lie elsewhere than their row says, found by their names.
    """

    def __init__(self, table: Path, images: Path) -> None:
        self.table, self.images, self.searched = table, images, 0

    def of(self, name: str, where: str) -> str:
        """The image's path below the image folder, with "/"; a name without suffix is completed, one without folder searched.

        Raises:
            UserError: no name, no such image or several, or one outside of the folder.
        """
        if not name:
            raise UserError(f"{where}: no path")
        path = name.replace("\\", "/")
        if PureWindowsPath(path).drive:
            raise UserError(f"{where}: {name} is a path on a Windows disk: write it from the image folder {self.images}")
        bases = (self.images, self.table.parent)
        full = next((place for base in bases for place in _spellings(base / path) if place.is_file()), None)
        if full is None:
            return self._searched(path, where)
        for spelt in (os.path.normpath(full), os.path.realpath(full)):  # the folder itself may be reached by a link
            below = os.path.relpath(spelt, self.images)
            if not below.startswith(".."):
                return PurePosixPath(below).as_posix()
        raise UserError(f"{where}: {name} lies outside of the image folder {self.images} (DATASET.FOLDER)")

    def _searched(self, name: str, where: str) -> str:
        found = [] if "/" in name else self._by_name.get(name.lower(), [])
        if len(found) > 1:
            raise UserError(f"{where}: {name} is both {found[0]} and {found[1]}: write the path from {self.images}")
        if not found:
            raise UserError(f"{where}: no image {name} in {self.images}, where paths start from (DATASET.FOLDER)")
        self.searched += 1
        return found[0]

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """Paths by name with and without suffix, in lower case."""
        found: dict[str, list[str]] = {}
        for path in image_files(self.images, IMAGE_SUFFIXES):
            name = path.name.lower()
            suffix = next(suffix for suffix in sorted(IMAGE_SUFFIXES, key=len, reverse=True) if name.endswith(suffix))
            for key in (name, name.removesuffix(suffix)):
                found.setdefault(key, []).append(path.relative_to(self.images).as_posix())
        return found


def _spellings(path: Path) -> list[Path]:
    if path.name.lower().endswith(IMAGE_SUFFIXES):
        return [path]
    suffixes = sorted(IMAGE_SUFFIXES)
    return [path, *(path.with_name(path.name + suffix) for suffix in (*suffixes, *map(str.upper, suffixes)))]


def _key(row: Mapping[str, str], labels: dict[str, str], where: str) -> str:
    """The row's class name, or its label where the table has no names; ``labels`` collects the label of each name.

    Raises:
        UserError: neither, or a class name with two labels.
    """
    label, name = row.get("LABEL", ""), row.get("CLASS", "")
    if "CLASS" not in row:
        name = label
    if not name or name.lower() == "nan":
        raise UserError(f"{where}: no {'class' if 'CLASS' in row else 'label'}")
    if "CLASS" in row and "LABEL" in row and labels.setdefault(name, label) != label:
        raise UserError(f'{where}: the class "{name}" has the label {label} here and {labels[name]} before')
    return name


def _part(row: Mapping[str, str], where: str) -> str:
    given = row.get("SPLIT", "")
    if given and given.lower() not in PART_NAMES:
        raise UserError(f'{where}: the split is "{given}", must be one of {", ".join(PART_NAMES)} (another column: CSV_SPLIT)')
    return PART_NAMES.get(given.lower(), "")


def _relabelled(found: dict[str, Sample], own: CfgNode) -> tuple[dict[str, Sample], list[str]]:
    """1.0 as 1, where all labels are whole numbers with a point and no mapping names them so; and what is to be said."""
    keys = {sample.key for sample in found.values()}
    several = {key for key in keys if "|" in key}
    said = f'{len(several)} classes are several findings in one, "{min(several)}" say' if several else ""
    whole = {key: str(int(float(key))) for key in keys if re.fullmatch(r"-?\d+\.0+", key)}
    if len(set(whole.values())) == len(keys) and keys.isdisjoint(map(str, (*own.CLASS_FOLDERS, *own.CLASSNAMES))):
        found = {path: replace(sample, key=whole[sample.key]) for path, sample in found.items()}
    return found, [said] if said else []


def _ordered(keys: set[str], labels: Mapping[str, str]) -> list[str]:
    """Keys by their label, numbers as numbers."""
    by = {key: labels.get(key, key) for key in keys}
    if len(set(by.values())) < len(by):
        twins = [key for one, key in pairwise(sorted(by, key=lambda key: by[key])) if by[one] == by[key]]
        raise UserError(f'two classes have the label {by[twins[0]]}, "{twins[0]}" is one of them')
    if all(value.removeprefix("-").isdecimal() for value in by.values()):
        return sorted(by, key=lambda key: int(by[key]))
    return sorted(by, key=lambda key: by[key])
