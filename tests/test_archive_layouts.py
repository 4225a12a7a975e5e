"""A dataset's archive in the forms that people pack it, and what is said of others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dassl.utils import UserError
from datasets import by_key
from datasets.archives import install, report
from tests.conftest import BTMRI_CLASSES, write_dataset
from tests.fake_hub import zipped

CLS = by_key()["btmri"]
SPLIT = "split_BTMRI.json"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """``BTMRI/BTMRI/<class>/…`` and the split file, as published."""
    return write_dataset(tmp_path / "made", "BTMRI", BTMRI_CLASSES, per_class=4)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def placed(folder: Path, root: Path, prefix: str = "") -> str:
    """What is said of a folder's archive once it is in place."""
    zipped(folder, root.parent / "a.zip", prefix)
    install(root.parent / "a.zip", root, CLS)
    assert not [path for path in root.iterdir() if path.name != "BTMRI"]
    line, notes = report(root, CLS)
    return "; ".join([line, *notes])


def test_as_published(made: Path, root: Path) -> None:
    (made / "BTMRI" / "masks").mkdir()
    (made / "BTMRI" / "masks" / "1.png").write_text("kept")
    assert placed(made, root).startswith("16 images (train 8, val 0, test 8)")
    assert (root / "BTMRI" / "masks" / "1.png").read_text() == "kept"


def test_one_folder_less_or_more(made: Path, root: Path) -> None:
    for folder, prefix in ((made / "BTMRI", ""), (made, "download/of today/")):
        assert placed(folder, root, prefix).startswith("16 images")
        shutil.rmtree(root / "BTMRI")


def test_the_class_folders_themselves_with_the_split_beside_them(made: Path, root: Path) -> None:
    flat = made / "BTMRI" / "BTMRI"
    shutil.move(made / "BTMRI" / SPLIT, flat / SPLIT)
    for prefix in ("", "BTMRI/"):
        assert placed(flat, root, prefix).startswith("16 images")
        assert not (root / "BTMRI" / "BTMRI" / SPLIT).exists()
        shutil.rmtree(root / "BTMRI")


def test_no_split_file_is_a_warning(made: Path, root: Path) -> None:
    (made / "BTMRI" / SPLIT).unlink()
    for folder in (made, made / "BTMRI" / "BTMRI"):
        assert "16 images in" in (said := placed(folder, root)) and "which is not the published one" in said
        assert {path.name for path in (root / "BTMRI" / "BTMRI").iterdir()} == {c.replace(" ", "_") for c in BTMRI_CLASSES}
        shutil.rmtree(root / "BTMRI")


def test_into_a_folder_that_has_something_of_the_dataset(made: Path, root: Path) -> None:
    (root / "BTMRI" / "split_fewshot").mkdir(parents=True)
    shutil.copy(made / "BTMRI" / SPLIT, root / "BTMRI" / SPLIT)
    assert placed(made, root).startswith("16 images") and (root / "BTMRI" / "split_fewshot").is_dir()


def refused(folder: Path, root: Path) -> str:
    with pytest.raises(UserError) as told:
        placed(folder, root)
    assert "\n" not in str(told.value) and list(root.iterdir()) == []
    return str(told.value)


def test_missing_images_put_nothing_in_place(made: Path, root: Path) -> None:
    (made / "BTMRI" / "BTMRI" / "normal_brain" / "003.png").unlink()
    assert "lacks 1 of the 16 images that its split file names, first normal_brain/003.png" in refused(made, root)


def test_other_archives_are_said_to_be_others(tmp_path: Path, root: Path, made: Path) -> None:
    other = tmp_path / "other"
    (other / "papers").mkdir(parents=True)
    (other / "papers" / "one.txt").write_text("no image")
    assert "no class folders with images, but 1 files: papers/one.txt" in refused(other, root)
    for folder in (made / "BTMRI" / "BTMRI").iterdir():
        folder.rename(folder.with_name(f"{folder.name} of another"))
    assert "nowhere in the archive; it holds 17 files" in refused(made, root)
    (made / "BTMRI" / SPLIT).write_text("{}")
    assert "must hold the lists" in refused(made, root)


def test_missing_images_of_a_dataset_in_place(made: Path) -> None:
    (made / "BTMRI" / "BTMRI" / "normal_brain" / "003.png").unlink()
    with pytest.raises(UserError, match="1 of the 16 images .* first normal_brain/003.png; move .* away and run"):
        report(made, CLS)


def test_backslashes_in_the_split_file(made: Path, root: Path) -> None:
    path = made / "BTMRI" / SPLIT
    split = {
        part: [[row[0].replace("/", "\\"), *row[1:]] for row in rows] for part, rows in json.loads(path.read_text()).items()
    }
    path.write_text(json.dumps(split))
    assert placed(made, root).startswith("16 images")
