"""Split files: reading them, drawing the few shots, halving the classes. Where there is none: ``made_splits``."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import random
import stat
from collections import Counter
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import UserError, read_text, write_json
from datasets.never_data import DRAWS

log = logging.getLogger(__name__)

PARTS = ("train", "val", "test")
MOST_SHOTS = 100_000

Row = tuple[str, int, str]  # path below the image folder, label, class name
Split = dict[str, list[Row]]


def read_split(path: Path) -> Split:
    """A published split file ``{"train"|"val"|"test": [[path, label, classname], …]}``.

    Raises:
        UserError: not such a file; the message names the first bad entry.
    """
    try:
        loaded = json.loads(read_text(path))
    except RecursionError as error:
        raise UserError(f"{path} is not a split file: it is nested too deep") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable JSON file: {error}") from error
    if not isinstance(loaded, dict) or not all(isinstance(loaded.get(part), list) for part in PARTS):
        raise UserError(f'{path} must hold the lists "train", "val" and "test"')
    names: dict[int, str] = {}
    split: Split = {part: [] for part in PARTS}
    for part in PARTS:
        for number, entry in enumerate(loaded[part]):
            split[part].append(_checked_row(entry, names, f"{path}, {part}[{number}]"))
    _check_names(names, path)
    if not split["train"] or not split["test"]:
        raise UserError(f"{path} has no images to {'train on' if not split['train'] else 'test on'}")
    return split


def _check_names(names: dict[int, str], path: Path) -> None:
    """Refuse labels with a gap, and names that are empty or stand for two labels."""
    absent = next((place for place, label in enumerate(sorted(names)) if place != label), None)
    if absent is not None:
        raise UserError(f"{path}: no image has the label {absent}: labels must count from 0 without a gap")
    seen: dict[str, int] = {}
    for label, name in sorted(names.items()):
        if not name.strip():
            raise UserError(f"{path}: label {label} has no class name")
        if seen.setdefault(name, label) != label:
            raise UserError(f'{path}: the labels {seen[name]} and {label} are both called "{name}"')


def _checked_row(entry: Any, names: dict[int, str], where: str) -> Row:
    shaped = isinstance(entry, list) and len(entry) == 3
    if not shaped or not isinstance(entry[0], str) or type(entry[1]) is not int or not isinstance(entry[2], str):
        raise UserError(f"{where}: {json.dumps(entry)[:80]} is not [path, label, class name]")
    name, label, classname = entry
    name = name.replace("\\", "/")  # written on Windows
    path = PurePosixPath(name)
    if not _writable(name) or name.strip("./") == "":
        raise UserError(f"{where}: {json.dumps(name)[:80]} is not the path of a file")
    if not _writable(classname) or any(ord(letter) < 32 for letter in classname):
        raise UserError(f"{where}: the class name {json.dumps(classname)[:80]} has characters that are no text")
    if path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts or label < 0:
        raise UserError(f"{where}: the path must lie below the image folder and the label be 0 or more, got {entry}")
    if names.setdefault(label, classname) != classname:
        raise UserError(f'{where}: label {label} is "{classname}" here and "{names[label]}" before')
    return name, label, classname


def _writable(name: str) -> bool:
    """Whether a file can be called so: no NUL, and no half of a character other than those of names that are no UTF-8."""
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def split_hash(split: Split) -> str:
    """SHA-256 over the rows, in order."""
    return hashlib.sha256(json.dumps([split[part] for part in PARTS]).encode()).hexdigest()


def draw_few_shot(split: Split, num_shots: int, seed: int) -> Split:
    """K images per label for training, min(K, 4) for validation, as Dassl and CoOp draw them for this seed.

    ``random.sample`` per label in order of first appearance, training first, on the full class set; a negative
    seed draws from the running stream.
    """
    if num_shots < 1:
        return split
    state = random.getstate()
    if seed >= 0:
        random.seed(seed)
    try:
        drawn = dict(split)
        for part, shots in (("train", num_shots), ("val", min(num_shots, 4))):
            items = [Datum(impath=path, label=label, classname=name) for path, label, name in split[part]]
            chosen = DatasetBase().generate_fewshot_dataset(items, num_shots=shots)
            drawn[part] = [(item.impath, item.label, item.classname) for item in chosen]
    finally:
        if seed >= 0:
            random.setstate(state)
    return drawn


def cached_few_shot(split: Split, num_shots: int, seed: int, folder: Path) -> Split:
    """:func:`draw_few_shot`, kept as JSON in ``folder/split_fewshot`` (or the user's cache where that is read-only)."""
    if num_shots < 1 or seed < 0:
        return draw_few_shot(split, num_shots, seed)
    digest = split_hash(split)
    name = f"shot_{num_shots}-seed_{seed}-{digest[:12]}.json"
    places = [folder / DRAWS, Path("~/.cache/biomed-dpt").expanduser() / DRAWS / folder.name]
    for place in places:
        try:
            kept = json.loads((place / name).read_text())
        except (OSError, ValueError):
            continue
        if isinstance(kept, dict) and kept.get("split") == digest and all(_are_rows(kept.get(part)) for part in PARTS[:2]):
            return {**split, "train": [tuple(r) for r in kept["train"]], "val": [tuple(r) for r in kept["val"]]}
    drawn = draw_few_shot(split, num_shots, seed)
    record = {"num_shots": num_shots, "seed": seed, "split": digest, "train": drawn["train"], "val": drawn["val"]}
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
            write_json(record, str(place / name))
        except OSError:
            log.debug("%s is read-only", place)
            continue
        break
    return drawn


def _are_rows(kept: Any) -> bool:
    return isinstance(kept, list) and all(isinstance(row, list) and len(row) == 3 for row in kept)


def select_classes(split: Split, subsample: str) -> Split:
    """All classes; the "base" half (the first ceil(n/2) labels); or the "new" half; relabelled from 0.

    Raises:
        UserError: another word than all, base, new, or a dataset with one class and none left for "new".
    """
    if subsample not in ("all", "base", "new"):
        raise UserError(f'DATASET.SUBSAMPLE_CLASSES is "{subsample}", must be all, base or new')
    labels = sorted({label for part in PARTS for _, label, _ in split[part]})
    half = math.ceil(len(labels) / 2)
    chosen = {"all": labels, "base": labels[:half], "new": labels[half:]}[subsample]
    if not chosen:
        raise UserError(f"{len(labels)} classes leave none for the {subsample} half")
    relabel = {label: index for index, label in enumerate(chosen)}
    return {part: [(p, relabel[n], c) for p, n, c in split[part] if n in relabel] for part in PARTS}


def tuning_fold(split: Split, fold: int, where: str) -> Split:
    """The drawn shots as one fold of a search for settings: ``train`` is trained on, ``test`` is scored; no test image is left.

    Args:
        split: after the few-shot draw, of the classes that are run on.
        fold: 1 trains on the training shots and scores the validation shots; 2 the other way round.
        where: the images' folder, for the message.

    Raises:
        UserError: no validation images; or, in fold 2, a class without one, which could not be trained.
    """
    if not split["val"]:
        raise UserError(f"{where}: the split has no validation images, on which settings are chosen: add some to its val part")
    train, scored = (split["train"], split["val"])[:: 1 if fold == 1 else -1]
    absent = sorted({name for _, _, name in scored} - {name for _, _, name in train})
    if absent:
        part = "training" if fold == 1 else "validation"
        raise UserError(f"{where}: no {part} images of {', '.join(absent)}, to try settings on")
    return {"train": train, "val": [], "test": scored}


def shortages(split: Split, num_shots: int, trained: bool) -> list[str]:
    """What a reader of the numbers should know of the classes of a run's split: one class, classes without images, few shots.

    Args:
        split: after the few-shot draw, of the classes that are run on.
        num_shots: below 1 all training images are taken.
        trained: its training images are used; else its test images alone are looked at.
    """
    names = dict(sorted({(label, name) for part in PARTS for _, label, name in split[part]}))
    counts = {part: Counter(label for _, label, _ in split[part]) for part in PARTS}
    said = [f'one class ("{names[0]}"): any method classifies all of its images right'] if len(names) == 1 else []
    said += repeated(split) if trained else []
    for part, word in (("train", "training"), ("test", "test"))[not trained :]:
        absent = [name for label, name in names.items() if not counts[part][label]]
        said += [f"no {word} images of {', '.join(absent)}"] if absent else []
    few = {name: counts["train"][label] for label, name in names.items() if 0 < counts["train"][label] < num_shots}
    if few and trained:
        shown = ", ".join(f"{name} {count}" for name, count in few.items())
        said.append(f"fewer training images than {num_shots} shots, all of them taken: {shown}")
    return said


def repeated(split: Split) -> list[str]:
    """Images that stand in a split more than once: in two parts, under two labels, twice. Contents: ``datasets.check``."""
    parts: dict[str, list[str]] = {}
    labels: dict[str, set[int]] = {}
    for part in PARTS:
        for path, label, _ in split[part]:
            parts.setdefault(path, []).append(part)
            labels.setdefault(path, set()).add(label)
    both = [path for path, found in parts.items() if "test" in found and len(set(found)) > 1]
    two = [path for path, found in labels.items() if len(found) > 1]
    twice = [path for path, found in parts.items() if len(found) > len(set(found))]
    said = []
    for paths, what in ((both, "test images are training or validation images too"), (two, "images have two labels"),
                        (twice, "images stand twice in a part")):  # fmt: skip
        said += [f"{len(paths)} {what}, first {paths[0]}"] if paths else []
    return said


def check_shots(num_shots: int) -> None:
    """
    Raises:
        UserError: a number of images per class that nobody can mean.
    """
    if num_shots == 0 or num_shots < -1 or num_shots > MOST_SHOTS:
        raise UserError(
            f"DATASET.NUM_SHOTS is {num_shots}, must be 1 to {MOST_SHOTS} images per class, or -1 for all training images"
        )


def files_hash(images: Path, split: Split) -> str:
    """SHA-256 over paths and sizes of the images of a run.

    Raises:
        UserError: images that the split names and the folder lacks.
    """
    digest, missing = hashlib.sha256(), []
    for part in PARTS:
        for name, label, _ in split[part]:
            try:
                status = os.stat(images / name)
            except OSError:
                missing.append(name)
                continue
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{images / name} is a folder or a device and not an image: take it out of the split")
            size = status.st_size
            digest.update(f"{part}/{name}/{label}/{size}\n".encode())
    if missing:
        raise UserError(f"{len(missing)} images of the split are not in {images}, first {missing[0]}")
    return digest.hexdigest()
