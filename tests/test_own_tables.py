"""Own images by a CSV, and MedMNIST's exports and archives."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.own_images import dataset, draw, parts, records, refused, run, write_yaml


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """``images`` with 24 files, 12 of them dark, and ``mine.yaml`` that names ``table.csv`` in it."""
    draw(tmp_path / "images", "dark", 12)
    draw(tmp_path / "images" / "more", "bright", 12)
    write_yaml(tmp_path / "mine.yaml", FOLDER=str(tmp_path / "images"), CSV="table.csv")
    return tmp_path


ROWS = [[f"dark_{n}.png", "low", "test" if n > 8 else "train"] for n in range(12)] + [
    [f"more/bright_{n}.png", "high", "Testing" if n > 8 else "TRAIN"] for n in range(12)
]


def table(place: Path, head: list[str], rows: list[list[str]], delimiter: str = ",", encoding: str = "utf-8") -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([head, *rows] if head else rows)
    (place / "images" / "table.csv").write_text(text.getvalue(), encoding=encoding)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["path", "Filename", "image", "IMAGE_ID"]),
    label=st.sampled_from(["class", "dx", "Label", "target"]),
    split=st.sampled_from(["split", "Part", ""]),
    delimiter=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig"]),
    windows=st.booleans(),
)
def test_usual_columns_are_known(
    path: str, label: str, split: str, delimiter: str, encoding: str, windows: bool, place: Path
) -> None:
    rows = [[row[0].replace("/", "\\") if windows else row[0], row[1], *([row[2]] if split else [])] for row in ROWS]
    table(place, [path, label, *([split] if split else [])], rows, delimiter, encoding)
    found = dataset(place / "mine.yaml")
    assert list(found.classnames) == ["high", "low"]
    paths = parts(found, "impath")
    assert sum(map(len, paths.values())) == 24 and all(Path(path).is_file() for own in paths.values() for path in own)
    for item in found.train_x + found.val + found.test:
        assert item.classname == ("low" if "dark" in item.impath else "high")
    if split:
        given = {str(place / "images" / row[0]) for row in ROWS if row[2].lower().startswith("test")}
        assert set(paths["test"]) == given and len(paths["train"]) == 12 and len(paths["val"]) == 6


def test_named_columns_suffixes_and_order_of_labels(place: Path) -> None:
    table(place, ["label", "scan", "grade", "finding"], [["x", Path(row[0]).with_suffix("").as_posix(), str(n < 12), "10"
          if n < 12 else "9"] for n, row in enumerate(ROWS)])  # fmt: skip
    found = dataset(place / "mine.yaml", CSV_PATH="scan", CSV_LABEL="finding", CLASSNAMES=["bright one", "dark one"])
    assert list(found.classnames) == ["bright one", "dark one"]
    assert all((item.classname == "dark one") == ("dark" in item.impath) for item in found.train_x + found.test)
    both = dataset(place / "mine.yaml", CSV_PATH="scan", CSV_LABEL="finding", CSV_CLASS="grade")
    assert list(both.classnames) == ["False", "True"]  # 9 before 10


def test_a_table_without_a_folder_few_shot_and_base_to_new(place: Path) -> None:
    table(place, ["path", "class", "split"], ROWS)
    config = write_yaml(place / "alone.yaml", CSV=str(place / "images" / "table.csv"), MODALITY="MRI")
    for task in ("few_shot", "base2new"):
        assert run(config, place / "out", task=task) == 0
    assert {(r["dataset"], r["split"], r["num_test"]) for r in records(place / "out")} == {
        ("alone", "all", 6), ("alone", "base", 3), ("alone", "new", 3)}  # fmt: skip


def test_groups_stay_whole_where_a_split_is_drawn(place: Path) -> None:
    table(place, ["path", "class", "patient"], [[row[0], row[1], f"p{n % 12 // 2}"] for n, row in enumerate(ROWS)])
    found = dataset(place / "mine.yaml")
    where: dict[int, set[str]] = {}
    for part, paths in parts(found, "impath").items():
        for path in paths:
            where.setdefault(int(Path(path).stem.split("_")[1]) // 2, set()).add(part)
    assert len(where) == 6 and all(len(found) == 1 for found in where.values())
    assert "6 groups, each whole in one part" in found.notes
    table(place, ["path", "class", "split", "patient"], [[*row, f"p{n % 12}"] for n, row in enumerate(ROWS)])
    assert all("more than one part" not in note for note in dataset(place / "mine.yaml").notes)
    table(place, ["path", "class", "split", "patient"], [[*row, "one"] for row in ROWS])
    assert "1 of 1 groups have images in more than one part of the split" in refused_or_notes(place)
    table(place, ["path", "class", "patient"], [[row[0], row[1], "one"] for row in ROWS])
    assert "the groups leave no" in refused(place / "mine.yaml")


def refused_or_notes(place: Path) -> str:
    """What is said of a split whose parts are all given."""
    rows = [[row[0], row[1], "val" if n % 12 == 5 else row[2], "one"] for n, row in enumerate(ROWS)]
    table(place, ["path", "class", "split", "patient"], rows)
    return "; ".join(dataset(place / "mine.yaml").notes)


MISTAKES = {
    "has no column for the path: name it, DATASET.CSV_PATH; its columns: a, class": (["a", "class"], ROWS),
    "has no column for the label or class": (["path", "b"], ROWS),
    "line 2: the split is \"later\"": (["path", "class", "split"], [["dark_0.png", "a", "later"]]),
    "line 3: dark_0.png stands in line 2 already": (["path", "class"], [["dark_0.png", "a"], ["./dark_0.png", "b"]]),
    "line 2: no image nowhere.png": (["path", "class"], [["nowhere.png", "a"]]),
    "line 2: ../mine.yaml lies outside": (["path", "class"], [["../mine.yaml", "a"]]),
    "line 2: C:\\x.png is a path on a Windows disk": (["path", "class"], [["C:\\x.png", "a"]]),
    "line 2: 3 cells under 2 columns": (["path", "class"], [["dark_0.png", "opacity", " left"]]),
    "line 3: no label": (["path", "label"], [["dark_0.png", "0"], ["dark_1.png", "nan"]]),
    "has a header and no rows": (["path", "class"], []),
    "line 2: no class": (["path", "class"], [["dark_0.png", ""]]),
    "line 2: no path": (["path", "class"], [["", "a"]]),
    "some rows have a split and some have none": (["path", "class", "split"], [[*ROWS[0][:2], ""], ROWS[1]]),
    'the class "low" has the label 1 here and 0 before': (
        ["path", "class", "label"], [[row[0], row[1], str(n)] for n, row in enumerate(ROWS)]),
    "two classes have the label 0": (["path", "class", "label"], [[row[0], row[1], "0"] for row in ROWS]),
    "line 2: several labels for one image": ([], [["TRAIN", "dark_0.png", "0"], ["TEST", "dark_1.png", "0", "1"]]),
    "has no images for training, only for test": (["path", "class", "split"], [["dark_0.png", "a", "test"]]),
    "is empty": ([], []),
}  # fmt: skip


@pytest.mark.parametrize("said", MISTAKES)
def test_a_mistake_is_told_with_its_line(said: str, place: Path) -> None:
    table(place, *MISTAKES[said])
    assert said in refused(place / "mine.yaml")


def test_labels_are_numbers_however_they_are_written(place: Path) -> None:
    for written, names in ((("0.0", "2.0", "10.0"), ["0", "2", "10"]), (("-1", "0", "1"), ["-1", "0", "1"])):
        table(place, ["path", "label"], [[row[0], written[n % 3]] for n, row in enumerate(ROWS)])
        assert dataset(place / "mine.yaml").all_classnames == names
    table(place, ["path", "label"], [[row[0], f"{n % 2}.0"] for n, row in enumerate(ROWS)])
    mapped = write_yaml(
        place / "mapped.yaml", FOLDER=str(place / "images"), CSV="table.csv", CLASSNAMES={1.0: "ill", 0.0: "well"}
    )
    assert dataset(mapped).all_classnames == ["ill", "well"]
    table(place, ["path", "class"], [[row[0], "a\nb" if n % 2 else "c"] for n, row in enumerate(ROWS)])
    assert dataset(place / "mine.yaml").all_classnames == ["a b", "c"]


def test_names_of_images_are_searched_and_columns_known_as_nih_has_them(place: Path) -> None:
    rows = [[Path(row[0]).name.upper(), "No Finding" if n % 2 else "Mass|Nodule", f"p{n // 2}"] for n, row in enumerate(ROWS)]
    table(place, ["Image Index", "Finding Labels", "Patient ID"], rows)
    said = (found := dataset(place / "mine.yaml")).notes
    assert sum(map(len, parts(found).values())) == 24 and "12 groups, each whole in one part" in said
    assert any(note.startswith("24 images found by their names alone") for note in said)
    assert '1 classes are several findings in one, "Mass|Nodule" say' in said
    draw(place / "images" / "twin", "dark", 1)
    assert "DARK_0.PNG is both dark_0.png and twin/dark_0.png" in refused(place / "mine.yaml")


def test_paths_through_a_link_to_the_folder(place: Path) -> None:
    (place / "link").symlink_to(place / "images")
    table(place, ["path", "class"], [[str(place / "link" / row[0]), row[1]] for row in ROWS])
    linked = write_yaml(place / "linked.yaml", FOLDER=str(place / "link"), CSV="table.csv")
    assert sum(map(len, parts(dataset(linked)).values())) == 24


def test_columns_and_tables_that_are_not_there(place: Path) -> None:
    assert "no such file" in refused(place / "mine.yaml")
    table(place, ["path", "class"], ROWS)
    assert 'has no column "kind" (DATASET.CSV_CLASS)' in refused(place / "mine.yaml", CSV_CLASS="kind")
    assert "INCLUDE and EXCLUDE are not read" in refused(place / "mine.yaml", EXCLUDE=["more"])
    assert "is table.csv a table of the images? DATASET.CSV table.csv" in refused(
        write_yaml(place / "none.yaml", FOLDER=str(place / "images"), EXCLUDE=["more"]))  # fmt: skip


# -- MedMNIST ---------------------------------------------------------------------------------------------


def archive(path: Path, colours: int = 3, labels: int = 1, dtype: type = np.uint8) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for part, count in (("train", 12), ("val", 3), ("test", 6)):
        shape = (count, 28, 28, 3) if colours == 3 else (count, 28, 28)
        arrays[f"{part}_images"] = rng.integers(0, 255, shape).astype(dtype)
        arrays[f"{part}_labels"] = np.stack([np.arange(count) % 3] * labels, axis=1).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return arrays


@pytest.mark.parametrize("colours", [1, 3])
def test_an_archive_of_medmnist(colours: int, tmp_path: Path) -> None:
    arrays = archive(tmp_path / "bloodmnist.npz", colours)
    config = write_yaml(tmp_path / "blood.yaml", FOLDER=str(tmp_path / "bloodmnist.npz"), CLASSNAMES=["one", "two", "three"])
    found = dataset(config)
    assert {part: len(items) for part, items in parts(found).items()} == {"train": 12, "val": 3, "test": 6}
    for part, items in (("train", found.train_x), ("val", found.val), ("test", found.test)):
        for item in items:
            number = int(Path(item.impath).stem)
            assert np.array_equal(np.asarray(Image.open(item.impath)), arrays[f"{part}_images"][number])
            assert item.label == number % 3 and item.classname == ("one", "two", "three")[item.label]
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert len(written) == 21
    dataset(config)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")} == written, "written once"
    other = archive(tmp_path / "bloodmnist.npz", 4 - colours)
    first = next(item for item in dataset(config).train_x if item.impath.endswith("000000.png"))
    assert np.array_equal(np.asarray(Image.open(first.impath)), other["train_images"][0]), "another archive of that name"


def test_an_archive_few_shot_and_base_to_new(tmp_path: Path) -> None:
    archive(tmp_path / "bloodmnist.npz")
    config = write_yaml(tmp_path / "blood.yaml", FOLDER="bloodmnist.npz", CLASSNAMES=["one", "two", "three"])
    for task in ("few_shot", "base2new"):
        assert run(config, tmp_path / "out", task=task, seeds=(1, 2)) == 0
    assert {(r["dataset"], r["split"], r["num_test"]) for r in records(tmp_path / "out")} == {
        ("blood", "all", 6), ("blood", "base", 4), ("blood", "new", 2)}  # fmt: skip


def test_other_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    config = write_yaml(tmp_path / "x.yaml", FOLDER=str(path))
    archive(path, labels=14)
    assert "14 labels for one image" in refused(config)
    archive(path, dtype=np.float32)
    assert "train_images is float32 (12, 28, 28, 3); images are bytes" in refused(config)
    np.savez(path, images=np.zeros(3))
    assert "has no train_images" in refused(config)
    path.write_bytes(b"PK, or not")
    assert "is no archive of MedMNIST's" in refused(config)
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] == [], "nothing half written is left"


def test_medmnists_export_is_found_beside_its_folder(tmp_path: Path) -> None:
    draw(tmp_path / "organ", "dark", 12)
    lines = [f"{('TRAIN', 'VALIDATION', 'TEST')[n % 3]},dark_{n}.png,{n // 6}" for n in range(12)]
    (tmp_path / "organ.csv").write_text("\n".join(lines) + "\n")
    config = write_yaml(tmp_path / "mine.yaml", FOLDER=str(tmp_path / "organ"), CLASSNAMES={"1": "b", "0": "a"})
    found = dataset(config)
    assert list(found.classnames) == ["b", "a"] and {p: len(x) for p, x in parts(found).items()} == {
        "train": 4, "val": 4, "test": 4}  # fmt: skip
    assert json.dumps(found.notes).count("MedMNIST's own table") == 1
    (tmp_path / "organ.csv").write_text("name,age\nx,3\n")  # another table that happens to lie there
    assert "holds no class folders" in refused(config)
