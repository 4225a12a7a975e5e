"""Whole runs: every registry entry, determinism, resuming a killed run, skipping what is done, readable errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.choice import SPLITS
from analysis.predictions import read_predictions
from analysis.results import LAYOUT_SPLITS
from dassl.utils import UserError
from datasets import by_key
from runs.protocols import check_fits
from runs.tasks import TASKS
from tests.conftest import BTMRI_CLASSES, REPO, SHARED, THREADS, write_dataset
from tests.helpers import arguments, build, command
from trainers import methods

PHANTOM = REPO / "backbones" / "weights" / "phantomclip"


def ctx_of(folder: Path) -> torch.Tensor:
    (path,) = (folder / "prompt_learner").glob("model.pth.tar-*")
    assert path.stat().st_size < 100_000
    return torch.load(path, weights_only=True)["state_dict"]["ctx"]


def in_process(words: list[str]) -> int:
    import train

    return train.main(words)


@pytest.mark.parametrize("method", sorted(methods()))
def test_every_trainer_trains_tests_and_reloads(method, tiny_biomedclip, btmri_root, tmp_path) -> None:
    words = arguments(method, tiny_biomedclip, btmri_root, tmp_path / "a", split="base")
    assert in_process(words) == 0
    first = json.loads((tmp_path / "a" / "results.json").read_text())
    again = arguments(method, tiny_biomedclip, btmri_root, tmp_path / "b", split="base",
                      extra=("--eval-only", "--model-dir", str(tmp_path / "a")))  # fmt: skip
    assert in_process(again) == 0
    second = json.loads((tmp_path / "b" / "results.json").read_text())
    assert first["confusion_matrix"] == second["confusion_matrix"]
    assert sum(map(sum, first["confusion_matrix"])) == first["num_test"]
    said, reloaded = (read_predictions(tmp_path / name / "predictions.csv.gz").probabilities for name in "ab")
    assert np.array_equal(said, reloaded)
    cls = methods()[method]
    assert bool(first["learned"]["parameters"]) == cls.learns
    if cls.learns and cls.uses_optimizer:  # equal because it was loaded, not because it was never changed
        fresh = build(method, tiny_biomedclip, btmri_root, tmp_path / "c", split="base")
        fresh.test()
        assert not np.allclose(fresh.evaluator.predictions()[2], said, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("key", sorted(by_key()))
def test_every_dataset_trains_and_tests(key, tmp_path) -> None:
    cls = by_key()[key]
    root = write_dataset(tmp_path / "data", cls.dataset_dir, cls.published_classnames, per_class=6)
    words = arguments("CoOp", PHANTOM, root, tmp_path / "out", split="all", dataset=key, backbone="PhantomCLIP", epochs=1)
    assert in_process(words) == 0
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert record["classnames"] == list(cls.published_classnames)
    assert (record["modality"], record["organ"]) == (cls.modality, cls.organ)


def test_two_runs_with_one_seed_are_equal_to_the_bit(tiny_biomedclip, btmri_root, tmp_path) -> None:
    for name in ("a", "b"):
        assert command(arguments("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path / name, split="base")).returncode == 0
    assert torch.equal(ctx_of(tmp_path / "a"), ctx_of(tmp_path / "b"))


KILLED = """
import os, signal, sys
import train
from trainers.base import VLTrainer
after_epoch = VLTrainer.after_epoch
def dying(self):
    after_epoch(self)
    if self.epoch == 4:
        os.kill(os.getpid(), signal.SIGKILL)
