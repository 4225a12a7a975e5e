"""The protocol cross_dataset: trained on a source, tested on targets; no reader takes such a test for an in-domain one."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import parse_results
import train
from analysis.results import read_run, read_runs
from dassl.utils import UserError
from runs import load_run
from runs.config import configured
from runs.protocols import run_task, stage_configs
from tests.conftest import BTMRI_CLASSES, REPO, write_dataset
from tests.own_images import draw, write_yaml

QUICK = ["DATALOADER.NUM_WORKERS", 0, "USE_CUDA", False]
BUSI_CLASSES = ("benign tumor", "malignant tumor", "normal scan")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BTMRI and BUSI in miniature."""
    root = tmp_path_factory.mktemp("data")
    write_dataset(root, "BTMRI", BTMRI_CLASSES)
    return write_dataset(root, "BUSI", BUSI_CLASSES)


def cross(root: Path, source: object, out: Path, *words: object, method: str = "CoOp", targets: tuple[object, ...] = (),
          seeds: tuple[int, ...] = (1,), epochs: int | None = 2, task: str = "cross_dataset") -> int:  # fmt: skip
    """train.py on PhantomCLIP with 2 shots; its exit status."""
    file = REPO / "configs" / "datasets" / f"{source}.yaml" if isinstance(source, str) else source
    own = REPO / "configs" / "trainers" / method / "few_shot"
    own = own / f"{source}.yaml" if (own / f"{source}.yaml").is_file() else own.with_suffix(".yaml")
    options = [word for word in words if str(word).startswith("--")]
    call = ["--root", root, "--trainer", method, "--backbone", "PhantomCLIP", "--dataset-config-file", file, *options,
            "--config-file", own, "--output-root", out, *(["--targets", *targets] if targets else []), "--shots", 2,
            "--seeds", *seeds, "--task", task, *QUICK, *(["OPTIM.MAX_EPOCH", epochs] if epochs else []),
            *(word for word in words if word not in options)]  # fmt: skip
    return train.main([str(word) for word in call])


def rows(folder: Path) -> list[list[str]]:
    """The predictions of a run."""
    text = gzip.decompress((folder / "predictions.csv.gz").read_bytes()).decode()
    return list(csv.reader(io.StringIO(text)))


def table(root: Path, capsys, *words: str) -> str:
    capsys.readouterr()
    assert parse_results.main([str(root), *words]) == 0
    return capsys.readouterr().out


# -- whole runs -------------------------------------------------------------------------------------------


