"""docs/EXTENDING.md to the letter: its method, dataset and backbone, put into a copy of the repository and run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import REPO, write_dataset
from trainers import methods

DOC = REPO / "docs" / "EXTENDING.md"
CLASSES = ("adenocarcinoma", "squamous cell carcinoma", "normal lung")
COPIED = ("backbones", "configs", "datasets", "runs", "scripts", "trainers")
LINKED = ("analysis", "features", "explain")
BLOCK = re.compile(r"^```(python|yaml|bash|diff)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str, str]]:
    """(language, file, text) of each block; its file is the last one that the line above it names."""
    text = DOC.read_text()
    found = []
    for match in BLOCK.finditer(text):
        above = text[: match.start()].rstrip().rsplit("\n", 1)[-1]
        named = re.findall(r"`([\w/]+\.(?:py|yaml))`", above)
        found.append((match[1], named[-1] if named else "", match[2]))
    return found


def insert(path: Path, line: str) -> None:
    """Into the list of ``path`` where the line is indented, else among its imports."""
    lines = path.read_text().splitlines(keepends=True)
    listed = line.startswith(" ")
    above = ("BACKBONES:", "from trainers import (", "from datasets import (") if listed else "from backbones."
    place = next(number for number, known in enumerate(lines) if known.startswith(above))
    lines.insert(place + 1, line)
    path.write_text("".join(lines))


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the blocks of the document in place."""
    copy = tmp_path_factory.mktemp("extended")
    for name in COPIED:
        shutil.copytree(REPO / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    for name in LINKED:
        (copy / name).symlink_to(REPO / name)
    for script in ("train.py", "parse_results.py", "entry.py"):
        shutil.copy(REPO / script, copy / script)
    for language, file, text in blocks():
        if language == "bash":
            subprocess.run(["bash", "-euc", text], cwd=copy, check=True)
        elif language == "diff":
            insert(copy / file, text.removeprefix("+"))
        else:
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            (copy / file).write_text(text)
    return copy


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("chest"), "CHESTCT", CLASSES, per_class=8)


def script(extended: Path, name: str, data: Path, out: Path, weights: Path, *overrides: str) -> str:
    """What ``scripts/apart_coop/<name>.sh chestct 2 1`` of the copy prints, on the new backbone with local weights."""
    env = os.environ | {
        "DATA": str(data), "BACKBONE": "ChestCLIP", "OUTPUT": str(out), "PYTHON": sys.executable,
        "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    settings = ["MODEL.BACKBONE.PATH", str(weights), "OPTIM.MAX_EPOCH", "2", "DATALOADER.NUM_WORKERS", "0", *overrides]
    call = ["bash", str(extended / "scripts" / "apart_coop" / f"{name}.sh"), "chestct", "2", "1", "--", *settings]
    done = subprocess.run(call, cwd=extended, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def results(out: Path) -> tuple[Path, dict[str, Any]]:
    (path,) = out.rglob("results.json")
    return path.parent, json.loads(path.read_text())


@pytest.mark.slow
def test_the_documented_method_trains_tests_and_reloads(extended, chest, tiny_biomedclip, tmp_path) -> None:
    said = script(extended, "few_shot", chest, tmp_path, tiny_biomedclip, "USE_CUDA", "False")
    folder, first = results(tmp_path)
    assert "ApartCoOp" in said and "loss_apart" in (folder / "log.txt").read_text()
    assert folder.parents[1].name == "ApartCoOp_ChestCLIP" and first["classnames"] == list(CLASSES)
    assert (first["modality"], first["organ"]) == ("CT", "lung")
    assert first["learned"]["parameters"] == 4 * 32  # M vectors of the tiny text tower's width
    (checkpoint,) = (folder / "prompt_learner").glob("model.pth.tar-*")
    assert list(torch.load(checkpoint, weights_only=True)["state_dict"]) == ["ctx"]
    (folder / "results.json").unlink()
    script(extended, "eval_few_shot", chest, tmp_path, tiny_biomedclip, "USE_CUDA", "False")
    again = results(tmp_path)[1]
    assert again["confusion_matrix"] == first["confusion_matrix"]
    assert sum(map(sum, again["confusion_matrix"])) == first["num_test"] > 0


@pytest.mark.slow
def test_the_documented_config_is_checked(extended, chest, tiny_biomedclip, tmp_path) -> None:
    with pytest.raises(AssertionError, match="TRAINER.APARTCOOP.LAMBDA is -1.0, must be 0 or more"):
        script(extended, "few_shot", chest, tmp_path, tiny_biomedclip, "TRAINER.APARTCOOP.LAMBDA", "-1.0")


def test_the_documented_names_are_free() -> None:
    """The example is no part of the project, so that it can be followed."""
    assert "ApartCoOp" not in methods()
    for language, file, _ in blocks():
        assert language == "bash" or (language == "diff") == (REPO / file).exists(), file
    assert {language for language, *_ in blocks()} == {"python", "yaml", "bash", "diff"}
