"""What is never data, and any number of runs on a folder of class folders."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.utils import IMAGE_SUFFIXES
from datasets.made_splits import make_split
from datasets.never_data import LeftOut, image_files, is_never_data
from datasets.splits import PARTS
from runs.inference import find_images
from tests.own_images import draw

JUNK = (".DS_Store", "Thumbs.db", "desktop.ini", "._000.png", ".git/x.png", "__MACOSX/a/._000.png", "@eaDir/000.png",
        "split_fewshot/shot_1.json", "split_fewshot/x.png", ".dermamnist.npz/x.png")  # fmt: skip


def litter(folder: Path) -> None:
    for name in JUNK:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no image")


def test_junk_is_no_class_no_image_and_counted(tmp_path: Path, caplog) -> None:
    for kind in ("bright", "dark"):
        draw(tmp_path / kind, kind, 6)
        litter(tmp_path / kind)
    litter(tmp_path)
    (tmp_path / "dark" / "notes.txt").touch()
    split = make_split(tmp_path, (), 1)
    rows = [row for part in PARTS for row in split[part]]
    assert {name for *_, name in rows} == {"bright", "dark"} and len(rows) == 12
    left_out = LeftOut()
    assert len(image_files(tmp_path, IMAGE_SUFFIXES, left_out)) == 12
    assert sum(left_out.never.values()) == 3 * len(JUNK) and left_out.others == {".txt": 1}
    with caplog.at_level(logging.INFO):
        found = find_images([tmp_path])
    assert sorted(path.relative_to(tmp_path).as_posix() for path in found) == sorted(path for path, *_ in rows)
    assert (
        f"left out: {3 * len(JUNK)} files (hidden, system or cache: .* " in caplog.text
        and "(not images: .txt 1)" in caplog.text
    )


def test_who_names_a_hidden_folder_means_it(tmp_path: Path) -> None:
    draw(tmp_path / ".mine", "dark", 2)
    assert len(find_images([tmp_path / ".mine"])) == 2


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    draw(tmp_path / "elsewhere", "dark", 2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "mine")
    assert [path.name for path in image_files(tmp_path / "mine", IMAGE_SUFFIXES)] == ["dark_0.png", "dark_1.png"]


@given(st.text(st.characters(exclude_characters="/\0"), min_size=1))
def test_the_rule_leaves_out_hidden_names_and_a_list(name: str) -> None:
    assert is_never_data("." + name)
    plain = name.lower() not in {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "split_fewshot"}
    assert not plain or is_never_data(name) == (name[0] == "." or name.lower() in {
        "ehthumbs.db", "@__thumb", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__pycache__"
    })  # fmt: skip


@pytest.mark.parametrize("count", [3, 4, 5, 7, 10, 23])
def test_the_made_split_is_the_one_of_before(count: int, tmp_path: Path) -> None:
    """By the arithmetic under which published numbers were drawn: half, a fifth, the rest."""
    draw(tmp_path / "dark_spot", "dark", count)
    files = [f"dark_spot/dark_{n}.png" for n in range(count)]
    files.sort()
    random.Random("split/7/dark spot").shuffle(files)
    first = max(1, min(round(count * 0.5), count - 2))  # of three images each part has one
    second = min(first + max(1, round(count * 0.2)), count - 1)
    split = make_split(tmp_path, (), 7)
    assert [[path for path, *_ in split[part]] for part in PARTS] == [files[:first], files[first:second], files[second:]]
    assert json.dumps(split).count('"dark spot"]') == count