def test_two_seeds_twice_and_the_source_is_its_few_shot_run(data: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert cross(data, "btmri", out, task="few_shot") == 0
    capsys.readouterr()
    assert cross(data, "btmri", out, seeds=(1, 2)) == 0  # all that are in DATA: BUSI
    said = capsys.readouterr().out
    assert said.count("done already") == 1 and said.count("epoch [2/2]") == 1  # seed 1 is there
    runs, defects = read_runs(out)
    assert not defects and [(run.dataset, run.split, run.seed) for run in sorted(runs, key=lambda r: (r.dataset, r.seed))] == [
        ("BTMRI", "all", 1), ("BTMRI", "all", 2), ("BTMRI → BUSI", "target", 1), ("BTMRI → BUSI", "target", 2)]  # fmt: skip
    assert cross(data, "btmri", out, targets=("busi",), seeds=(1, 2)) == 0
    assert (said := capsys.readouterr().out).count("done already") == 4 and "epoch [" not in said
    shown = table(out, capsys, "--task", "cross_dataset", "--sources", str(REPO / "configs/datasets/btmri.yaml"))
    assert "Cross-dataset accuracy in %, BTMRI → BUSI, 2 shots of the source" in shown and "missing" not in shown
    assert "BTMRI (source)" in shown and "average" not in shown and "Few-shot" not in shown
    everything = table(out, capsys, "--published")
    assert everything.count("Few-shot accuracy in %, BTMRI:") == 1 and "BUSI:" not in everything
    assert "1 of 11 datasets" in everything and "2 of 11" not in everything


def test_a_target_is_tested_with_what_the_source_learned(data: Path, tmp_path: Path, capsys) -> None:
    """The same numbers as a test by hand; the results file names the source, and the source's own settings."""
    out = tmp_path / "out"
    assert cross(data, "btmri", out, "OPTIM.LR", 0.02) == 0
    source, target = (next(out.glob(f"{place}/**/seed1")) for place in ("few_shot", "cross_dataset/btmri/busi"))
    call = ["--root", data, "--trainer", "CoOp", "--backbone", "PhantomCLIP", "--dataset-config-file",
            REPO / "configs/datasets/busi.yaml", "--config-file", REPO / "configs/trainers/CoOp/few_shot.yaml", "--eval-only",
            "--model-dir", source, "--output-dir", tmp_path / "by_hand", "--seed", 1, *QUICK]  # fmt: skip
    assert train.main([str(word) for word in call]) == 0
    assert rows(target) == rows(tmp_path / "by_hand") and len(rows(target)) > 3
    record, trained = (json.loads((folder / "results.json").read_text()) for folder in (target, source))
    assert record["task"] == "cross_dataset" and record["classnames"] == list(BUSI_CLASSES) and record["train"] == {}
    assert (target / record["source"]["folder"]).resolve() == source.resolve()
    assert record["source"]["config_hash"] == trained["config_hash"] and record["source"]["dataset"] == "BTMRI"
    assert record["changed"] == trained["changed"] and "OPTIM.LR" in record["changed"]
    assert record["fingerprints"]["split"] != trained["fingerprints"]["split"] == record["source"]["split"]
    with pytest.raises(UserError, match=f"only tested what {source.resolve()} learned"):
        load_run(target)
    assert load_run(source, classnames=record["classnames"]).classnames == list(BUSI_CLASSES)
    assert train.main(["--from-results", str(target / "results.json"), "--output-dir", str(tmp_path / "new")]) == 2
    assert "only tested what another run learned" in capsys.readouterr().err


def test_a_source_that_is_trained_anew_is_tested_again(data: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert cross(data, "btmri", out) == 0
    (checkpoint,) = out.glob("few_shot/**/model.pth.tar-2")
    before = json.loads(next(out.glob("cross_dataset/**/results.json")).read_text())["source"]["checkpoint"]
    shutil.rmtree(checkpoint.parents[1])
    assert cross(data, "btmri", out, epochs=3) == 2  # the test was of a training of 2 epochs
    assert "holds a run with other settings (OPTIM.MAX_EPOCH 2 -> 3)" in capsys.readouterr().err
    record = next(out.glob("cross_dataset/**/results.json"))
    record.write_text(record.read_text().replace(before, "0" * 64))
    assert cross(data, "btmri", out) == 0
    assert "tested again" in capsys.readouterr().out
    assert json.loads(record.read_text())["source"]["checkpoint"] != "0" * 64
    record.unlink()  # a test that was interrupted
    assert cross(data, "btmri", out, "--eval-only") == 0
    said = capsys.readouterr().out
    assert "accuracy " in said and "epoch [" not in said and record.is_file()


def test_the_script_prints_the_table(data: Path, tmp_path: Path) -> None:
    env = os.environ | {"DATA": str(data), "OUTPUT": str(tmp_path), "BACKBONE": "PhantomCLIP", "SHOTS": "2", "TARGETS": "busi"}
    call = ["bash", str(REPO / "scripts/zero_shot/xd.sh"), "btmri", "1", "--", "DATALOADER.NUM_WORKERS", "0"]
    done = subprocess.run(call, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Cross-dataset accuracy in %, BTMRI → BUSI, 2 shots" in done.stdout and "missing" not in done.stdout


def test_every_method_has_the_script() -> None:
    folders = [path.parent for path in REPO.glob("scripts/*/few_shot.sh")]
    assert len(folders) > 10
    for folder in folders:
        last = (folder / "few_shot.sh").read_text().splitlines()[-1]
        assert (folder / "xd.sh").read_text().splitlines()[-1] == last.replace("few_shot", "xd", 1)


# -- the same classes -------------------------------------------------------------------------------------


@pytest.fixture
def shift(tmp_path: Path) -> Path:
    """``here.yaml`` and ``there.yaml``: the same three classes from two places; ``turned.yaml`` in another order."""
    for place, start in (("here", 0), ("there", 100)):
        for kind in ("bright", "dark", "grey"):
            draw(tmp_path / place / kind, kind, 8, start)
        write_yaml(tmp_path / f"{place}.yaml", FOLDER=str(tmp_path / place))
    write_yaml(tmp_path / "turned.yaml", FOLDER=str(tmp_path / "there"), CLASSNAMES=["grey", "dark", "bright"])
    return tmp_path


@pytest.mark.parametrize("method", ["LinearProbe", "TipAdapterF", "ProKeR", "CLIPAdapter", "ZeroshotCLIP"])
def test_a_classifier_is_tested_on_the_same_classes_from_elsewhere(method: str, shift: Path) -> None:
    epochs = 2 if method == "CLIPAdapter" else None
    extra = ("TRAINER.TIPADAPTERF.SEARCH_STEP", "[7, 5]") if method == "TipAdapterF" else ()
    out = shift / "out"
    assert cross(shift, shift / "here.yaml", out, *extra, method=method, targets=(shift / "there.yaml",), epochs=epochs) == 0
    own, other = sorted((read_run(path.parent) for path in out.rglob("results.json")), key=lambda run: run.dataset)
    assert (own.dataset, other.dataset, other.split) == ("here", "here → there", "target")
    assert own.series == other.series
    assert other.metrics["accuracy"] > 60 and {row[0] for row in rows(other.folder)} != {row[0] for row in rows(own.folder)}


def test_another_order_is_matched_by_name_or_refused(shift: Path, capsys) -> None:
    """A classifier would mix the classes up; prompts carry their names along."""
    out, turned = shift / "out", shift / "turned.yaml"
    for method, words, epochs in (("LinearProbe", (), None), ("CoOp", ("TRAINER.COOP.CSC", True), 1)):
        assert cross(shift, shift / "here.yaml", out, *words, method=method, targets=(turned,), epochs=epochs) == 2
        said = capsys.readouterr().err
        assert "turned has the source's classes in another order (grey, dark, bright; source: bright, dark, grey)" in said
        assert not out.exists()  # nothing was trained
    there = shift / "there.yaml"
    assert cross(shift, shift / "here.yaml", out, targets=(there, turned), epochs=1) == 0
    found = [rows(next((out / "cross_dataset" / "here" / name).rglob("seed1"))) for name in ("there", "turned")]
    by_name = [{row[0]: dict(zip(names, row[2:], strict=True)) for row in one[1:]} for one, names in
               zip(found, (("bright", "dark", "grey"), ("grey", "dark", "bright")), strict=True)]  # fmt: skip
    shared = set(by_name[0]) & set(by_name[1])  # the splits are drawn by label
    assert shared
    for path in shared:
        for name, value in by_name[0][path].items():
            assert float(by_name[1][path][name]) == pytest.approx(float(value), abs=1e-5)


def test_other_classes_are_refused_before_training(data: Path, tmp_path: Path, capsys) -> None:
    assert cross(data, "btmri", tmp_path / "out", method="LinearProbe", targets=("busi",), epochs=None) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "BUSI has other classes" in said and "LinearProbe learns a classifier" in said
    assert not (tmp_path / "out").exists()


def test_a_target_needs_no_prompts_of_its_own(data: Path, tmp_path: Path) -> None:
    """BiomedDPT's teacher, the LLM prompts, teaches the source alone."""
    for kind in ("bright", "dark"):
        draw(tmp_path / "images" / kind, kind, 8)
    mine = write_yaml(tmp_path / "mine.yaml", FOLDER=str(tmp_path / "images"), MODALITY="X-ray")
    assert cross(data, "btmri", tmp_path / "out", method="BiomedDPT", targets=(mine,), epochs=1) == 0
    config = next((tmp_path / "out" / "cross_dataset").rglob("config.yaml")).read_text()
    assert "RUN_TEMPLATE: a X-ray photo of a {}." in config and "TRAINED_ON: btmri" in config


MISTAKES = [
    (("busii",), 'target "busii" is no dataset', "Did you mean"),
    (("nowhere.yaml",), "no config file nowhere.yaml", ""),
    (("btmri",), "is the source itself", ""),
    (("octmnist",), "no OCTMNIST images in", "python -m datasets.download octmnist"),
]


@pytest.mark.parametrize("targets, line, hint", MISTAKES)
def test_a_wrong_target_is_one_line_before_training(targets, line, hint, data: Path, tmp_path: Path, capsys) -> None:
    assert cross(data, "btmri", tmp_path / "out", targets=targets) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and line in said and hint in said and not (tmp_path / "out").exists()


def test_targets_belong_to_this_protocol(data: Path, tmp_path: Path, capsys) -> None:
    assert cross(data, "btmri", tmp_path / "out", targets=("busi",), task="few_shot") == 2
    assert "--targets are tested by --task cross_dataset" in capsys.readouterr().err
    assert cross(data, "btmri", tmp_path / "out", "DATASET.TRAINED_ON", "busi") == 2
    assert "DATASET.TRAINED_ON is not read by CoOp" in capsys.readouterr().err
    alone = write_dataset(tmp_path / "alone", "BTMRI", BTMRI_CLASSES, per_class=6)
    assert cross(alone, "btmri", tmp_path / "out") == 2
    assert "no target: no other published dataset is in" in capsys.readouterr().err


def test_one_job_in_process(data: Path, tmp_path: Path) -> None:
    files = [REPO / "configs/datasets/btmri.yaml", REPO / "configs/trainers/ZeroshotCLIP/few_shot.yaml"]
    overrides = ["DATALOADER.NUM_WORKERS", 0, "USE_CUDA", False, "SEED", 3, "DATASET.NUM_SHOTS", 1]
    cfg = configured("ZeroshotCLIP", "PhantomCLIP", files=files, settings={"DATASET.ROOT": str(data)}, overrides=overrides)
    wanted = [Path(one.OUTPUT_DIR) for one in stage_configs(cfg, "cross_dataset", tmp_path, "btmri", ["busi"])]
    assert run_task(cfg, "cross_dataset", tmp_path, "btmri", targets=["busi"]) == wanted
    below = "shots_1/ZeroshotCLIP_PhantomCLIP/template/seed3"
    assert wanted == [tmp_path / "few_shot/btmri" / below, tmp_path / "cross_dataset/btmri/busi" / below]
