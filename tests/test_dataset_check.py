"""``python -m datasets.check``: each kind of thing that can be wrong with a dataset, in files that the test makes."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from dassl.utils import PixelSettings, UserError
from datasets import phantom
from datasets.check import __main__ as command
from datasets.check.files import look_at
from datasets.check.findings import Finding, listed, of_groups, of_labels
from datasets.check.parallel import ALONE, unreadable
from datasets.check.twins import ALIKE, FAR, near_twins
from datasets.groups import Grouping, by_pattern
from tests.conftest import write_dataset
from tests.own_images import draw, records, run, write_yaml

SIDE = 96


def xray(number: int, key: str = "kneexray") -> Image.Image:
    """A drawn X-ray, another for each number."""
    pixels = phantom.draw(key, "healthy knee" if key == "kneexray" else "normal lungs", seed=1, index=number, size=SIDE).image
    return Image.fromarray(pixels).convert("L")


def own_split(place: Path, **parts: dict[str, dict[str, Image.Image]]) -> Path:
    """A YAML of images by part, class and name, in folders of parts."""
    for part, classes in parts.items():
        for name, images in classes.items():
            (place / "images" / part / name).mkdir(parents=True, exist_ok=True)
            for stem, image in images.items():
                image.save(place / "images" / part / name / f"{stem}.png")
    return write_yaml(place / "mine.yaml", FOLDER=str(place / "images"), MODALITY="X-ray")


def three_parts(**more: Image.Image) -> dict[str, dict[str, dict[str, Image.Image]]]:
    """Different X-rays in each part and class; ``more`` are added to the test images of class b."""
    numbers = iter(range(100))
    parts = {part: {name: {f"{part}{n}": xray(next(numbers)) for n in range(3)} for name in "ab"}
             for part in ("train", "val", "test")}  # fmt: skip
    parts["test"]["b"] |= more
    return parts


def checked(config: Path | str, *opts: str, root: Path | str = "data") -> dict[str, Any]:
    return command.check(command.config_of(str(config), str(root), opts))


def kinds(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The findings by kind."""
    found = {one["kind"]: one for one in record["findings"]}
    assert len(found) == len(record["findings"])
    return found


def wrong(record: dict[str, Any]) -> set[str]:
    return {one["kind"] for one in record["findings"] if one["matters"]}


# -- files ------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def test_nothing_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = own_split(tmp_path, **three_parts())
    for _ in range(2):
        assert command.main([str(config)]) == 0
        out = capsys.readouterr().out
        assert "mine: 18 images (6 train, 6 val, 6 test), 2 classes" in out and "nothing wrong" in out
        assert "PNG, 8-bit grey: 18" in out and "width 96 / 96 / 96" in out and "s per 1,000 images" in out


def test_every_file_that_cannot_be_read_is_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = own_split(tmp_path, **three_parts())
    bad = [tmp_path / "images" / name for name in ("train/a/train0.png", "val/b/val2.png", "test/a/test1.png")]
    cut(bad[0])
    bad[1].write_bytes(b"")
    bad[2].write_text("no image")
    assert command.main([str(config), "--json", str(tmp_path / "found.json")]) == 1
    out = capsys.readouterr().out
    assert "3 files cannot be read (1 train, 1 val, 1 test)" in out
    assert all(path.relative_to(tmp_path / "images").as_posix() + ": " in out for path in bad)
    (record,) = json.loads((tmp_path / "found.json").read_text())["checked"]
    items = kinds(record)["unreadable"]["items"]
    assert len(items) == 3 and all(item["why"] for item in items) and record["readable"] == 15


def test_a_run_that_meets_one_names_them_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("bright", "dark"):
        draw(tmp_path / "images" / kind, kind, 10)
    bad = [tmp_path / "images" / kind / f"{kind}_{n}.png" for kind in ("bright", "dark") for n in (1, 4, 8)]
    for path in bad:
        cut(path)
    config = write_yaml(tmp_path / "mine.yaml", FOLDER=str(tmp_path / "images"), MODALITY="X-ray")
    assert run(config, tmp_path / "out", method="ZeroshotCLIP") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: 6 of 20 images cannot be read as images: ") and "python -m datasets.check" in line
    assert all(str(path) in line for path in bad) and records(tmp_path / "out") == []
    for path in bad:
        path.unlink()
    assert run(config, tmp_path / "out", method="ZeroshotCLIP") == 0


