"""Archives that are hostile, damaged or packed elsewhere: one line, and nothing written."""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path

import pytest

from dassl.utils import UserError
from dassl.utils.unpacking import DamagedError, Limits, unpack
from datasets.never_data import is_never_data


def packed(path: Path, *entries: tuple[object, bytes], how: int = zipfile.ZIP_DEFLATED) -> Path:
    """An archive with these (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def special(kind: int, name: str = "NAME/a/link") -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    return info


def refused(archive: Path, kind: type[UserError] = UserError, **more: object) -> str:
    target = archive.parent / "out" / "new"
    with pytest.raises(kind) as told:
        unpack(archive, target, **more)
    assert not target.exists() and "\n" not in str(told.value) and archive.name in str(told.value)
    outside = {path.name for path in archive.parent.rglob("*")} - {archive.name, "out"}
    assert outside == set(), "something was written"
    return str(told.value)


@pytest.mark.parametrize(
    "name, why",
    [
        ("../evil", "a path outside"),
        ("NAME/../../evil", "a path outside"),
        ("/etc/evil", "an absolute path"),
        ("C:/evil", "an absolute path"),
        ("C:evil", "an absolute path"),
        ("..\\..\\evil", "a path outside"),
        ("\\\\host\\share\\evil", "an absolute path"),
        ("NAME/a\x01b", "no usable name"),
        (special(stat.S_IFLNK), "a link"),
        (special(stat.S_IFCHR), "a device"),
        (special(stat.S_IFIFO), "a device"),
        (special(stat.S_IFSOCK), "a device"),
    ],
)
def test_a_member_that_is_not_safe(name: object, why: str, tmp_path: Path) -> None:
    said = refused(packed(tmp_path / "x.zip", ("NAME/a/1.png", b"good"), (name, b"/etc/passwd")))
    assert "is not safe to unpack" in said and why in said


def test_a_link_is_refused_among_hidden_files_too(tmp_path: Path) -> None:
    archive = packed(tmp_path / "x.zip", (special(stat.S_IFLNK, "__MACOSX/a"), b"/etc"))
    assert "a link" in refused(archive, never=is_never_data)


def test_a_name_that_ends_at_a_zero_byte(tmp_path: Path) -> None:
    archive = packed(tmp_path / "x.zip", ("NAME/a#../../evil", b"x"))
    archive.write_bytes(archive.read_bytes().replace(b"a#../", b"a\x00../"))
    refused(archive)


def test_bombs_by_ratio(tmp_path: Path) -> None:
    archive = packed(tmp_path / "x.zip", ("a/1.png", b"good"), ("a/bomb", bytes(20_000_000)))
    assert "'a/bomb' would become 20 MB out of" in refused(archive)
    many = packed(tmp_path / "x.zip", *((f"a/{number}", bytes(3_000_000)) for number in range(7)))
    assert "would become 21 MB" in refused(many)


def test_a_small_well_packed_file_is_no_bomb(tmp_path: Path) -> None:
    archive = packed(tmp_path / "x.zip", ("a/black.bmp", bytes(1_000_000)))
    assert unpack(archive, tmp_path / "new").size == 1_000_000


def test_overlapping_entries_do_not_multiply(tmp_path: Path) -> None:
    """One kernel of data under many names, as the bombs without nesting have it."""
    archive = packed(tmp_path / "x.zip", ("a/0", bytes(3_000_000)))
    with zipfile.ZipFile(archive, "a") as opened:
        (first,) = opened.infolist()
        for number in range(1, 20):
            again = zipfile.ZipInfo(f"a/{number}")
            for field in ("header_offset", "CRC", "compress_size", "file_size", "compress_type"):
                setattr(again, field, getattr(first, field))
            opened.filelist.append(again)
        opened._didModify = True
    assert "would become 60 MB" in refused(archive)


def test_too_many_and_too_much(tmp_path: Path) -> None:
    archive = packed(tmp_path / "x.zip", *((f"a/{number}", b"1234") for number in range(30)))
    assert "lists 30 files, more than the 29" in refused(archive, limits=Limits(files=29))
    assert "would become 120 bytes" in refused(archive, limits=Limits(size=119))
    assert unpack(archive, tmp_path / "new", Limits(files=30, size=120)).files == 30


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name(tmp_path: Path) -> None:
    assert "two files called 'a/1'" in refused(packed(tmp_path / "x.zip", ("a/1", b"1"), ("a/1", b"2")))
    assert "two files called 'a/1'" in refused(packed(tmp_path / "x.zip", ("a/1", b"1"), ("a\\1", b"2")))
    assert "is a file and a folder" in refused(packed(tmp_path / "x.zip", ("a/1", b"1"), ("a/1/b", b"2")))


def test_encrypted(tmp_path: Path) -> None:
    archive = packed(tmp_path / "x.zip", ("a/1.png", b"1"))
    data = bytearray(archive.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    assert "is encrypted" in refused(archive)


def test_a_method_of_packing_that_is_not_known_here(tmp_path: Path) -> None:
    archive = packed(tmp_path / "x.zip", ("a/1.png", b"1" * 100))
    data = bytearray(archive.read_bytes())
    data[8:10] = data[data.index(b"PK\x01\x02") + 10 :][:2] = struct.pack("<H", 99)
    at = data.index(b"PK\x01\x02") + 10
    data[at : at + 2] = struct.pack("<H", 99)
    archive.write_bytes(data)
    assert "packed in a way that cannot be read here" in refused(archive)


def test_cut_and_damaged(tmp_path: Path) -> None:
    noise = bytes(range(256)) * 40
    archive = packed(tmp_path / "x.zip", ("a/1.png", noise), ("a/2.png", noise), how=zipfile.ZIP_STORED)
    whole = archive.read_bytes()
    for broken in (whole[:9000], whole[: len(whole) - 30], b"", b"PK", whole[:3000] + b"?" + whole[3001:]):
        archive.write_bytes(broken)
        assert "is no whole zip archive" in refused(archive, DamagedError)


def test_an_entry_that_lies_about_its_size(tmp_path: Path) -> None:
    archive = packed(tmp_path / "x.zip", ("a/1.png", b"y" * 5000))
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    for size in (100, 9000):
        data[at : at + 4] = struct.pack("<I", size)
        archive.write_bytes(data)
        refused(archive, DamagedError)


def test_backslashes_hidden_files_and_folders(tmp_path: Path) -> None:
    archive = packed(tmp_path / "x.zip", ("NAME\\a\\1.png", b"1"), ("NAME/b/", b""), ("NAME\\c\\", b""), ("NAME/b/é.png", b"2"),
                     ("__MACOSX/NAME/a/._1.png", b"3"), ("NAME/a/.DS_Store", b"4"), ("NAME/Thumbs.db", b"5"))  # fmt: skip
    done = unpack(archive, tmp_path / "new", never=is_never_data)
    assert (done.files, done.left_out) == (2, 3)
    files = sorted(path.relative_to(tmp_path / "new").as_posix() for path in (tmp_path / "new").rglob("*") if path.is_file())
    assert files == ["NAME/a/1.png", "NAME/b/é.png"]


def test_a_program_in_an_archive_cannot_be_run(tmp_path: Path) -> None:
    unpack(packed(tmp_path / "x.zip", (special(stat.S_IFREG | stat.S_ISUID, "run.sh"), b"#!/bin/sh")), tmp_path / "new")
    assert not (tmp_path / "new" / "run.sh").stat().st_mode & 0o7111
