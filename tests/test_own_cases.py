"""The small inputs from real use that lie beside the checkout, copied: from their YAML to results."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from datasets import by_key
from datasets.check.__main__ import check, config_of
from datasets.prompts import convert, load_prompts
from tests.conftest import SHARED
from tests.own_images import dataset, parts, records, run

CASES = SHARED / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="no ../shared/cases: the small inputs from real use are not here")
KNEES = [
    "healthy knee",
    "doubtful osteoarthritis",
    "minimal osteoarthritis",
    "moderate osteoarthritis",
    "severe osteoarthritis",
]
# case -> class names in label order, numbers of images for training, validation and test where the case gives them
WANTED = {
    "01": (["glioma", "meningioma", "notumor", "pituitary"], None),
    "02": (["covid lungs", "normal lungs"], (12, 4, 8)),
    "05": (KNEES, (25, 10, 15)),
    "07": (["covid lungs", "normal lungs"], (12, 4, 8)),
    "08": (["0", "1", "2", "3", "4", "5", "6"], None),
    "11": (["glioma tumor", "meningioma tumor", "pituitary tumor", "normal brain"], None),
    "19": (["covid lungs", "normal lungs"], (12, 4, 8)),
}


def copied(number: str, place: Path) -> Path:
    """The case's YAML, on a copy of its images."""
    (case,) = CASES.glob(f"{number}-*")
    shutil.copytree(case, place / "case")
    place.joinpath("case").chmod(0o755)
    for path in place.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (config,) = (place / "case").glob("*.yaml")
    content = yaml.safe_load(config.read_text())
    content["DATASET"]["FOLDER"] = str(place / "case" / Path(content["DATASET"]["FOLDER"]).name)
    config.write_text(yaml.safe_dump(content))
    return config


@pytest.mark.parametrize("number", WANTED)
def test_it_is_read_as_expected(number: str, tmp_path: Path) -> None:
    names, sizes = WANTED[number]
    found = dataset(copied(number, tmp_path))
    assert list(found.classnames) == names
    if sizes:
        assert tuple(map(len, parts(found).values())) == sizes
    if number == "01":
        paths = parts(found, "impath")
        assert {Path(path).parts[-3] for path in paths["train"] + paths["val"]} == {"Training"} and paths["val"]
        assert {Path(path).parts[-3] for path in paths["test"]} == {"Testing"}
        assert len(paths["test"]) == 16 and any(
            "Training = train, Testing = test" in n or "Testing = test" in n for n in found.notes
        )
    if number == "05":
        assert all(KNEES[int(Path(item.impath).parent.name)] == item.classname for item in found.train_x + found.test)
    if number == "08":
        for part, word in (("train", "train"), ("val", "validation"), ("test", "test")):
            items = getattr(found, "train_x" if part == "train" else part)
            assert items and all(Path(item.impath).name.startswith(word) for item in items)
            assert all(Path(item.impath).stem.endswith(f"_{item.label}") for item in items)
    if number == "11":
        assert all(item.classname.replace(" ", "_") == Path(item.impath).parent.name for item in found.train_x + found.test)


def test_twice_in_a_row_with_two_seeds(tmp_path: Path) -> None:
    config = copied("19", tmp_path)
    for seed in (1, 2):
        for task in ("few_shot", "base2new"):
            assert run(config, tmp_path / "out", task=task, seeds=(seed,)) == 0
    found = records(tmp_path / "out")
    assert len(found) == 6 and {name for r in found for name in r["classnames"]} == {"covid lungs", "normal lungs"}


@pytest.mark.parametrize("number", ["01", "08"])
def test_it_is_trained_and_tested(number: str, tmp_path: Path) -> None:
    config = copied(number, tmp_path)
    assert run(config, tmp_path / "out", method="ZeroshotCLIP") == 0
    (record,) = records(tmp_path / "out")
    assert record["dataset"] == config.stem and record["classnames"] == WANTED[number][0]


def test_truncated_files_are_named_at_once_by_check_and_by_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = copied("07", tmp_path)
    record = check(config_of(str(config), "data", ()))
    (bad,) = [one["items"] for one in record["findings"] if one["kind"] == "unreadable"]
    names = [item["paths"][0] for item in bad]
    assert len(names) > 1 and len(names) == record["files"] - record["readable"]
    assert run(config, tmp_path / "out", method="ZeroshotCLIP") == 2
    error = capsys.readouterr().err
    assert f"{len(names)} of 24 images cannot be read" in error and all(name in error for name in names)


def test_one_of_two_dictionaries_is_named(tmp_path: Path, capsys) -> None:
    (source,) = CASES.glob("14-*/*.py")
    for name, start in (("BIOMEDDPT_TEMPLATES", "An ultrasound image"), ("BIOMEDCOOP_TEMPLATES", "A benign tumor is round")):
        out = tmp_path / f"{name}.json"
        call = [str(source), "--dataset", "busi", "-o", str(out)]
        assert convert.main(call) == 2 and "--dictionary BIOMEDDPT_TEMPLATES" in capsys.readouterr().err
        assert convert.main([*call, "--dictionary", name]) == 0
        names = by_key()["busi"].published_classnames
        assert load_prompts(out, names, 1).texts["benign tumor"][0].startswith(start)
