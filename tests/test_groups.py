"""Groups of images by their names or by a table, and the leaks that a check finds by them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from dassl.utils import UserError
from datasets import of_name
from datasets.check import __main__ as command
from datasets.check.findings import Finding, listed, of_groups
from datasets.groups import Grouping, by_pattern
from tests.xrays import checked, kinds, own_split, three_parts


def rows_of(**parts: str) -> Any:
    return listed({part: [(f"a/{name}.png", 0, "a") for name in parts.get(part, "").split()] for part in
                   ("train", "val", "test")})  # fmt: skip


def one(found: list[Finding]) -> Finding:
    (only,) = found
    return only


def test_a_leak_by_regular_expression() -> None:
    rows = rows_of(train="7_left 8_left 8_right", val="9_left", test="7_right 9_right 10_left other")
    found = of_groups(rows, by_pattern(list(rows.part), Grouping(r"(\d+)_(?:left|right)", "patient"), "names"))
    assert found[0].matters and found[0].said == (
        "2 of 4 patients are in several parts: of 3 test images that have a patient, 1 share it with training, "
        "2 with training or validation (by names)"
    )
    assert found[0].items[0] == {"group": "7", "parts": {"train": 1, "test": 1}}
    assert found[1].said == "1 of 8 images have no patient (by names)"
    whole = rows_of(train="7_left 7_right", test="8_left")
    assert not one(of_groups(whole, by_pattern(list(whole.part), Grouping(r"(\d+)_"), "names"))).matters


def test_several_groups_are_joined_and_a_named_one_is_taken_alone() -> None:
    paths = ["a/p1_s2_x.png", "a/p1_s3_x.png"]
    assert by_pattern(paths, Grouping(r"p(\d)_s(\d)"), "").of == {paths[0]: "1 2", paths[1]: "1 3"}
    assert by_pattern(paths, Grouping(r"(?P<group>p\d)_s(\d)"), "").of == dict.fromkeys(paths, "p1")


def test_neighbours_by_number() -> None:
    grouping = Grouping(r"(Cyst|Stone)- \((?P<number>\d+)\)", "slice")
    rows = listed({
        "train": [("a/Cyst- (10).jpg", 0, "a"), ("a/Cyst- (20).jpg", 0, "a")],
        "val": [("a/Cyst- (31).jpg", 0, "a")],
        "test": [(f"a/Cyst- ({n}).jpg", 0, "a") for n in (9, 21, 30, 40)] + [("b/Stone- (11).jpg", 1, "b")],
    })  # fmt: skip
    found = one(of_groups(rows, by_pattern(list(rows.part), grouping, "names")))
    assert found.matters and found.said == (
        "of 5 numbered test images 2 have a neighbouring slice in training, 3 in training or validation (by names)"
    )
    assert [item["paths"] for item in found.items] == [[f"a/Cyst- ({n}).jpg"] for n in (9, 21, 30)]


def csv_of_groups(path: Path, rows: list[tuple[str, str]], head: tuple[str, str] = ("path", "group")) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def test_a_leak_by_table_with_paths_or_names(tmp_path: Path) -> None:
    config = own_split(tmp_path, **three_parts())
    groups = csv_of_groups(tmp_path / "lesions.csv", [("train0", "L1"), ("nowhere", "L3")], ("image_id", "lesion_id"))
    with pytest.raises(UserError, match='"train0" is both train/a/train0.png and train/b/train0.png'):
        checked(config, "DATASET.GROUP_BY", str(groups))
    csv_of_groups(groups, [("train/a/train1", "L2"), ("test\\a\\test0.png", "L2"), ("nowhere", "L3")])
    record = checked(config, "DATASET.GROUP_BY", str(groups))
    found = kinds({"findings": [one for one in record["findings"] if one["kind"] != "groups"]})
    assert found["group in several parts"]["items"] == [{"group": "L2", "parts": {"train": 1, "test": 1}}]
    said = [one["said"] for one in record["findings"] if one["kind"] == "groups"]
    assert said == ["lesions.csv says nothing of 16 images", "1 rows of lesions.csv fit no image"]


MISTAKES = {
    r"(\d+": "is no regular expression (",
    r"\d+": "has no group (…) that names the group",
    r"(?P<eye>\d+)": "has no group (…) that names the group",
    r"zzz(\d+)": "fits none of the 18 images",
    r"(?P<number>[a-z]+)": 'the group "number" fits "',
    "nowhere.csv": "no such file",
}


@pytest.mark.parametrize("given", MISTAKES)
def test_a_group_rule_that_cannot_be_used_is_a_users_mistake(
    given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = own_split(tmp_path, **three_parts())
    assert command.main([str(config), "DATASET.GROUP_BY", given]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: DATASET.GROUP_BY ") and MISTAKES[given] in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "rows, said",
    [([("a.png", "1"), ("a.png", "2")], 'line 3: a.png is in the group "2" here and in "1" before'), ([], "fits none of")],
)
def test_a_table_of_groups_that_cannot_be_used(rows: list[tuple[str, str]], said: str, tmp_path: Path) -> None:
    config = own_split(tmp_path, **three_parts())
    with pytest.raises(UserError, match=said):
        checked(config, "DATASET.GROUP_BY", str(csv_of_groups(tmp_path / "g.csv", rows)))
    with pytest.raises(UserError, match="has no column for the group"):
        checked(config, "DATASET.GROUP_BY", str(csv_of_groups(tmp_path / "g.csv", [], ("path", "colour"))))


# file names as in the published split files -> what is found in them
PUBLISHED = {
    "chmnist": ("adipose_tissue/1085_CRC-Prim-HE-05_032.tif_Row_1501_Col_4051.tif", "05", None),
    "retina": ("normal_retina/2389_left.jpg", "2389", None),
    "ctkidney": ("kidney_tumor/Tumor- (2106).jpg", "Tumor", 2106),
    "kvasir": ("ulcerative_colitis/c801eb98-6af7-4a43-b23c-0351cffaca3b_00000181.jpg",
               "c801eb98-6af7-4a43-b23c-0351cffaca3b", None),
    "kneexray": ("healthy_knee/9001695L.png", "9001695", None),
}  # fmt: skip
NO_GROUP = {"retina": "glaucoma/_78_1065003.jpg", "kvasir": "ulcerative_colitis/c0a53143-cb89-4fb4-bd25-330ae6999815.jpg"}


@pytest.mark.parametrize("key", PUBLISHED)
def test_the_groups_of_published_datasets(key: str) -> None:
    grouping = of_name(key).grouping
    path, group, number = PUBLISHED[key]
    found = by_pattern([path, NO_GROUP.get(key, "x/y.png")], grouping, "")
    assert found.of == {path: group} and found.numbers == ({path: number} if number else {})