def test_files_are_read_in_processes_as_in_one(tmp_path: Path) -> None:
    paths = draw(tmp_path, "grey", ALONE + 6)
    cut(paths[3])
    names = [path.name for path in paths]
    alone, together = (look_at(tmp_path, names, PixelSettings(), workers, "") for workers in (1, 2))
    assert [one.path for one in together] == names and [bool(one.reason) for one in together].index(True) == 3
    assert [(one.pixels, one.file, one.reason) for one in alone] == [(one.pixels, one.file, one.reason) for one in together]
    assert [one.path for one in unreadable([str(path) for path in paths], PixelSettings())] == [str(paths[3])]


def test_the_settings_of_the_reader_are_the_configs(tmp_path: Path) -> None:
    config = own_split(tmp_path, **three_parts())
    assert "unreadable" in kinds(checked(config, "INPUT.MAX_PIXELS", "100"))
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16).save(tmp_path / "images/test/a/deep.png")
    record = checked(config)
    assert record["kinds"]["PNG, 16-bit grey"] == 1 and record["width"] == {"min": 64, "median": 96, "max": 96}


# -- twins ------------------------------------------------------------------------------------------------


def test_the_same_image_in_two_parts_and_under_two_labels(tmp_path: Path) -> None:
    config = own_split(tmp_path, **three_parts())
    images = tmp_path / "images"
    shutil.copy(images / "train/a/train0.png", images / "test/a/copy.png")
    Image.open(images / "train/a/train1.png").save(images / "train/b/again.bmp")
    record = checked(config)
    found = kinds(record)
    parts, labels = found["same image in two parts"], found["same image under two labels"]
    assert parts["said"].endswith("1 test images are in training too")
    assert parts["items"] == [{"paths": ["train/a/train0.png", "test/a/copy.png"], "why": "train / test; the same file"}]
    assert labels["items"][0]["why"] == "a / b; the same pixels in different files"
    assert wrong(record) == {"same image in two parts", "same image under two labels"}


def test_the_same_image_twice_in_one_place_is_to_be_known(tmp_path: Path) -> None:
    config = own_split(tmp_path, **three_parts())
    shutil.copy(tmp_path / "images/train/a/train0.png", tmp_path / "images/train/a/copy.png")
    record = checked(config)
    assert kinds(record)["same image again"]["items"][0]["paths"] == ["train/a/copy.png", "train/a/train0.png"]
    assert wrong(record) == set() and command.main([str(config)]) == 0


def recompressed(image: Image.Image, place: Path) -> Image.Image:
    image.save(place / "small.jpg", quality=50)
    with Image.open(place / "small.jpg") as read:
        return read.copy()