VLTrainer.after_epoch = dying
sys.exit(train.main(sys.argv[1:]))
"""


def test_a_killed_run_resumes_and_ends_the_same(tiny_biomedclip, btmri_root, tmp_path) -> None:
    whole = arguments("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path / "whole", split="base", epochs=12)
    assert command(whole).returncode == 0
    broken = arguments("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path / "broken", split="base", epochs=12)
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(THREADS)}  # as command() has it
    killed = subprocess.run([sys.executable, "-c", KILLED, *broken], cwd=REPO, env=env, capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name for path in (tmp_path / "broken" / "prompt_learner").glob("model*")] == ["model.pth.tar-5"]
    assert not (tmp_path / "broken" / "results.json").exists()
    done = command(broken)
    assert done.returncode == 0, done.stderr
    assert torch.equal(ctx_of(tmp_path / "whole"), ctx_of(tmp_path / "broken"))


def script(name: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHON": sys.executable, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(THREADS)} | environment
    return subprocess.run(["bash", f"scripts/{name}", *words], cwd=REPO, env=env, capture_output=True, text=True, timeout=500)


QUICK = ("--", "OPTIM.MAX_EPOCH", "2", "DATALOADER.NUM_WORKERS", "0")


def test_base2new_script_prints_the_table_and_skips_what_is_done(btmri_root, tmp_path) -> None:
    env = {"DATA": str(btmri_root), "BACKBONE": "PhantomCLIP", "OUTPUT": str(tmp_path), "SHOTS": "2"}
    done = script("biomed_dpt/base2new.sh", "btmri", "1", *QUICK, **env)
    assert done.returncode == 0, done.stderr
    assert "HM" in done.stdout and "BiomedDPT" in done.stdout and "missing" not in done.stdout
    again = script("biomed_dpt/base2new.sh", str(btmri_root), "btmri", "PhantomCLIP", "1", *QUICK, **env)
    assert again.stdout.count("done already") == 2
    evaluated = script("biomed_dpt/eval_base2new.sh", "btmri", "1", *QUICK, **env)
    assert evaluated.returncode == 0 and "missing" not in evaluated.stdout


@pytest.mark.skipif(not (SHARED / "data" / "BTMRI").is_dir(), reason="no ../shared/data/BTMRI: real images are not here")
def test_real_brain_mri(tmp_path) -> None:
    env = {
        "DATA": str(SHARED / "data"),
        "BACKBONE": "PhantomCLIP",
        "OUTPUT": str(tmp_path),
        "SHOTS": "4",
        "HOME": str(tmp_path),
    }
    done = script("biomed_dpt/base2new.sh", "btmri", "1", *QUICK, **env)
    assert done.returncode == 0, done.stderr
    assert "rehearsal" not in done.stdout


MISTAKES = [
    (["--trainer", "BiomedDTP"], 'unknown trainer "BiomedDTP"', "BiomedDPT"),
    (["--trainer", "CoOp", "TRAINER.BIOMEDDPT.N_CTX", "4"], "does not read it", "TRAINER.COOP.N_CTX"),
    (["--trainer", "CoOp", "OPTIM.LRR", "4"], 'unknown config key "OPTIM.LRR"', "OPTIM.LR"),
    (["--trainer", "CoOp", "--backbone", "BiomedClap"], 'unknown backbone "BiomedClap"', "BiomedCLIP"),
    (
        ["--trainer", "CoOp", "--root", "/nowhere"],
        "no BTMRI images in /nowhere",
        "python -m datasets.download btmri --root /nowhere",
    ),
]


@pytest.mark.parametrize("words, what, hint", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(words, what, hint, tmp_path, capsys) -> None:
    rest = ["--dataset-config-file", str(REPO / "configs/datasets/btmri.yaml"), "--output-dir", str(tmp_path / "out")]
    known = ["--backbone", "PhantomCLIP"] if "--backbone" not in words else []
    assert in_process([*known, *rest, *words]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ") and "\n" not in said
    assert what in said and hint in said
    assert not (tmp_path / "out").exists()


def test_no_network_is_one_clear_line(btmri_root, tmp_path) -> None:
    words = arguments("BiomedDPT", None, btmri_root, tmp_path / "out", split="base")
    start = time.time()
    done = command(words, HF_HOME=str(tmp_path / "empty"))
    assert done.returncode == 2 and time.time() - start < 60
    assert "microsoft/BiomedCLIP" in done.stderr and "MODEL.BACKBONE.PATH" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_own_folder_needs_one_yaml(tmp_path, tiny_biomedclip) -> None:
    root = write_dataset(tmp_path, "BTMRI", BTMRI_CLASSES, per_class=8)
    config = tmp_path / "mine.yaml"
    config.write_text(f'DATASET:\n  NAME: "ImageFolderSplit"\n  FOLDER: "{root / "BTMRI" / "BTMRI"}"\n  MODALITY: "MRI"\n')
    words = arguments("CoOp", tiny_biomedclip, root, tmp_path / "out", split="all", epochs=1)
    words[words.index("--dataset-config-file") + 1] = str(config)
    assert in_process(words) == 0
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert record["classnames"] == sorted(BTMRI_CLASSES) and "split made" in record["notes"][0]
    # the first run kept its few-shot draw beside the class folders, of which it is none
    assert (root / "BTMRI" / "BTMRI" / "split_fewshot").is_dir()
    words[words.index("--output-dir") + 1] = str(tmp_path / "again")
    assert in_process(words) == 0
    assert json.loads((tmp_path / "again" / "results.json").read_text())["classnames"] == sorted(BTMRI_CLASSES)


def test_protocols_and_tables_know_the_same_folders() -> None:
    assert {task: tuple(stage.split for stage in stages) for task, stages in TASKS.items()} == SPLITS
    assert {stage.folder for stages in TASKS.values() for stage in stages} == set(LAYOUT_SPLITS)


def test_a_protocol_is_refused_before_it_starts(btmri_root, tiny_biomedclip, tmp_path, capsys) -> None:
    """Seed 2's folder holds other settings: seed 1 is not trained first."""
    words = arguments("CoOp", tiny_biomedclip, btmri_root, Path(), split="all", epochs=1,
                      extra=("--seeds", "2", "--task", "few_shot", "--output-root", str(tmp_path)))  # fmt: skip
    assert in_process(words) == 0
    words.insert(words.index("--seeds") + 1, "1")
    assert in_process([*words, "OPTIM.LR", "0.5"]) == 2
    assert "holds a run with other settings (OPTIM.LR 0.002 -> 0.5)" in capsys.readouterr().err
    assert [path.parent.name for path in tmp_path.rglob("config.yaml")] == ["seed2"]


def test_protocols_run_the_methods_of_this_project() -> None:
    with pytest.raises(UserError, match="Theirs is a trainer of another project"):
        check_fits("Theirs", "few_shot")
