"""Layouts of own images in folders: parts above classes, names for folders, sub-folders, globs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dassl.utils import UserError
from datasets.made_splits import PART_NAMES
from runs.inference import find_images
from tests.own_images import dataset, draw, parts, records, refused, run, write_yaml

HERE = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder ``images``, and ``mine.yaml`` that names it."""
    (tmp_path / "images").mkdir()
    write_yaml(tmp_path / "mine.yaml", FOLDER=str(tmp_path / "images"))
    return tmp_path


def fill(place: Path, **counts: int) -> None:
    """``train__dark=3`` draws three images in ``images/train/dark``; the kind is the first known word of the path."""
    for number, (below, count) in enumerate(counts.items()):
        draw(place / "images" / below.replace("__", "/"), "dark", count, start=100 * number)


@HERE
@given(train=st.sampled_from(["train", "Training", "TRAIN"]), test=st.sampled_from(["test", "Testing", "TEST"]),
       val=st.sampled_from(["", "val", "Valid", "VALIDATION"]))  # fmt: skip
def test_folders_of_parts_are_parts(train: str, test: str, val: str, tmp_path_factory) -> None:
    place = tmp_path_factory.mktemp("parts")
    for top, count in ((train, 14), (test, 5), *([(val, 3)] if val else [])):
        for kind in ("sick_one", "well"):
            draw(place / "x" / top / kind, kind, count)
    found = dataset(write_yaml(place / "mine.yaml", FOLDER=str(place / "x")))
    sizes = {part: len(names) for part, names in parts(found).items()}
    assert sizes == ({"train": 28, "val": 6, "test": 10} if val else {"train": 20, "val": 8, "test": 10})
    assert list(found.classnames) == ["sick one", "well"]
    for part, paths in parts(found, "impath").items():
        tops = {PART_NAMES[Path(path).relative_to(place / "x").parts[0].lower()] for path in paths}
        assert tops == {"train" if part == "val" and not val else part}
    said = " ".join(found.notes)
    assert f"{train} = train" in said and ("val drawn from the training images, 50/20" in said) == (not val)


def test_parts_few_shot_and_base_to_new(place: Path) -> None:
    fill(place, Training__dark=8, Training__well=8, Testing__dark=3, Testing__well=3)
    for task in ("few_shot", "base2new"):
        assert run(place / "mine.yaml", place / "out", task=task) == 0
    assert {(r["split"], r["num_test"]) for r in records(place / "out")} == {("all", 6), ("base", 3), ("new", 3)}
    (log,) = (place / "out" / "few_shot").rglob("log.txt")
    assert "mine: folders as split parts: Testing = test, Training = train" in log.read_text()


def test_a_training_folder_alone_is_divided(place: Path) -> None:
    fill(place, train__a=10, train__b=10)
    assert {part: len(x) for part, x in parts(dataset(place / "mine.yaml")).items()} == {"train": 10, "val": 4, "test": 6}


MISTAKES = {
    "and no folder for training: rename one to train": {"val__a": 3, "test__a": 3},
    'beside extra: leave these out, DATASET.EXCLUDE ["extra"]': {"train__a": 3, "test__a": 3, "extra__a": 3},
    "for one part": {"train__a": 3, "Training__a": 3, "test__a": 3},
    'holds images outside class folders, first dark_200.png: sort': {"train__a": 3, "train__b": 3, "test": 3},
    'has no training images of the class "b"': {"train__a": 5, "test__a": 3, "test__b": 3},
    "holds one folder, brain, with folders in it (a, b)": {"brain__a": 3, "brain__b": 3},
    "holds one folder, x/data, with folders in it (test, train)": {"x__data__train__a": 3, "x__data__test__a": 3},
    'test_images holds images outside class folders': {"train_images__a": 3, "train_images__b": 3, "test_images": 3},
    'holds masks beside images: if these are pictures made from the images, leave them out, DATASET.EXCLUDE ["masks"]': {
        "images": 3, "masks": 3},
    "holds no class folders": {},
    "holds 0 images": {"a": 3, "b": 0},
    "holds 2 images; a split needs at least 3 per class": {"a": 3, "b": 2},
    '"a-b" and "a_b" are one class': {"a-b": 3, "a_b": 3},
    "images (3), masks (3). Name what is meant, DATASET.INCLUDE [\"images\"], or what is not, DATASET.EXCLUDE [\"masks\"]": {
        "a__images": 3, "a__masks": 3, "b__images": 3, "b__masks": 3},
    "x (3), y (3). Name": {"a__x": 3, "a__y": 3, "b__x": 3, "b__y": 3},
    "the folder itself (3), more (3)": {"a": 3, "a__more": 3, "b": 3},
    "ground_truth (3)": {"a__p1": 3, "a__ground_truth": 3, "b": 3},
}  # fmt: skip


