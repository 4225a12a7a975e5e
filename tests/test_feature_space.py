"""Stored rows without a backbone: which key reads which row, what is left out, refused and removed, who waits for whom."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock, Timeout
from safetensors.torch import save_file

from dassl.utils import UserError
from features import disk as on_disk
from features.__main__ import main as command
from features.disk import CHUNK, DamagedSegment, Space, checksum, default_root, digest, prune, read_segment, spaces, verify


def keys_of(numbers: range) -> list[bytes]:
    return [digest(str(number)) for number in numbers]


def row(number: int) -> torch.Tensor:
    return torch.tensor([number, number**2, -1.0])


def rows_of(numbers) -> torch.Tensor:
    return torch.stack([row(number) for number in numbers])


def segments(root: Path) -> list[Path]:
    return sorted(root.glob("*/[!.]*.safetensors"))


# -- the rows of a space ----------------------------------------------------------------------------------


def test_parts_of_a_key_do_not_run_into_each_other_and_a_space_is_named_by_what_it_holds(tmp_path: Path) -> None:
    assert len({digest("ab", "c"), digest("a", "bc"), digest("abc"), digest("ab", "c", "")}) == 4
    one, other = Space(tmp_path, {"a": 1, "b": 2}), Space(tmp_path, {"b": 2, "a": 1})
    assert one.folder == other.folder != Space(tmp_path, {"a": 1}).folder


def test_many_rows_are_computed_in_parts_each_at_its_place_and_once(tmp_path: Path) -> None:
    count, asked = 2 * CHUNK + 40, []
    space = Space(tmp_path, {})
    space.put(keys_of(range(5, 9)), rows_of(range(5, 9)))

    def compute(places):
        asked.append(list(places))
        return rows_of(places)

    for again in (space, Space(tmp_path, {})):
        assert torch.equal(again.fetch(keys_of(range(count)), compute), rows_of(range(count)))
    assert max(map(len, asked)) <= CHUNK and sorted(sum(asked, [])) == [n for n in range(count) if n not in range(5, 9)]
    some = keys_of(range(count))[::-7]
    assert torch.equal(Space(tmp_path, {}).fetch(some, compute), rows_of(range(count)[::-7]))
    mixed = space.fetch([digest("new"), *some], lambda places: rows_of([7000 + place for place in places]))
    assert torch.equal(mixed, torch.cat([rows_of([7000]), rows_of(range(count)[::-7])]))


def test_rows_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    space, rows = Space(tmp_path, {}), rows_of(range(3))
    for bad in (rows[:2], rows[0], rows[None]):
        with pytest.raises(ValueError, match="3 keys for rows"):
            space.put(keys_of(range(3)), bad)
    rows[1, 1] = float("inf")  # one value among finite ones
    with pytest.raises(UserError, match="infinite or NaN"):
        space.put(keys_of(range(3)), rows)
    assert space.get(keys_of(range(3))) == {} and segments(tmp_path) == []


def test_what_another_process_added_is_seen_beside_what_is_known(tmp_path: Path) -> None:
    mine, other = Space(tmp_path, {}), Space(tmp_path, {})
    mine.put(keys_of(range(2)), rows_of(range(2)))
    other.put(keys_of(range(2, 4)), rows_of(range(2, 4)))
    assert len(mine.get(keys_of(range(4)))) == 4
    third = Space(tmp_path, {})
    found = mine.get(keys_of(range(5)))
    third.put(keys_of(range(4, 5)), rows_of(range(4, 5)))
    assert len(found) == 4  # then, while this one waits for the lock, the fifth comes
    got = mine.fetch(keys_of(range(5)), lambda places: pytest.fail(f"{places} computed again"))
    assert torch.equal(got, rows_of(range(5)))


def test_rows_that_came_while_one_waited_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, keys = Space(tmp_path, {}), keys_of(range(3))
    filling = mine.filling

    def waiting():
        Space(tmp_path, {}).put(keys, rows_of(range(3)))  # by the one that held the lock
        return filling()

    monkeypatch.setattr(mine, "filling", waiting)
    got = mine.fetch(keys, lambda places: pytest.fail(f"{places} computed again"))
    assert torch.equal(got, rows_of(range(3)))


def _locked(folder: Path, answers) -> None:
    try:
        FileLock(folder / ".lock", timeout=0.05).acquire()
        answers.put("free")
    except Timeout:
        answers.put("held")


def held(folder: Path) -> bool:
    """Whether another process would wait for the space."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_locked, args=(folder, answers))
    child.start()
    answer = answers.get()
    child.join()
    return answer == "held"


def test_one_fills_while_others_wait(tmp_path: Path) -> None:
    space = Space(tmp_path, {})
    during: list[bool] = []

    def compute(places):
        during.append(held(space.folder))
        return rows_of(places)

    space.fetch(keys_of(range(2)), compute)
    assert during == [True] and not held(space.folder)
    with pytest.raises(ZeroDivisionError) as caught:  # which keeps all that the failed call had at hand
        space.fetch(keys_of(range(2, 4)), lambda places: 1 / 0)
    assert caught.value.__traceback__ is not None and not held(space.folder)


