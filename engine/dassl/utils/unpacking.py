"""Zip archives from elsewhere: nothing outside the folder, no links, no bomb; whole, or the folder is removed again.

What an archive's directory says is checked before a byte is written, and again by what is really written.
"""

from __future__ import annotations

import lzma
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from dassl.utils.errors import UserError
from dassl.utils.sources import gigabytes, need_space, reason

CHUNK = 1 << 20


class DamagedError(UserError):
    """Bytes that are no whole zip archive: another copy may be."""


@dataclass(frozen=True)
class Limits:
    """What an archive may hold.

    Attributes:
        files: how many.
        size: bytes of all, unpacked.
        ratio: unpacked to packed bytes, of the whole archive and of each file of more than ``free`` bytes.
        free: bytes below which a ratio says nothing.
    """

    files: int = 1_000_000
    size: int = 200 * 10**9
    ratio: float = 200.0
    free: int = 16 * 10**6


@dataclass(frozen=True)
class Unpacked:
    """``files`` written, with ``size`` bytes in all; ``left_out`` as never data."""

    files: int
    size: int
    left_out: int


def unpack(
    archive: Path, folder: Path, limits: Limits | None = None, never: Callable[[str], bool] = lambda part: False
) -> Unpacked:
    """Unpack a zip archive into a new folder, which a failure removes again.

    Args:
        archive: may have backslashes between folders.
        folder: must not exist.
        limits: the default ones where not given.
        never: tells of a part of a path that what is called so is left out.

    Raises:
        DamagedError: no zip archive, or one that is cut or damaged.
        UserError: an archive that is not safe to unpack (with the file that makes it so), or no room.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            wanted, left_out = _checked(opened, archive, limits or Limits(), never)
            size = sum(info.file_size for _, info in wanted)
            need_space(folder.parent, size, f"{archive.name.lstrip('.')} has to be unpacked")
            folder.mkdir(parents=True)
            try:
                _write(opened, wanted, folder, archive, size)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    except (zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise DamagedError(f"{archive} is no whole zip archive ({reason(error)})") from error
    except (NotImplementedError, RuntimeError) as error:
        raise UserError(f"{archive} is packed in a way that cannot be read here ({reason(error)})") from error
    except OSError as error:
        raise UserError(f"{archive} could not be unpacked into {folder.parent} ({reason(error)})") from error
    return Unpacked(len(wanted), size, left_out)


Wanted = list[tuple[PurePosixPath, zipfile.ZipInfo]]


def _checked(opened: zipfile.ZipFile, archive: Path, limits: Limits, never: Callable[[str], bool]) -> tuple[Wanted, int]:
    """What the directory lists and is to be written, and how many files are not."""
    infos = opened.infolist()
    if len(infos) > limits.files:
        raise UserError(f"{archive} lists {len(infos)} files, more than the {limits.files} that are taken")
    wanted: Wanted = []
    left_out, seen, above = 0, set(), set()
    for info in infos:
        path = _safe_path(info, archive)
        if info.is_dir() or info.orig_filename.endswith("\\"):
            continue
        if any(never(part) for part in path.parts):
            left_out += 1
            continue
        if path in seen:
            raise UserError(f"{archive} is not safe to unpack: it has two files called {_shown(path)}")
        seen.add(path)
        above.update(path.parents)
        if info.file_size > limits.free and info.file_size > limits.ratio * max(info.compress_size, 1):
            raise UserError(
                f"{archive} is not safe to unpack: {_shown(path)} would become {gigabytes(info.file_size)} out of "
                f"{gigabytes(info.compress_size)}"
            )
        wanted.append((path, info))
    for path in seen & above:
        raise UserError(f"{archive} is not safe to unpack: {_shown(path)} is a file and a folder in it")
    size, packed = sum(info.file_size for _, info in wanted), archive.stat().st_size
    if size > limits.size or (size > limits.free and size > limits.ratio * packed):
        raise UserError(f"{archive} is not safe to unpack: {gigabytes(packed)} would become {gigabytes(size)}")
    return wanted, left_out


def _safe_path(info: zipfile.ZipInfo, archive: Path) -> PurePosixPath:
    """Where a member goes, below the folder that is unpacked into."""
    name = info.orig_filename.replace("\\", "/")  # packed on Windows
    path = PurePosixPath(name)
    mode = stat.S_IFMT(info.external_attr >> 16)
    why = ""
    if path.is_absolute() or re.match("[A-Za-z]:", name):
        why = "an absolute path"
    elif ".." in path.parts:
        why = "a path outside"
    elif not path.parts or any(ord(letter) < 32 for letter in name):
        why = "no usable name"
    elif mode == stat.S_IFLNK:
        why = "a link"
    elif mode not in (0, stat.S_IFREG, stat.S_IFDIR):
        why = "a device or the like"
    elif info.flag_bits & 1:
        why = "encrypted"
    if why:
        raise UserError(f"{archive} is not safe to unpack: {_shown(name)} is {why}")
    return path


def _shown(name: object) -> str:
    return ascii(str(name)[:80])


def _write(opened: zipfile.ZipFile, wanted: Wanted, folder: Path, archive: Path, size: int) -> None:
    """All files, by their bytes; no more of one than its entry says, and never over another."""
    words = f"unpacking {archive.name.lstrip('.')}"
    with tqdm(total=size, unit="B", unit_scale=True, desc=words, disable=None) as bar:
        for path, info in wanted:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            written = 0
            # "x": names that differ in case or in Unicode's forms can be one file here
            with opened.open(info) as source, target.open("xb") as file:
                while block := source.read(CHUNK):
                    written += len(block)
                    if written > info.file_size:
                        raise UserError(f"{archive} is not safe to unpack: {_shown(path)} is larger than its entry says")
                    file.write(block)
                    bar.update(len(block))
            if written != info.file_size:
                raise zipfile.BadZipFile(f"{_shown(path)} ends after {written} of {info.file_size} bytes")
