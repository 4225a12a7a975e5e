"""``python -m datasets.check``: each kind of thing that can be wrong with a dataset, in files that the test makes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from dassl.utils import PixelSettings
from datasets.check import __main__ as command
from datasets.check.files import look_at
from datasets.check.findings import listed, of_labels
from datasets.check.parallel import ALONE, unreadable
from datasets.check.twins import ALIKE, FAR, near_twins
from tests.conftest import write_dataset
from tests.own_images import draw, records, run, write_yaml
from tests.xrays import SIDE, checked, kinds, own_split, three_parts, wrong, xray

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


# -- the command ------------------------------------------------------------------------------------------


def test_several_datasets_and_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = own_split(tmp_path, **three_parts())
    assert command.main(["btmrii", str(config)]) == 2
    told = capsys.readouterr()
    assert 'unknown dataset "btmrii". Did you mean "btmri"?' in told.err and "nothing wrong" in told.out
    for words, said in ((["btmri", "--root", str(tmp_path)], "no BTMRI images"),
                        ([str(tmp_path / "none.yaml")], "no config file"),
                        ([str(config), "DATASET.GROUPBY", "x"], 'Did you mean "DATASET.GROUP_BY"?'),
                        ([str(config), "DATASET.NUM_SHOTS", "2"], "DATASET.NUM_SHOTS is not read here"),
                        ([str(config), "DATASET.SPLIT", "leakfree"], "must be grouped"),
                        ([str(config), "DATASET.CSV", "x.csv", "--show", "1"], "--show stands behind KEY VALUE pairs"),
                        ([str(config), "INPUT.WINDOW", "5"], "INPUT.WINDOW 5: must be numbers with commas, as 1,2"),
                        ([str(config), "--json", str(config / "x.json")], "cannot be written"),
                        ([str(config), "--workers", "-1"], "--workers is -1")):  # fmt: skip
        assert command.main(words) == 2
        assert said in capsys.readouterr().err


def test_an_own_dataset_is_called_as_in_runs(tmp_path: Path) -> None:
    config = own_split(tmp_path, **three_parts())
    assert checked(config)["dataset"] == "mine" and checked(config, "DATASET.TITLE", "Knees")["dataset"] == "Knees"