CHANGES: dict[str, Callable[[Image.Image, Path], Image.Image]] = {
    "": lambda image, place: recompressed(image, place),
    "half": lambda image, place: image.resize((SIDE // 2, SIDE // 2)),
    "brighter": lambda image, place: ImageEnhance.Brightness(image).enhance(1.15),
    "noise": lambda image, place: Image.fromarray(
        (np.asarray(image) + np.random.default_rng(0).normal(0, 4, (SIDE, SIDE))).clip(0, 255).astype(np.uint8)),
    "mirrored": lambda image, place: recompressed(ImageOps.mirror(image), place),
    "upside down": lambda image, place: recompressed(ImageOps.flip(image), place),
    "turned by 180 degrees": lambda image, place: image.rotate(180),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_near_duplicate_is_found(change: str, tmp_path: Path) -> None:
    parts = three_parts()
    config = own_split(tmp_path, **parts)
    CHANGES[change](parts["train"]["a"]["train1"], tmp_path).save(tmp_path / "images/test/a/near.png")
    record = checked(config)
    (item,) = kinds(record)["near-duplicate in two parts"]["items"]
    assert item["paths"] == ["train/a/train1.png", "test/a/near.png"] and wrong(record) == {"near-duplicate in two parts"}
    if " " in change or change == "mirrored":
        assert f"; {change}, " in item["why"]


def test_a_near_duplicate_of_an_exact_copy_counts_with_all_of_them(tmp_path: Path) -> None:
    config = own_split(tmp_path, **three_parts())
    images = tmp_path / "images"
    shutil.copy(images / "train/a/train0.png", images / "test/a/copy.png")
    recompressed(xray(0), tmp_path).save(images / "val/a/near.png")  # xray(0) is train0
    (item,) = kinds(checked(config))["near-duplicate in two parts"]["items"]
    assert sorted(item["paths"]) == ["test/a/copy.png", "train/a/train0.png", "val/a/near.png"]


def test_different_xrays_are_no_duplicates(tmp_path: Path) -> None:
    images = [xray(n, key) for key in ("kneexray", "covid") for n in range(30)]
    rng = np.random.default_rng(3)
    base = np.asarray(xray(200), np.float32)
    images += [Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)) for _ in range(10)]
    images += [Image.fromarray(np.full((SIDE, SIDE), level, np.uint8)) for level in range(0, 200, 20)]  # nothing in them
    shift = np.roll(base, 12, axis=1)
    images += [Image.fromarray(base.astype(np.uint8)), Image.fromarray(shift.astype(np.uint8))]
    for n, image in enumerate(images):
        image.save(tmp_path / f"{n}.png")
    looks = look_at(tmp_path, [f"{n}.png" for n in range(len(images))], PixelSettings(), 1, "")
    twins, flat = near_twins(looks)
    assert twins == [] and flat == 10
    assert FAR <= 16 and ALIKE >= 0.98  # what docs/DATASETS.md states


# -- labels -----------------------------------------------------------------------------------------------


def test_labels_of_a_split_file(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, "BTMRI", ("glioma tumor", "meningioma tumor", "pituitary tumor", "normal brain"))
    path = root / "BTMRI/split_BTMRI.json"
    split = json.loads(path.read_text())
    assert wrong(checked("btmri", root=root)) <= {"near-duplicate in two parts", "near-duplicate under two labels"}
    split["test"].append(split["train"][0])
    split["train"][1][1:] = [3, "normal brain"]
    split["val"].append(["glioma_tumor/gone.png", 0, "glioma tumor"])
    gone = split["train"].pop(2)[0]
    path.write_text(json.dumps(split))
    found = kinds(checked("BTMRI", root=root))
    assert found["listed twice"]["items"] == [
        {"paths": [split["train"][0][0]], "why": "once as train, glioma tumor, once as test, glioma tumor"}]  # fmt: skip
    assert found["label against folder"]["items"][0]["why"] == "labelled normal brain"
    assert found["missing"]["items"] == [{"paths": ["glioma_tumor/gone.png"], "why": "val"}]
    assert found["in no part"]["items"] == [{"paths": [gone]}] and not found["in no part"]["matters"]


def test_gaps_in_labels_and_classes_without_images() -> None:
    rows = listed({"train": [("a/1.png", 0, "a"), ("b/1.png", 2, "b")], "val": [], "test": [("a/2.png", 0, "a")]})
    said = {one.kind: one.said for one in of_labels(rows) if one.kind == "labels"}
    assert said == {"labels": "the labels are [0, 2], not 0 to 1"}
    lacking = [one.said for one in of_labels(rows) if one.kind == "class without images"]
    assert lacking == ["no val images of a, b", "no test images of b"]


# -- groups -----------------------------------------------------------------------------------------------


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
    grouping = command.of_name(key).grouping
    path, group, number = PUBLISHED[key]
    found = by_pattern([path, NO_GROUP.get(key, "x/y.png")], grouping, "")
    assert found.of == {path: group} and found.numbers == ({path: number} if number else {})


# -- the command ------------------------------------------------------------------------------------------


def test_several_datasets_and_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = own_split(tmp_path, **three_parts())
    assert command.main(["btmrii", str(config)]) == 2
    told = capsys.readouterr()
    assert 'unknown dataset "btmrii". Did you mean "btmri"?' in told.err and "nothing wrong" in told.out
    for words, said in ((["btmri", "--root", str(tmp_path)], "Get BTMRI.zip"),
                        ([str(tmp_path / "none.yaml")], "no config file"),
                        ([str(config), "DATASET.GROUPBY", "x"], 'Did you mean "DATASET.GROUP_BY"?'),
                        ([str(config), "DATASET.NUM_SHOTS", "2"], "DATASET.NUM_SHOTS is not read here"),
                        ([str(config), "DATASET.SPLIT", "leakfree"], "must be grouped"),
                        ([str(config), "--json", str(config / "x.json")], "cannot be written"),
                        ([str(config), "--workers", "-1"], "--workers is -1")):  # fmt: skip
        assert command.main(words) == 2
        assert said in capsys.readouterr().err


def test_an_own_dataset_is_called_as_in_runs(tmp_path: Path) -> None:
    config = own_split(tmp_path, **three_parts())
    assert checked(config)["dataset"] == "mine" and checked(config, "DATASET.TITLE", "Knees")["dataset"] == "Knees"