@pytest.mark.parametrize("wrong", ["rows", "keys", "fewer", "widths", "folder"])
def test_a_segment_that_is_not_what_was_written_gives_no_row(wrong: str, tmp_path: Path) -> None:
    space = Space(tmp_path, {})
    space.put(keys_of(range(4)), rows_of(range(4)))
    (path,) = segments(tmp_path)
    keys, rows = read_segment(path)
    packed = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).view(-1, 32)
    rows, whole = rows.clone(), checksum(packed, rows)
    if wrong == "rows":
        rows[2, 1] += 1
    elif wrong == "keys":
        packed = packed.flip(0).contiguous()
    elif wrong == "fewer":
        rows, whole = rows[:3].contiguous(), checksum(packed, rows[:3].contiguous())
    elif wrong == "widths":
        rows = rows.view(4, 3)[:, :2].contiguous()
    save_file({"keys": packed, "rows": rows}, path, metadata={"checksum": whole})
    if wrong == "folder":
        path.unlink()
        path.mkdir()
    with pytest.raises(DamagedSegment, match=path.name):
        read_segment(path)
    assert Space(tmp_path, {}).get(keys_of(range(4))) == {}
    assert len(verify(tmp_path)) == 1


def test_a_segment_is_written_under_a_name_that_no_reader_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space, seen = Space(tmp_path, {}), []

    def half(tensors, path, metadata) -> None:
        Path(path).write_bytes(b"half")
        seen.append((segments(tmp_path), verify(tmp_path), Space(tmp_path, {}).get(keys_of(range(1)))))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(on_disk, "save_file", half)
    with pytest.raises(OSError, match="No space"):
        space.put(keys_of(range(1)), rows_of(range(1)))
    assert seen == [([], [], {})]
    assert [path.name for path in space.folder.iterdir()] == ["space.json"]  # nothing half-written stays


def test_a_full_disk_is_said_once_and_costs_no_row(tmp_path, monkeypatch, caplog: pytest.LogCaptureFixture) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(on_disk, "save_file", full)
    space = Space(tmp_path, {})
    with caplog.at_level(logging.WARNING, logger="features.disk"):
        for start in (0, 4, 8):
            got = space.fetch(
                keys_of(range(start, start + 4)), lambda places, start=start: rows_of([start + p for p in places])
            )
            assert torch.equal(got, rows_of(range(start, start + 4)))
            assert len(caplog.records) == 1
    assert [record.message.count("are not kept") for record in caplog.records] == [1]


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written to.*FEATURES\.ROOT"):
        Space(tmp_path / "file", {}).fetch(keys_of(range(1)), rows_of)


# -- the store as a whole ---------------------------------------------------------------------------------


def test_the_root_is_the_one_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIOMED_DPT_CACHE", str(tmp_path))
    assert default_root() == tmp_path / "features"


def filled(root: Path, *used: int) -> list[Path]:
    """One space of two segments per time of use (the later of the two)."""
    folders = []
    for number, when in enumerate(used):
        space = Space(root, {"number": number})
        for part in (0, 1):
            space.put(keys_of(range(4 * part, 4 * part + 4)), rows_of(range(4)))
        for path, moment in zip(sorted(space.folder.glob("*.safetensors")), (when, 1), strict=True):
            os.utime(path, (moment, 0))
        folders.append(space.folder)
    return folders


def test_reading_counts_as_use_and_the_least_used_goes_first(tmp_path: Path) -> None:
    now = int(time.time())  # what was read today is not marked again by most file systems themselves
    oldest, old, new = filled(tmp_path, now - 3000, now - 2000, now - 1000)
    each = {space["folder"]: space["bytes"] for space in spaces(tmp_path)}
    assert each[old] == sum(path.stat().st_size for path in old.glob("*.safetensors"))
    assert {space["folder"]: space["used"] for space in spaces(tmp_path)} == {
        oldest: now - 3000,
        old: now - 2000,
        new: now - 1000,
    }
    Space(tmp_path, {"number": 0}).get(keys_of(range(1)))
    assert prune(tmp_path, sum(each.values())) == []
    assert prune(tmp_path, each[oldest] + each[new]) == [old]
    assert prune(tmp_path, each[oldest]) == [new] and oldest.is_dir() and not new.exists()


def test_the_command_removes_what_it_says_and_nothing_behind_a_link(tmp_path: Path, capsys) -> None:
    root = tmp_path / "root"
    (one,) = filled(root, 1000)
    words = ["--root", str(root)]
    assert command([*words, "prune", "--max-gb", "0.0005"]) == 0 and one.is_dir()  # half a MB: all fits
    assert command([*words, "prune", "--max-gb", "-0.5"]) == 2 and one.is_dir()
    os.rename(one, tmp_path / "elsewhere")
    one.symlink_to(tmp_path / "elsewhere")
    capsys.readouterr()
    assert command([*words, "prune", "--max-gb", "0"]) == 2 and "is a link" in capsys.readouterr().err
    assert len(list((tmp_path / "elsewhere").glob("*.safetensors"))) == 2
    one.unlink()
    os.rename(tmp_path / "elsewhere", one)
    next(one.glob("*.safetensors")).write_bytes(b"cut")
    assert command([*words, "verify"]) == 1 and len(segments(root)) == 2
    assert command([*words, "verify", "--remove"]) == 0 and len(segments(root)) == 1
    assert command([*words, "verify"]) == 0
    assert command([*words, "prune", "--max-gb", "0"]) == 0 and not one.exists()
