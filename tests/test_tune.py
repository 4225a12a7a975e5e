"""``python -m sweep.tune``: settings chosen on shots, the same after an interruption, and told wherever the runs are shown."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("optuna", reason="optuna is not installed: it is in requirements-dev.txt")

import sweep.trial
import train
from analysis.predictions import read_predictions
from analysis.results import read_run
from datasets.splits import draw_few_shot, read_split
from runs.config import configured
from runs.settings import CONFIGS
from sweep.done import done_jobs
from sweep.jobs import Job
from sweep.study import Score
from sweep.trial import scored
from sweep.tune import main
from tests.conftest import BTMRI_CLASSES, REPO, write_dataset
from tests.test_tune_study import KEYS, by_values
from trainers import methods

NAME = Path("few_shot/BiomedDPT_BiomedCLIP/btmri_shots2_seed1.yaml")
QUICK = ("OPTIM.MAX_EPOCH", "1", "DATALOADER.NUM_WORKERS", "0", "USE_CUDA", "False")


@pytest.fixture
def tune(btmri_root: Path, tiny_biomedclip: Path, tmp_path: Path, log_off_stdout):
    """The command, on two shots of a small dataset."""

    def call(*words: str, root: Path = btmri_root, datasets: tuple[str, ...] = ("btmri",), shots: int = 2,
             out: Path = tmp_path / "out", own: tuple[str, ...] = ()) -> int:  # fmt: skip
        given = ["--datasets", *datasets, "--root", str(root), "--shots", str(shots), "--output", str(out)]
        return main([*given, "--backbone-path", str(tiny_biomedclip), *words, "--", *QUICK, *own])

    return call


def stored(out: Path) -> list[tuple[int, str, float]]:
    with sqlite3.connect(out / "tune.db") as base:
        return base.execute(
            "SELECT trial_id, param_name, param_value FROM trial_params ORDER BY trial_id, param_name"
        ).fetchall()


# -- the command --------------------------------------------------------------------------------------------


def test_twice_the_same_and_from_the_start_the_same(tune, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune("--trials", "3") == 0
    file, told = tmp_path / "out" / NAME, capsys.readouterr().out
    first, trials = file.read_bytes(), stored(tmp_path / "out")
    assert told.count("trial ") >= 3 and str(file) in told and len(trials) == 6
    assert tune("--trials", "3") == 0
    assert file.read_bytes() == first and stored(tmp_path / "out") == trials
    assert "3 of 3 trials are done" in capsys.readouterr().out
    assert tune("--trials", "3", "--out", str(tmp_path / "mine.yaml"), out=tmp_path / "anew") == 0
    assert (tmp_path / "mine.yaml").read_bytes() == first and stored(tmp_path / "anew") == trials
    assert not list((tmp_path / "out").glob(".trial-*"))
    # fewer trials of a longer search are those of a shorter one
    assert tune("--trials", "2", "--out", str(tmp_path / "two.yaml")) == 0
    assert yaml.safe_load((tmp_path / "two.yaml").read_text())["TUNED"]["HOW"].startswith("2 trials on BTMRI")


def test_interrupted_it_goes_on_as_if_it_had_not_been(tune, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sweep.trial, "scored", by_values)
    assert tune("--trials", "13", out=tmp_path / "whole") == 0
    calls = []

    def cut(*given: object) -> Score:
        calls.append(given)
        if len(calls) in (3, 12):
            raise KeyboardInterrupt
        return by_values(*given)

    monkeypatch.setattr(sweep.trial, "scored", cut)
    (tmp_path / "out" / ".trial-killed" / "prompt_learner").mkdir(parents=True)
    assert [tune("--trials", "13") for _ in range(3)] == [130, 130, 0] and len(calls) == 15
    assert "goes on there" in capsys.readouterr().err
    assert stored(tmp_path / "out") == stored(tmp_path / "whole") and not list((tmp_path / "out").glob(".trial-*"))
    assert (tmp_path / "out" / NAME).read_bytes() == (tmp_path / "whole" / NAME).read_bytes()


def test_other_settings_are_another_search(tune, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sweep.trial, "scored", by_values)
    for own in ((), ("OPTIM.LR", "0.01"), ()):
        assert tune("--trials", "2", own=own) == 0
    with sqlite3.connect(tmp_path / "out" / "tune.db") as base:
        assert base.execute("SELECT COUNT(*) FROM studies").fetchone() == (2,)
    assert len(stored(tmp_path / "out")) == 8


def without_tests(root: Path, folder: Path) -> Path:
    """A copy of the dataset without the files of its test images."""
    shutil.copytree(root, folder)
    images = folder / "BTMRI" / "BTMRI"
    for path, _, _ in read_split(folder / "BTMRI" / "split_BTMRI.json")["test"]:
        (images / path).unlink()
    return folder


@pytest.mark.parametrize("shots, total", [(2, 8), (1, 8)])
def test_no_test_image_is_looked_at(shots: int, total: int, tune, btmri_root: Path, tmp_path: Path, capsys) -> None:
    root = without_tests(btmri_root, tmp_path / "data")
    assert tune("--trials", "1", root=root, shots=shots) == 0
    assert f"of {total}), NLL" in capsys.readouterr().out
    (made,) = (tmp_path / "out").rglob("*.yaml")
    assert ("each of the two of a class left out in turn" in made.read_text()) == (shots == 1)


def test_the_score_is_what_a_run_with_the_validation_shots_as_test_images_has(
    tune, btmri_root: Path, tiny_biomedclip: Path, tmp_path: Path, capsys
) -> None:
    root, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(btmri_root, root)
    assert tune("--trials", "1", root=root) == 0
    told = capsys.readouterr().out
    path = root / "BTMRI" / "split_BTMRI.json"
    drawn = draw_few_shot(read_split(path), 2, 1)
    path.write_text(json.dumps({"train": drawn["train"], "val": drawn["val"], "test": drawn["val"]}))
    shutil.rmtree(root / "BTMRI" / "split_fewshot", ignore_errors=True)
    run_with(CONFIGS / "trainers/BiomedDPT/few_shot/btmri.yaml", root, tiny_biomedclip, out)
    kept = read_predictions(next(out.rglob("predictions.csv.gz")))
    right = int((kept.probabilities.argmax(axis=1) == kept.labels).sum())
    nll = -np.log(kept.probabilities[np.arange(len(kept.labels)), kept.labels]).mean()
    assert f"({right} of {len(kept.labels)}), NLL {nll:.4f}" in told


def run_with(file: Path, root: Path, backbone: Path, out: Path, method: str = "BiomedDPT") -> int:
    words = ["--root", str(root), "--trainer", method, "--dataset-config-file", str(CONFIGS / "datasets" / "btmri.yaml")]
    words += ["--config-file", str(file), "--output-root", str(out), "--shots", "2", "--seeds", "1", "--task", "few_shot"]
    return train.main([*words, "MODEL.BACKBONE.PATH", str(backbone), *QUICK])


def test_runs_with_the_file_say_that_they_are_tuned(tune, btmri_root, tiny_biomedclip, tmp_path, monkeypatch) -> None:
    """Also where the settings found are those of the config file."""
    runs = {}
    for name, score in (("found", by_values), ("start", lambda *_: Score(1, 2, 0.5))):
        monkeypatch.setattr(sweep.trial, "scored", score)
        assert tune("--trials", "4", "--out", str(tmp_path / f"{name}.yaml"), out=tmp_path / name) == 0
        assert run_with(tmp_path / f"{name}.yaml", btmri_root, tiny_biomedclip, tmp_path / name / "runs") == 0
        (folder,) = (path.parent for path in (tmp_path / name / "runs").rglob("results.json"))
        runs[name] = read_run(folder)
    used = [yaml.safe_load((tmp_path / f"{name}.yaml").read_text())["TRAINER"]["BIOMEDDPT"] for name in runs]
    assert used[0]["L1_LAMBDA"] != used[1]["L1_LAMBDA"] == 12.5 and used[1]["KL_LAMBDA"] == 0.25
    for run, own in zip(runs.values(), used, strict=True):
        assert run.variant.endswith("_tuned") and "tuned=KL_LAMBDA L1_LAMBDA" in run.setting and "LAMBDA=" not in run.setting
        values = f"L1_LAMBDA {own['L1_LAMBDA']}, KL_LAMBDA {own['KL_LAMBDA']}"
        assert run.departures[0].startswith(f"tuned: {values} by 4 trials on BTMRI")
    assert runs["found"].setting == runs["start"].setting  # a row of one table
    job = Job("few_shot", "BiomedDPT", "btmri", 2, 1, overrides=(("OPTIM.MAX_EPOCH", 1),))
    assert done_jobs(tmp_path / "start" / "runs", [job]) == {}
    plain = CONFIGS / "trainers/BiomedDPT/few_shot/btmri.yaml"
    assert run_with(plain, btmri_root, tiny_biomedclip, tmp_path / "start" / "runs") == 0
    (folder,) = done_jobs(tmp_path / "start" / "runs", [job])[job.id]
    assert "tuned" not in folder


def test_any_method_that_names_its_settings_is_tuned(tune, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(methods()["KgCoOp"], "tunable", {"W": (0.5, 20.0)})
    assert tune("--trials", "2", "--method", "KgCoOp", "--task", "base2new", "--seed", "3", datasets=("btmri",)) == 0
    (made,) = (tmp_path / "out").rglob("*.yaml")
    content = yaml.safe_load(made.read_text())
    assert made.parent == tmp_path / "out" / "base2new" / "KgCoOp_BiomedCLIP" and made.name == "btmri_shots2_seed3.yaml"
    assert content["TUNED"]["KEYS"] == ["TRAINER.KGCOOP.W"] and 0.5 <= content["TRAINER"]["KGCOOP"]["W"] <= 20
    assert "of 4 validation images" in content["TUNED"]["HOW"]  # two base classes of two shots


def test_a_training_that_comes_to_nothing_is_the_worst_and_not_the_end(btmri_root, tiny_biomedclip, tmp_path) -> None:
    files = [CONFIGS / "datasets/btmri.yaml", CONFIGS / "trainers/BiomedDPT/few_shot/btmri.yaml"]
    settings = {"DATASET.ROOT": str(btmri_root), "DATASET.NUM_SHOTS": 2, "SEED": 1, "LOGGER": "none"}
    settings |= {"MODEL.BACKBONE.PATH": str(tiny_biomedclip)}
    cfg = configured("BiomedDPT", "BiomedCLIP", files=files, settings=settings, overrides=[*QUICK, "OPTIM.WARMUP_EPOCH", "-1"])
    assert scored(cfg, {KEYS[0]: 1.0}, (1,), tmp_path).nll < math.inf
    assert scored(cfg, {KEYS[0]: 1e38, KEYS[1]: 1e38}, (1,), tmp_path) == Score(0, 8, math.inf)


# -- mistakes -----------------------------------------------------------------------------------------------

MISTAKES = [
    (("--method", "CoOp"), (), "CoOp has no settings to tune; methods that have: BiomedDPT"),
    (("--method", "BiomedDTP"), (), "BiomedDTP is a trainer of another project"),
    (("--trials", "0"), (), "--trials is 0, must be 1 or more"),
    (("--seed", "-1"), (), "--seed is -1, must be 0 or more"),
    ((), ("SEED", "4"), "SEED is no override here: give --seed"),
    ((), ("TUNED.HOW", "x"), "TUNED.HOW is no override here"),
    ((), ("TRAINER.BIOMEDDPT.L1_LAMBDA", "0.0"), "TRAINER.BIOMEDDPT.L1_LAMBDA is 0: what is off"),
    ((), ("DATASET.TUNING_FOLD", "1"), "DATASET.TUNING_FOLD is not read by BiomedDPT"),
]


@pytest.mark.parametrize("words, own, said", MISTAKES, ids=[said[:30] for *_, said in MISTAKES])
def test_a_mistake_is_one_line_and_makes_no_file(words, own, said, tune, tmp_path: Path, capsys) -> None:
    assert tune(*words, own=own) == 2
    errors = capsys.readouterr().err
    assert said in errors and errors.count("\n") == 1 and errors.startswith("error: ")
    assert not list(tmp_path.rglob("*.yaml"))


def test_one_file_is_of_one_dataset(tune, tmp_path: Path, capsys) -> None:
    assert tune("--out", str(tmp_path / "a.yaml"), datasets=("btmri", "busi")) == 2
    assert "--out is the file of one dataset" in capsys.readouterr().err


def test_without_validation_images_nothing_is_chosen(tune, tmp_path: Path, capsys) -> None:
    path = write_dataset(tmp_path / "data", "BTMRI", BTMRI_CLASSES) / "BTMRI" / "split_BTMRI.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"val": []}))
    assert tune(root=tmp_path / "data") == 2
    assert "the split has no validation images" in capsys.readouterr().err


def test_a_database_that_is_none(tune, tmp_path: Path, capsys) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "tune.db").write_text("nothing of the kind" * 99)
    assert tune("--trials", "1") == 2
    assert "tune.db cannot be read as a study" in capsys.readouterr().err


def test_without_optuna_one_line_says_what_to_install(tune, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert tune() == 2
    assert capsys.readouterr().err == (
        "error: python -m sweep.tune needs the optuna package, which is not installed: pip install optuna\n"
    )


def test_marks_that_would_hide_something_are_refused(btmri_root, tiny_biomedclip, tmp_path: Path, capsys) -> None:
    base = yaml.safe_load((REPO / "configs/trainers/BiomedDPT/few_shot/btmri.yaml").read_text())
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(base | {"TUNED": {"KEYS": ["OPTIM.MAX_EPOCH"]}}))
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(base | {"DATASET": {"TUNING_FOLD": 1}}))
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"TUNED": {"KEYS": [KEYS[0]]}}))
    for name, method, said in (("a", "BiomedDPT", "TUNED.KEYS names OPTIM.MAX_EPOCH, which is not tuned in BiomedDPT"),
                               ("b", "BiomedDPT", "DATASET.TUNING_FOLD is 1: python -m sweep.tune writes it"),
                               ("c", "CoOp", f"TUNED.KEYS names {KEYS[0]}, which is not tuned in CoOp")):  # fmt: skip
        assert run_with(tmp_path / f"{name}.yaml", btmri_root, tiny_biomedclip, tmp_path / "runs", method) == 2
        assert said in capsys.readouterr().err
    assert not list((tmp_path / "runs").rglob("results.json"))
