"""What is never data, whoever looks for images: hidden and system files and folders, and this project's own caches."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from dassl.utils import UserError

DRAWS = "split_fewshot"  # the few-shot draws, beside the class folders of a user's own images
# of macOS's archives, Windows' Explorer, Synology's and QNAP's disks, a Windows disk's root, and notebooks
SYSTEM = {
    "__macosx",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "@eadir",
    "@__thumb",
    "#recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "__pycache__",
}
OWN_CACHES = {DRAWS}


def is_never_data(name: str) -> bool:
    """Whether a file or folder of this name is left out wherever images are looked for."""
    return name.startswith(".") or name.lower() in SYSTEM or name in OWN_CACHES


class LeftOut:
    """Counts what a search passed over.

    Attributes:
        never: files that are never data, by the name that gave them away.
        others: files that are no images, by suffix.
    """

    def __init__(self) -> None:
        self.never: Counter[str] = Counter()
        self.others: Counter[str] = Counter()

    def __str__(self) -> str:
        """What was left out, in words; empty where nothing was."""
        said = []
        for counts, what in ((self.never, "hidden, system or cache"), (self.others, "not images")):
            total = sum(counts.values())
            if total:
                shown = ", ".join(f"{name} {count}" for name, count in counts.most_common(4))
                said.append(f"{total} files ({what}: {shown}{', …' if len(counts) > 4 else ''})")
        return "left out: " + "; ".join(said) if said else ""


def image_files(folder: Path, suffixes: Collection[str], left_out: LeftOut | None = None) -> list[Path]:
    """The images below a folder, sub-folders too, sorted; what is passed over is counted in ``left_out``.

    Args:
        folder: the rule is not asked of its own name: whoever names a hidden folder means it.
        suffixes: of images, lower case.

    Raises:
        UserError: an image whose path is no UTF-8: it could not be written into any result.
    """
    found = []
    for path in _files(folder, "", left_out or LeftOut()):
        if path.name.lower().endswith(tuple(suffixes)):
            refuse_odd_bytes(path)
            found.append(path)
        elif left_out is not None:
            left_out.others[path.suffix.lower() or path.name] += 1
    return sorted(found)


def refuse_odd_bytes(path: Path) -> None:
    """Refuse a name in another encoding than UTF-8, as archives of old Windows programs leave them.

    Raises:
        UserError: with the bytes shown as escapes.
    """
    raw = os.fsencode(path)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        shown = raw.decode("utf-8", "backslashreplace")
        raise UserError(f"the name of {shown} is no UTF-8: rename it (convmv -f latin1 -t utf8 -r does a folder)") from None


def data_folders(folder: Path) -> list[Path]:
    """The sub-folders that may hold data, sorted."""
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not is_never_data(path.name)]


def _files(folder: Path, because: str, left_out: LeftOut, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """The files below ``folder``; those that are never data (``because`` of a folder above, or by name) are counted.

    Links to folders are followed, except to one of the folders ``above``.
    """
    above = (*above, os.path.realpath(folder))
    with os.scandir(folder) as entries:
        inside = sorted(entries, key=lambda entry: entry.name)
    for entry in inside:
        why = because or (_group(entry.name) if is_never_data(entry.name) else "")
        if entry.is_dir():
            if not entry.is_symlink() or os.path.realpath(entry.path) not in above:
                yield from _files(Path(entry.path), why, left_out, above)
        elif why:
            left_out.never[why] += 1
        elif entry.is_file():
            yield Path(entry.path)
        elif entry.is_symlink():
            left_out.others["broken links"] += 1


def _group(name: str) -> str:
    """Hidden names count together, the others by name."""
    return ".*" if name.startswith(".") else name
