"""python -m datasets.new: a look at a folder becomes the YAML that a run reads."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets import new
from tests.own_images import dataset, draw, parts


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def own(path: str = "mine.yaml") -> dict:
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))["DATASET"]


def classes(place: Path, **counts: int) -> Path:
    for kind, count in counts.items():
        draw(place / kind, kind, count)
    return place


def test_class_folders(capsys) -> None:
    classes(Path("mine"), bright=10, dark=6)
    Path("mine/.DS_Store").touch()
    assert new.main(["mine", "DATASET.MODALITY", "X-ray"]) == 0
    assert own() == {"NAME": "ImageFolderSplit", "FOLDER": "mine", "MODALITY": "X-ray", "ORGAN": "",
                     "CLASSNAMES": {"bright": "bright", "dark": "dark"}}  # fmt: skip
    said = capsys.readouterr().out
    for part in ("mine: 16 images (train 8, val 3, test 5), 2 classes", "10  bright", "6  dark", "all 24 x 24 pixels",
                 "PNG, 8-bit grey 16", "left out: 1 files", "next: python -m datasets.check mine.yaml"):  # fmt: skip
        assert part in said
    found = dataset(Path("mine.yaml"))
    assert list(found.classnames) == ["bright", "dark"] and found.template == "a X-ray photo of a {}."


def test_a_setting_of_nothing_is_kept() -> None:
    classes(Path("mine"), bright=12, dark=12)
    assert new.main(["mine", "DATASET.SPLIT_SEED", "0"]) == 0 and own()["SPLIT_SEED"] == 0
    assert "seed 0" in " ".join(dataset(Path("mine.yaml")).notes)


def test_a_second_call_does_not_overwrite(capsys) -> None:
    classes(Path("mine"), bright=4, dark=4)
    assert new.main(["mine"]) == 0
    before = Path("mine.yaml").read_bytes()
    assert new.main(["mine"]) == 2 and "is there already" in capsys.readouterr().err
    assert Path("mine.yaml").read_bytes() == before and new.main(["mine", "-o", "other.yaml"]) == 0


def test_parts_numbers_and_sizes(capsys) -> None:
    classes(Path("knee/Train/0"), bright=6)
    classes(Path("knee/Train/1"), dark=6)
    classes(Path("knee/test/0"), bright=2)
    classes(Path("knee/test/1"), dark=2)
    for number in ("0", "1"):
        for part in ("Train", "test"):
            (inner,) = Path("knee", part, number).iterdir()
            for path in inner.iterdir():
                path.rename(path.parent.parent / path.name)
            inner.rmdir()
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)).save("knee/Train/0/deep.png")
    assert new.main(["knee"]) == 0
    assert own("knee.yaml")["CLASSNAMES"] == {"0": "0", "1": "1"} and own("knee.yaml")["MODALITY"] == ""
    said = capsys.readouterr().out
    assert "folders as split parts: Train = train, test = test" in said and "24 x 20 to 30 x 24 pixels" in said
    assert "16-bit grey 1" in said and "class names are numbers" in said and "fill in MODALITY" in said
    found = dataset(Path("knee.yaml"))
    assert {part: len(names) for part, names in parts(found).items()} == {"train": 9, "val": 4, "test": 4}


def test_loose_images_with_one_table() -> None:
    rows = [(path.name, kind) for kind in ("bright", "dark") for path in draw(Path("skin"), kind, 8)]
    with Path("skin/labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("filename", "dx"), *rows])
    assert new.main(["skin"]) == 0
    assert own("skin.yaml")["CSV"] == "labels.csv" and own("skin.yaml")["CLASSNAMES"] == {"bright": "bright", "dark": "dark"}
    assert len(dataset(Path("skin.yaml")).train_x) == 8


def test_a_choice_is_asked_for_and_kept(capsys) -> None:
    for kind in ("bright", "dark"):
        draw(Path("lungs", kind, "images"), kind, 5)
        draw(Path("lungs", kind, "masks"), kind, 5)
    assert new.main(["lungs"]) == 2
    told = capsys.readouterr().err
    assert 'DATASET.EXCLUDE ["masks"]' in told and told.count("\n") == 1 and not Path("lungs.yaml").exists()
    assert new.main(["lungs", "DATASET.EXCLUDE", '["masks"]', "DATASET.TITLE", "My lungs"]) == 0
    assert own("lungs.yaml")["EXCLUDE"] == ["masks"] and own("lungs.yaml")["TITLE"] == "My lungs"
    assert len(dataset(Path("lungs.yaml")).train_x) == 4


def test_a_split_file_has_the_names() -> None:
    classes(Path("mine"), bright=4, dark=4)
    rows = [
        [f"{kind}/{kind}_{n}.png", label, f"a {kind} one"] for label, kind in enumerate(("dark", "bright")) for n in range(4)
    ]
    Path("mine/split.json").write_text(json.dumps({"train": rows[::2], "val": [], "test": rows[1::2]}))
    assert new.main(["mine"]) == 0 and "CLASSNAMES" not in own()
    assert list(dataset(Path("mine.yaml")).classnames) == ["a dark one", "a bright one"]


REFUSED = {
    "nowhere": (["nowhere"], "no folder nowhere"),
    "published": (["mine", "-o", "BTMRI.yaml"], "is a published dataset"),
    "suffix": (["mine", "-o", "mine.txt"], "must end in .yaml"),
    "key": (["mine", "DATASET.MODALTY", "CT"], 'unknown config key "DATASET.MODALTY". Did you mean "DATASET.MODALITY"?'),
    "other": (["mine", "DATASET.FOLDER", "there"], "DATASET.FOLDER is not for this command"),
    "input": (["mine", "INPUT.EXIF", "True"], "INPUT.EXIF is not for this command"),
    "one": (["mine", "DATASET.INCLUDE", '["bright"]'], 'has one class, "bright"'),
    "list": (["mine", "DATASET.INCLUDE", "bright"], "DATASET.INCLUDE bright: must be a list, as \"['a', 'b']\""),
    "value": (["mine", "DATASET.MODALITY"], "has no value"),
    "written": (["mine", "-o", "file/x.yaml"], "file/x.yaml cannot be written"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_are_one_line(name: str, capsys) -> None:
    classes(Path("mine"), bright=4, dark=4)
    Path("file").touch()
    words, said = REFUSED[name]
    assert new.main(words) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ") and said in told.err and told.err.count("\n") == 1 and told.out == ""
    assert sorted(os.listdir()) == ["file", "mine"]


def test_bad_files_are_counted(capsys) -> None:
    classes(Path("mine"), bright=4, dark=4)
    Path("mine/dark/dark_0.png").write_bytes(b"no image")
    assert new.main(["mine"]) == 0 and "1 of them cannot be read, first dark/dark_0.png" in capsys.readouterr().out


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\_-\0"), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES.map(str.strip).filter(lambda name: name and name[0] not in ".$#@"), min_size=2, max_size=3,
                unique_by=lambda name: name.lower()))  # fmt: skip
def test_any_folder_names_survive_the_file(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    place = tmp_path_factory.mktemp("any")
    for name in names:
        for number in range(3):
            (place / "i" / name).mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4), number).save(place / "i" / name / f"{number}.png")
    path = place / "any.yaml"
    if new.main([str(place / "i"), "-o", str(path)]) == 0:
        assert sorted(dataset(path).classnames) == sorted(own(str(path))["CLASSNAMES"].values())
        assert sorted(own(str(path))["CLASSNAMES"]) == sorted(names)