@pytest.mark.parametrize("said", MISTAKES)
def test_what_can_be_read_in_two_ways_is_named(said: str, place: Path) -> None:
    fill(place, **MISTAKES[said])
    assert said in refused(place / "mine.yaml")


def test_include_and_exclude_choose(place: Path) -> None:
    fill(place, a__images=4, a__masks=4, b__images=4, b__masks=4)
    for more in ({"INCLUDE": ["images"]}, {"EXCLUDE": ["masks"]}, {"INCLUDE": ["*/images/*"]}):
        found = dataset(place / "mine.yaml", **more)
        assert {Path(path).parent.name for own in parts(found, "impath").values() for path in own} == {"images"}
        assert "8 images left out by DATASET.INCLUDE and EXCLUDE" in found.notes
    assert sum(map(len, parts(dataset(place / "mine.yaml", INCLUDE=["*"])).values())) == 16
    assert 'DATASET.EXCLUDE "maks" fits no image' in refused(place / "mine.yaml", EXCLUDE=["maks"])
    assert "leave none of the 16 images" in refused(place / "mine.yaml", EXCLUDE=["*"])
    assert run(place / "mine.yaml", place / "out", "DATASET.EXCLUDE", "['masks']") == 0
    # a run with other images does not go on in the same folder
    assert run(place / "mine.yaml", place / "out", "DATASET.INCLUDE", "['masks']") == 2


def test_pictures_made_from_images_beside_them(place: Path) -> None:
    for kind in ("a", "b"):
        for path in draw(place / "images" / kind, kind, 4):
            path.with_name(f"{path.stem}_mask.png").write_bytes(path.read_bytes())
    assert "holds 4 pictures made from others" in (said := refused(place / "mine.yaml")) and 'EXCLUDE ["*mask*"]' in said
    assert sum(map(len, parts(dataset(place / "mine.yaml", EXCLUDE=["*mask*"])).values())) == 8


@pytest.mark.parametrize("name", ["mask_{}", "{}_Mask", "{}.seg", "SEGMENTATION-{}_1", "{}_masks"])
def test_pictures_made_from_images_by_other_names(name: str, place: Path) -> None:
    for kind in ("a", "b"):
        for path in draw(place / "images" / kind, kind, 4):
            made = path.with_name(name.format(path.stem) + ".png")
            if "_1" in name:
                path = path.rename(path.with_stem(f"{path.stem}_1"))
            made.write_bytes(path.read_bytes())
    said = refused(place / "mine.yaml")
    assert "holds 4 pictures made from others" in said
    glob = said.split('EXCLUDE ["')[1].split('"')[0]
    assert sum(map(len, parts(dataset(place / "mine.yaml", EXCLUDE=[glob])).values())) == 8


def test_folders_of_parts_with_another_word(place: Path) -> None:
    fill(place, training_set__dark=8, training_set__well=8, Test_Images__dark=3, Test_Images__well=3)
    found = dataset(place / "mine.yaml")
    assert list(found.classnames) == ["dark", "well"] and len(found.test) == 6
    assert "folders as split parts: Test_Images = test, training_set = train" in found.notes


def test_a_table_beside_folders_of_parts_is_hinted_at(place: Path) -> None:
    fill(place, train=6, test=6)
    (place / "images" / "train.csv").write_text("id_code,diagnosis\n" + "".join(f"dark_{n},{n % 2}\n" for n in range(6)))
    assert "is train.csv a table of the images? DATASET.CSV train.csv" in refused(place / "mine.yaml")
    assert dataset(place / "mine.yaml", CSV="train.csv").all_classnames == ["0", "1"]


