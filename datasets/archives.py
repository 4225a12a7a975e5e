"""From a published dataset's archive to the layout that runs read, and what is there against what was published."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from dassl.utils import IMAGE_SUFFIXES, UserError
from dassl.utils.unpacking import unpack
from datasets import splits
from datasets.base import REHEARSAL, BiomedDataset
from datasets.never_data import LeftOut, image_files, is_never_data


def install(archive: Path, root: Path, cls: type[BiomedDataset]) -> int:
    """Unpack a dataset's archive as ``<root>/<NAME>/<NAME>/<class>/<file>`` and ``<root>/<NAME>/split_<NAME>.json``.

    The archive may hold ``NAME/NAME/…``, ``NAME/…`` or the class folders themselves. A kill at any moment leaves nothing that
    a run takes for the dataset.

    Returns:
        How many hidden, system or cache files of the archive were left out.

    Raises:
        UserError: another archive (with what it holds), images of the split missing in it, not safe, damaged, no room.
    """
    name = cls.dataset_dir
    scratch = root / f".{name}.unpacking"
    if scratch.exists():  # of a call that was killed
        shutil.rmtree(scratch)
    done = unpack(archive, scratch, never=is_never_data)
    try:
        images, split_file = _find(scratch, cls)
        _put(images, split_file, scratch, root / name, name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return done.left_out


def _find(scratch: Path, cls: type[BiomedDataset]) -> tuple[Path, Path | None]:
    """The folder of the class folders, and the split file, in what was unpacked."""
    name = cls.dataset_dir
    found = sorted(scratch.rglob(f"split_{name}.json"), key=lambda path: len(path.parts))
    split_file = found[0] if found else None
    folders = [scratch, *(path for path in sorted(scratch.rglob("*")) if path.is_dir() and _depth(path, scratch) <= 4)]
    if split_file is None:
        images = _single_way_down(scratch)
        if not image_files(images, IMAGE_SUFFIXES) or not [path for path in images.iterdir() if path.is_dir()]:
            raise UserError(f"the archive holds no class folders with images, but {_contents(scratch)}")
        return images, None
    rows = _paths(splits.read_split(split_file))
    images = max(folders, key=lambda folder: _there(folder, rows[:: max(1, len(rows) // 100)]))
    missing = [row for row in rows if not (images / row).is_file()]
    if len(missing) == len(rows):
        raise UserError(f"its split file names {rows[0]}, which is nowhere in the archive; it holds {_contents(scratch)}")
    if missing:
        raise UserError(
            f"the archive lacks {len(missing)} of the {len(rows)} images that its split file names, first {missing[0]}; "
            "nothing of it was put in place"
        )
    return images, split_file


def _put(images: Path, split_file: Path | None, scratch: Path, target: Path, name: str) -> None:
    """Move what was unpacked to its place: into a new folder by one rename, into one that is there with the images last."""
    ready = scratch.with_name(f"{scratch.name}.ready")
    if ready.exists():
        shutil.rmtree(ready)
    ready.mkdir()
    try:
        if split_file is not None:
            split_file.rename(ready / f"split_{name}.json")
        beside = [] if images == scratch else [path for path in images.parent.iterdir() if path != images]  # masks, notes
        for path in beside:
            if path.name not in (name, f"split_{name}.json"):
                path.rename(ready / path.name)
        if not target.exists():
            images.rename(ready / name)
            ready.rename(target)
            return
        for path in sorted(ready.iterdir()):
            if not (target / path.name).exists():
                path.rename(target / path.name)
        images.rename(target / name)
    finally:
        shutil.rmtree(ready, ignore_errors=True)


def report(root: Path, cls: type[BiomedDataset]) -> tuple[str, list[str]]:
    """(one line on the dataset that is in place, what is to be known besides).

    Raises:
        UserError: images of the split are not there, or the split file is none.
    """
    name = cls.dataset_dir
    folder, images = root / name, root / name / name
    split_file = folder / f"split_{name}.json"
    generated = " (generated images)" if (root / REHEARSAL).is_file() else ""
    if not split_file.is_file():
        count = len(image_files(images, IMAGE_SUFFIXES, LeftOut()))
        note = f"there is no {split_file.name}: runs make a split from the class folders, which is not the published one"
        return f"{count} images in {images}{generated}", [note]
    split = splits.read_split(split_file)
    rows = _paths(split)
    missing = [row for row in rows if not (images / row).is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of the {len(rows)} images that {split_file} names are not in {images}, first {missing[0]}; "
            f"move {folder} away and run the same command again"
        )
    sizes = tuple(len(split[part]) for part in splits.PARTS)
    counted = ", ".join(f"{part} {size}" for part, size in zip(splits.PARTS, sizes, strict=True))
    line = f"{sum(sizes)} images ({counted}) in {images}{generated}"
    notes = []
    if cls.published_sizes and sizes != cls.published_sizes and not generated:
        notes.append(
            f"the published split has train, val, test {', '.join(map(str, cls.published_sizes))}, this one other counts"
        )
    return line + (", as published" if sizes == cls.published_sizes else ""), notes


def _paths(split: splits.Split) -> list[str]:
    return [row[0] for part in splits.PARTS for row in split[part]]


def _there(folder: Path, rows: Iterable[str]) -> int:
    return sum((folder / row).is_file() for row in rows)


def _depth(path: Path, below: Path) -> int:
    return len(path.relative_to(below).parts)


def _single_way_down(folder: Path) -> Path:
    """Down through folders that hold one folder and no image."""
    inside = sorted(folder.iterdir())
    deeper = [path for path in inside if path.is_dir()]
    images = [path for path in inside if path.name.lower().endswith(tuple(IMAGE_SUFFIXES))]
    return _single_way_down(deeper[0]) if len(deeper) == 1 and not images else folder


def _contents(scratch: Path) -> str:
    """The first files and folders of an archive, in words."""
    names = [PurePosixPath(path.relative_to(scratch)).as_posix() for path in sorted(scratch.rglob("*")) if path.is_file()]
    return f"{len(names)} files: {', '.join(names[:4])}{', …' if len(names) > 4 else ''}" if names else "nothing"
