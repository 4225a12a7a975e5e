"""The kept predictions: the file, the evaluator that fills it, and runs that it belongs to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import metrics as command
from analysis.predictions import Predictions, read_predictions, write_predictions
from analysis.results import DamagedRun
from dassl.config import get_cfg_default
from dassl.evaluation import Classification
from dassl.utils import UserError
from runs.departures import changed_settings
from runs.settings import config_file
from tests.conftest import BTMRI_CLASSES, REPO, write_dataset
from tests.helpers import arguments
from tests.synthetic_runs import write_run
from trainers import methods
from trainers.evaluation import ClassificationPerImage

NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAMES, st.integers(0, 2), st.lists(st.floats(0, 1), min_size=3, max_size=3)), min_size=1, max_size=8))
def test_predictions_read_back_to_the_bit(tmp_path_factory, rows) -> None:
    path = tmp_path_factory.mktemp("kept") / "predictions.csv.gz"
    kept = Predictions([row[0] for row in rows], np.array([row[1] for row in rows]), np.array([row[2] for row in rows]))
    write_predictions(path, kept)
    again = read_predictions(path)
    assert list(again.paths) == list(kept.paths) and np.array_equal(again.labels, kept.labels)
    assert again.probabilities.tobytes() == kept.probabilities.tobytes()
    written = path.read_bytes()
    write_predictions(path, again)
    assert path.read_bytes() == written


def test_predictions_cut_anywhere_are_damaged(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    path = folder / "predictions.csv.gz"
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedRun, match="predictions.csv.gz"):
            read_predictions(path)
    path.unlink()
    with pytest.raises(DamagedRun, match="no .*predictions.csv.gz"):
        read_predictions(path)


# -- runs -------------------------------------------------------------------------------------------------


def test_the_command_says_whether_a_run_equals_its_predictions(tmp_path: Path, capsys) -> None:
    folder = write_run(tmp_path, accuracy=73)
    assert command.main([str(folder)]) == 0
    assert "accuracy: 73.00 %" in capsys.readouterr().out
    path = folder / "results.json"
    record = json.loads(path.read_text())
    record["metrics"]["macro_f1"] += 1
    path.write_text(json.dumps(record))
    assert command.main([str(folder)]) == 1
    assert "NOT equal to results.json: metrics" in capsys.readouterr().out
    (folder / "predictions.csv.gz").unlink()
    assert command.main([str(folder)]) == 2
    assert "--eval-only" in capsys.readouterr().err


@pytest.mark.parametrize(
    "key, name, classes, split",
    [("btmri", "BTMRI", BTMRI_CLASSES, "base"), ("busi", "BUSI", ("benign tumor", "malignant tumor", "normal scan"), "new"),
     ("kneexray", "KneeXray", ("healthy knee", "doubtful osteoarthritis", "minimal osteoarthritis", "moderate osteoarthritis",
                               "severe osteoarthritis"), "all")],
)  # fmt: skip
def test_a_run_keeps_what_its_metrics_need(key, name, classes, split, tiny_biomedclip, tmp_path) -> None:
    import train

    root = write_dataset(tmp_path / "data", name, classes, per_class=10)
    words = arguments("ZeroshotCLIP", tiny_biomedclip, root, tmp_path / "run", split=split, dataset=key)
    assert train.main(words) == 0
    record, again = command.recomputed(tmp_path / "run")
    assert {field: record[field] for field in again} == again
    assert record["kappa_weights"] == ("quadratic" if key == "kneexray" else None)
    assert (record["metrics"]["macro_auroc"] is None) == (split == "new")
    assert set(record["files"]) == {"config.yaml", "log.txt", "predictions.csv.gz"} and record["changed"] == {}
    kept = read_predictions(tmp_path / "run" / "predictions.csv.gz")
    tested_images = json.loads((root / name / f"split_{name}.json").read_text())["test"]
    wanted = [(path, record["classnames"].index(c)) for path, _, c in tested_images if c in record["classnames"]]
    assert list(zip(kept.paths, kept.labels.tolist(), strict=True)) == wanted


def test_only_the_last_test_is_kept_and_changed_settings_are_named(tiny_biomedclip, btmri_root, tmp_path) -> None:
    import train

    words = arguments("CoOp", tiny_biomedclip, btmri_root, tmp_path / "run", split="base", epochs=1, N_CTX=3)
    assert train.main([*words, "TEST.FINAL_MODEL", "best_val"]) == 0  # tests on validation images, then on test images
    record, again = command.recomputed(tmp_path / "run")
    assert record["num_test"] == again["num_test"] == 2 * 4
    assert record["changed"] == {
        "OPTIM.MAX_EPOCH": {"config_file": 50, "run": 1},
        "TEST.FINAL_MODEL": {"config_file": "last_step", "run": "best_val"},
        "TRAINER.COOP.N_CTX": {"config_file": 4, "run": 3},
    }
    assert "prompt_learner/model-best.pth.tar" in record["files"]


def test_a_run_that_lost_a_file_is_done_again(tiny_biomedclip, btmri_root, tmp_path, capsys) -> None:
    import train

    words = arguments("ZeroshotCLIP", tiny_biomedclip, btmri_root, tmp_path, split="base")
    place = words.index("--output-dir")
    words[place : place + 2] = ["--output-root", str(tmp_path / "out"), "--task", "few_shot"]
    assert train.main(words) == 0
    (path,) = (tmp_path / "out").rglob("predictions.csv.gz")
    kept = path.read_bytes()
    assert train.main(words) == 0 and "done already" in capsys.readouterr().out
    path.unlink()
    assert train.main(words) == 0 and "done already" not in capsys.readouterr().out
    assert path.read_bytes() == kept


@pytest.mark.parametrize("method", sorted(methods()))
def test_a_run_by_its_config_file_has_changed_nothing(method, tmp_path) -> None:
    import train

    for key, split in (("btmri", "all"), ("kneexray", "base")):
        file = config_file(method, split, key)
        assert file is not None
        words = ["--root", str(tmp_path), "--seed", "3", "--trainer", method, "--output-dir", str(tmp_path / "run"),
                 "--dataset-config-file", str(REPO / "configs" / "datasets" / f"{key}.yaml"), "--config-file", str(file),
                 "DATASET.SUBSAMPLE_CLASSES", split, "DATASET.NUM_SHOTS", "2", "DATALOADER.NUM_WORKERS", "0"]  # fmt: skip
        assert changed_settings(train.setup_cfg(train.parse_arguments(words)), key) == {}
        longer = train.setup_cfg(train.parse_arguments([*words, "DATALOADER.TEST.BATCH_SIZE", "7"]))
        assert changed_settings(longer, key) == {"DATALOADER.TEST.BATCH_SIZE": {"config_file": 100, "run": 7}}


def test_an_evaluator_that_keeps_nothing_is_refused(tiny_biomedclip, btmri_root, tmp_path, capsys) -> None:
    import train

    words = arguments("ZeroshotCLIP", tiny_biomedclip, btmri_root, tmp_path / "run", split="base")
    assert train.main([*words, "TEST.EVALUATOR", "Classification"]) == 2
    assert "TEST.EVALUATOR" in capsys.readouterr().err


def test_the_evaluator_is_dassls_and_keeps_probabilities() -> None:
    cfg, names = get_cfg_default(), {0: "a", 1: "b", 2: "c"}
    ours, plain = ClassificationPerImage(cfg, lab2cname=names), Classification(cfg, lab2cname=names)
    drawn = torch.Generator().manual_seed(0)
    scores, labels = 30 * torch.randn(9, 3, generator=drawn), torch.randint(3, (9,), generator=drawn)
    for part in range(0, 9, 4):
        ours.paths += [f"{part}_{index}" for index in range(len(labels[part : part + 4]))]
        for one in (ours, plain):
            one.process(scores[part : part + 4], labels[part : part + 4])
    assert ours.evaluate() == plain.evaluate()
    paths, truths, probabilities = ours.predictions()
    exponentials = np.exp(scores.double().numpy())
    assert np.allclose(probabilities, exponentials / exponentials.sum(axis=1, keepdims=True), rtol=1e-12, atol=0)
    assert truths.tolist() == labels.tolist() and len(paths) == 9
    ours.process(scores[:1] * torch.nan, labels[:1])
    ours.paths.append("x")
    with pytest.raises(UserError, match="infinite or NaN"):
        ours.predictions()
    ours.reset()
    assert ours.paths == [] and ours.y_true == []