def test_sites_above_classes_and_broken_links(place: Path, caplog) -> None:
    fill(place, site_1__a=3, site_1__b=3, site_2__a=3, site_2__b=3)
    assert "if these are the classes, list the images in a table, DATASET.CSV" in refused(place / "mine.yaml")
    (place / "images" / "site_2" / "c").symlink_to(place / "gone")
    caplog.set_level("INFO")
    dataset(place / "mine.yaml", INCLUDE=["*"])
    assert "left out: 1 files (not images: broken links 1)" in caplog.text


def test_a_class_called_mask_is_one_where_it_is_named(place: Path) -> None:
    fill(place, mask=4, bare=4)
    assert "DATASET.CLASSNAMES" in refused(place / "mine.yaml")
    assert list(dataset(place / "mine.yaml", CLASSNAMES=["bare", "mask"]).classnames) == ["bare", "mask"]


@pytest.mark.skipif(sys.platform != "linux", reason="file names that are no UTF-8")
def test_a_name_that_is_no_utf8_is_refused(place: Path) -> None:
    fill(place, a=3, b=3)
    os.rename(place / "images" / "a", os.fsencode(place / "images") + b"/gr\xf6n")
    said = "images/gr\\xf6n/dark_0.png is no UTF-8: rename it"
    assert said in refused(place / "mine.yaml")
    (odd,) = (path for path in (place / "images").iterdir() if path.name != "b")
    for named in (odd, odd / "dark_0.png"):
        with pytest.raises(UserError, match="is no UTF-8"):
            find_images([named])


def test_folders_of_patients_and_one_folder_deeper_are_taken(place: Path) -> None:
    fill(place, a__p1=3, a__p2=3, b__p3__left=4)
    found = dataset(place / "mine.yaml")
    assert sum(map(len, parts(found).values())) == 10 and "a: images of 2 sub-folders are taken" in found.notes
    (pattern,) = (note.split("'")[1] for note in found.notes if note.startswith("if sub-folders are patients"))
    fill(place, **{f"{kind}__q{number}{'__left' if kind == 'b' else ''}": 3 for kind in "ab" for number in range(4)})
    whole = dataset(place / "mine.yaml", GROUP_BY=pattern, SPLIT="grouped")
    where = {part: {Path(path).relative_to(place / "images").parts[:2] for path in paths}
             for part, paths in parts(whole, "impath").items()}  # fmt: skip
    assert not where["train"] & where["test"] and sum(map(len, where.values())) == 11


def test_folders_get_names(place: Path) -> None:
    fill(place, **{"0": 4, "1": 5, "10": 6, "2": 3})
    names = ["none", "mild", "severe", "worst"]
    counts = {"none": 4, "mild": 5, "severe": 3, "worst": 6}
    found = dataset(place / "mine.yaml", CLASSNAMES=names)
    assert list(found.classnames) == names
    every = sum(parts(found).values(), [])
    assert {name: every.count(name) for name in names} == counts
    assert "folders to class names by their order: 0 = none, 1 = mild, 2 = severe, 10 = worst" in found.notes
    swapped = write_yaml(place / "swap.yaml", FOLDER=str(place / "images"), CLASSNAMES={10: "worst", "0": "none"})
    found = dataset(swapped)
    assert list(found.classnames) == ["worst", "none"] and "left out: 1, 2" in " ".join(found.notes)
    assert "the class names are numbers" in " ".join(dataset(place / "mine.yaml").notes)
    assert 'no folder for the class "x"' in refused(place / "mine.yaml", CLASSNAMES=["x", "y"])
    assert "one folder for each of the 1" in refused(place / "mine.yaml", CLASSNAMES=["x"], CLASS_FOLDERS=["0", "1"])


def test_a_split_file_written_on_windows(place: Path) -> None:
    fill(place, a__x=3, b=1)
    rows = [["b\\dark_100.png", 1, "well"], *([f"a\\x\\dark_{n}.png", 0, "sick"] for n in range(3))]
    (place / "images" / "split.json").write_text(json.dumps({"train": rows[:2], "val": rows[2:3], "test": rows[3:]}))
    assert parts(dataset(place / "mine.yaml"), "impath")["test"] == [str(place / "images" / "a" / "x" / "dark_2.png")]
    for bad in ("C:\\data\\x.png", "..\\x.png", "\\x.png"):
        rows[0][0] = bad
        (place / "images" / "split.json").write_text(json.dumps({"train": rows[:2], "val": [], "test": rows[3:]}))
        assert "the path must lie below the image folder" in refused(place / "mine.yaml")
