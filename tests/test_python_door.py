"""docs/PYTHON.md to the letter on generated images, and what the functions of the door refuse."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import predict
from dassl.utils import UserError
from runs import load_run, read_runs, train
from tests.conftest import REPO

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CLASSES = ("bright", "dark", "striped")
QUICK = {"OPTIM.MAX_EPOCH": 1, "DATALOADER.NUM_WORKERS": 0, "USE_CUDA": False}


def draw(folder: Path, kind: str, count: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(kind))
    for number in range(count):
        pixels = rng.normal({"bright": 210, "dark": 40, "striped": 120}[kind], 12, (64, 64))
        if kind == "striped":
            pixels[::6] += 90
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB").save(folder / f"{kind}_{number}.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with ``my_images/`` and ``new_images/``."""
    folder = tmp_path_factory.mktemp("notebook")
    for kind in CLASSES:
        draw(folder / "my_images" / kind, kind, 16)
        draw(folder / "drawn" / kind, kind, 2)
    (folder / "new_images").mkdir()
    for path in (folder / "drawn").rglob("*.png"):
        path.rename(folder / "new_images" / path.name)
    return folder


@pytest.fixture(scope="module")
def example(place: Path) -> tuple[dict[str, Any], str]:
    """The names that the document's blocks leave behind, run one after the other in ``place``; and the last block."""
    blocks = BLOCK.findall((REPO / "docs" / "PYTHON.md").read_text())
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for block in blocks:
            exec(compile(block, "docs/PYTHON.md", "exec"), names)
    return names, blocks[-1]


def test_the_example_trains_predicts_and_makes_a_table(example, place: Path, monkeypatch, capsys) -> None:
    names, last = example
    assert [run.seed for run in names["found"]] == [1, 2]
    assert {run.dataset_key for run in names["found"]} == {"my_images"}
    monkeypatch.chdir(place)
    table = place / "predicted.csv"
    assert predict.main([str(names["found"][0].folder), "new_images", "-o", str(table)]) == 0
    with table.open(newline="") as file:
        wanted = {Path(row["image"]).name: row["prediction"] for row in csv.DictReader(file)}
    assert names["predicted"] == wanted and len(wanted) == 6
    text = names["render_tables"](names["tables"], "markdown")
    assert "CoOp" in text and "ZeroshotCLIP" in text and names["missing"] == []
    capsys.readouterr()
    exec(compile(last, "docs/PYTHON.md", "exec"), dict(names))
    said = capsys.readouterr().out
    assert said.count("done already") == 2 and text in said


def test_the_door_is_the_command_line(example, place: Path, tmp_path: Path) -> None:
    """The same folder, settings and predictions as ``train.py`` with the config file of these images."""
    (run, *_) = example[0]["found"]
    config = tmp_path / "my_images.yaml"
    config.write_text(f"DATASET:\n  NAME: ImageFolderSplit\n  FOLDER: {place / 'my_images'}\n")
    words = ["--root", "data", "--trainer", "CoOp", "--backbone", "PhantomCLIP", "--dataset-config-file", config,
             "--config-file", REPO / "configs/trainers/CoOp/few_shot.yaml", "--task", "few_shot", "--shots", 4, "--seeds", 1,
             "--output-root", tmp_path / "output", "OPTIM.MAX_EPOCH", 5, "DATALOADER.NUM_WORKERS", 0]  # fmt: skip
    import train as command

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert command.main([str(word) for word in words]) == 0
    (other,) = read_runs(tmp_path / "output")
    assert other.folder.relative_to(tmp_path) == run.folder
    assert (other.metrics, other.config_hash) == (run.metrics, run.config_hash)


def test_base_to_new_gives_a_record_of_each(place: Path, tmp_path: Path) -> None:
    runs = train("CoOp_PhantomCLIP", place / "my_images", task="base2new", shots=2, output=tmp_path, overrides=QUICK)
    assert [(run.split, run.shots, run.seed) for run in runs] == [("base", 2, 1), ("new", 2, 1)]
    assert load_run(runs[0].folder, classnames=["dark", "grey"]).classnames == ["dark", "grey"]
    assert {run.split for run in read_runs(tmp_path, datasets="my_images", seeds=1)} == {"base", "new"}
    assert len(read_runs(tmp_path, methods="CoOp")) == 2 and read_runs(tmp_path, methods=["BiomedDPT"]) == []


def test_an_unfinished_run_is_told(example, place: Path) -> None:
    folder = place / "output" / "broken"
    folder.mkdir()
    (folder / "config.yaml").write_text("SEED: 1\n")
    with pytest.warns(UserWarning, match="broken is left out: unfinished: no results.json"):
        assert len(read_runs(place / "output")) == 4


REFUSED = {
    "Did you mean \"CoOp\"": {"method": "CoOpp"},
    "no dataset, no YAML file and no folder": {"dataset": "nowhere"},
    'Did you mean "btmri"': {"dataset": "btmr"},
    "no config file nowhere.yaml": {"dataset": "nowhere.yaml"},
    'no protocol "fewshot". Did you mean "few_shot"': {"task": "fewshot"},
    "none for new ones": {"method": "TipAdapter", "task": "base2new"},
    "name two different backbones": {"method": "CoOp_PhantomCLIP", "backbone": "CLIP"},
    'Did you mean "OPTIM.LR"': {"overrides": {"OPTIM.LRR": 1.0}},
    "another method's key": {"overrides": {"TRAINER.COCOOP.PREC": "fp32"}},
    "TEST.NO_TEST is True": {"overrides": {"TEST.NO_TEST": True}},
    "cannot be trained together": {"method": "ProGrad", "together": True},
}  # fmt: skip


@pytest.mark.parametrize("said", REFUSED)
def test_a_mistake_is_told_in_one_line(said: str, place: Path, tmp_path: Path) -> None:
    call = {"method": "CoOp", "dataset": place / "my_images", "output": tmp_path / "out"} | REFUSED[said]
    with pytest.raises(UserError) as caught:
        train(**call)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_read_runs_refuses_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        read_runs(tmp_path / "nowhere")
    with pytest.raises(UserError, match='Did you mean "base2new"'):
        read_runs(tmp_path, task="base2nev")


def test_the_package_is_light_and_names_its_door() -> None:
    code = "import sys, runs; assert {'train', 'load_run', 'read_runs'} <= set(dir(runs)); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    import runs

    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = runs.trian
