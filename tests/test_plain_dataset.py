"""A dataset that knows Dassl alone, under this project's methods: from train.py to the tables; and the logs they leave."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

import parse_results
import predict
import train
from analysis.predictions import read_predictions
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.utils import UserError
from datasets.facts import PLAIN_TEMPLATE, facts_of, facts_without_images
from runs.config import default_config
from runs.identity import check_same_settings
from runs.inference import load_run
from runs.progress import is_complete
from runs.settings import config_file
from tests.conftest import REPO
from tests.engine_helpers import CLASSES, write_toy_images
from tests.helpers import QUICK
from trainers import methods


@pytest.fixture(scope="module")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import toy_dataset  # noqa: F401  (registers it)

    return write_toy_images(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "toy.json"
    sentences = {name: [{"text": f"a picture of {name}, number {n}"} for n in range(50)] for name in CLASSES}
    path.write_text(json.dumps({"prompts": sentences}))
    return path


def call(method: str, root: Path, backbone: Path, out: Path, *more: object, **dataset: object) -> int:
    """train.py on the toy dataset, with some keys of its config file."""
    own = out.parent / "toy.yaml"
    own.write_text(yaml.safe_dump({"DATASET": {"NAME": "ToyStripes", **dataset}}))
    cls = methods()[method]
    quick = {f"TRAINER.{cls.section}.{key}": value for key, value in QUICK.get(method, {}).items()}
    if cls.learns and cls.uses_optimizer:
        quick |= {"OPTIM.MAX_EPOCH": 1, "DATALOADER.TRAIN_X.BATCH_SIZE": 4}
    quick |= {"MODEL.BACKBONE.PATH": backbone, "DATASET.NUM_SHOTS": 2, "DATALOADER.NUM_WORKERS": 0, "USE_CUDA": False}
    words = ["--root", root, "--seed", 1, "--trainer", method, "--backbone", "BiomedCLIP", "--dataset-config-file", own,
             "--config-file", config_file(method, "all", "toy"), "--task", "few_shot", "--output-root", out, *more]  # fmt: skip
    return train.main([str(word) for word in (*words, *(word for pair in quick.items() for word in pair))])


@pytest.mark.parametrize("method", list(methods()))
def test_it_runs_to_a_results_file(method: str, toy_root: Path, prompts: Path, tiny_biomedclip: Path, tmp_path: Path) -> None:
    assert call(method, toy_root, tiny_biomedclip, tmp_path / "out", PROMPTS=str(prompts)) == 0
    (path,) = (tmp_path / "out").rglob("results.json")
    record = json.loads(path.read_text())
    assert is_complete(path.parent) and record["dataset"] == "ToyStripes" and record["classnames"] == list(CLASSES)
    assert (record["modality"], record["organ"], record["rehearsal"], record["fingerprints"]["split"]) == ("", "", False, None)
    assert re.fullmatch("[0-9a-f]{64}", record["fingerprints"]["data"])
    assert record["notes"] == [f'it has no template of its own: "{PLAIN_TEMPLATE}" is used']
    kept = read_predictions(path.parent / "predictions.csv.gz")
    assert sorted(kept.paths)[0].startswith("no_stripes/") and len(kept.paths) == 12


def test_tables_predictions_and_a_second_call(
    toy_root: Path, tiny_biomedclip: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    out = tmp_path / "out"
    for method in ("ZeroshotCLIP", "CoOp"):
        assert call(method, toy_root, tiny_biomedclip, out, TEMPLATE="a drawing of {} lines") == 0
    capsys.readouterr()
    assert call("CoOp", toy_root, tiny_biomedclip, out, TEMPLATE="a drawing of {} lines") == 0
    assert "done already" in capsys.readouterr().out
    assert parse_results.main([str(out), "--modalities"]) == 0
    shown = capsys.readouterr().out
    assert "ToyStripes" in shown and "CoOp" in shown and "unknown" in shown and "not averaged" not in shown
    assert parse_results.main([str(out), "--paired", "CoOp", "ZeroshotCLIP"]) == 0
    (folder,) = (path.parent for path in out.rglob("results.json") if json.loads(path.read_text())["method"] == "ZeroshotCLIP")
    own = load_run(folder).text_features()
    monkeypatch.delitem(DATASET_REGISTRY._obj_map, "ToyStripes")  # its code is another project's
    assert torch.equal(load_run(folder).text_features(), own)
    assert predict.main([str(folder), str(toy_root / "toy_stripes" / "images" / "no_stripes")]) == 0


def test_without_llm_prompts_it_is_told_in_a_line(toy_root: Path, tiny_biomedclip: Path, tmp_path: Path, capsys) -> None:
    assert call("BiomedDPT", toy_root, tiny_biomedclip, tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: no LLM prompts for this dataset") and "DATASET.PROMPTS" in line
    assert not (tmp_path / "out").exists()


# -- what it says of itself -------------------------------------------------------------------------------


class Terse(DatasetBase):
    """Two images of one class in two folders, no validation images."""

    def __init__(self, root: Path) -> None:
        paths = [root / "one" / "a.png", root / "two" / "b.png"]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(path.name.encode())
        items = [Datum(impath=str(path), label=0, classname="thing") for path in paths]
        super().__init__(train_x=items[:1], test=items[1:])


def config(**own: object):
    cfg = default_config()
    cfg.DATASET.NAME = "Terse"
    for key, value in own.items():
        cfg.DATASET[key] = value
    return cfg


def test_facts_of_a_dataset_that_says_nothing(tmp_path: Path) -> None:
    facts = facts_of(Terse(tmp_path / "x"), config())
    assert (facts.name, facts.key, facts.template, facts.classnames) == ("Terse", "terse", PLAIN_TEMPLATE, ("thing",))
    assert facts.image_folder == str(tmp_path / "x") and not facts.ordered and facts.split_hash is None
    assert facts.data_hash == facts_of(Terse(tmp_path / "y"), config()).data_hash, "wherever it lies"
    (tmp_path / "x" / "two" / "b.png").write_bytes(b"another size")
    with_other = Terse(tmp_path / "y")
    (tmp_path / "y" / "two" / "b.png").write_bytes(b"another size")
    assert facts_of(with_other, config()).data_hash != facts.data_hash
    (tmp_path / "y" / "two" / "b.png").unlink()
    with pytest.raises(UserError, match="1 images of the split are not in"):
        facts_of(with_other, config())


def test_its_words_and_the_configs(toy_root: Path, tmp_path: Path) -> None:
    dataset = Terse(tmp_path)
    dataset.template, dataset.modality, dataset.ordered = ["a sketch of {}.", "another of {}"], "X-ray", True
    facts = facts_of(dataset, config(SUBSAMPLE_CLASSES="base", ORGAN="hand"))
    assert (facts.template, facts.modality, facts.organ, facts.ordered) == ("a sketch of {}.", "X-ray", "hand", True)
    assert facts.notes == ("its base classes are those that its own code gives",)
    assert facts_of(dataset, config(TEMPLATE="{}!", MODALITY="CT")).template == "{}!"
    dataset.template = "no place"
    with pytest.raises(UserError, match='Terse\'s template "no place" must hold {} once'):
        facts_of(dataset, config())
    with pytest.raises(UserError, match="Terse"):
        facts_without_images(config(), ["thing"])
    assert facts_without_images(config(RUN_TEMPLATE="as it was: {}"), ["thing"]).template == "as it was: {}"
    assert facts_without_images(config(NAME="ToyStripes"), ["thing"]).template == PLAIN_TEMPLATE


def test_a_run_of_before_has_the_same_settings(toy_root: Path, tiny_biomedclip: Path, tmp_path: Path) -> None:
    """What the data decide, written into config.yaml, is no setting: older files lack it, and calls never give it."""
    assert call("ZeroshotCLIP", toy_root, tiny_biomedclip, tmp_path / "out") == 0
    (path,) = (tmp_path / "out").rglob("config.yaml")
    kept = yaml.safe_load(path.read_text())
    assert kept["DATASET"].pop("RUN_TEMPLATE") == PLAIN_TEMPLATE
    cfg = default_config()
    cfg.merge_from_file(str(path))
    cfg.DATASET.RUN_TEMPLATE = ""
    check_same_settings(cfg, path.parent)
    path.write_text(yaml.safe_dump(kept))
    check_same_settings(cfg, path.parent)
    assert "RUN_TEMPLATE" not in get_cfg_default().DATASET


# -- the log ----------------------------------------------------------------------------------------------


def stock_parser(directory: Path, end_signal: str) -> list[float]:
    """Accuracies as CoOp's parse_test_res.py finds them: the last of each folder's log.txt behind the signal."""
    found = []
    for folder in sorted(directory.iterdir()):
        good_to_go, last = False, None
        for line in (folder / "log.txt").read_text().splitlines():
            good_to_go = good_to_go or line.strip() == end_signal
            match = re.search(r"\* accuracy: ([\.\deE+-]+)%", line)
            if match and good_to_go:
                last = float(match.group(1))
        found += [] if last is None else [last]
    return found


def test_a_test_in_the_folder_of_a_training_leaves_a_log_that_is_read(
    toy_root: Path, tiny_biomedclip: Path, tmp_path: Path
) -> None:
    assert call("CoOp", toy_root, tiny_biomedclip, tmp_path / "out") == 0
    (folder,) = (path.parent for path in (tmp_path / "out").rglob("results.json"))
    accuracy = [round(json.loads((folder / "results.json").read_text())["metrics"]["accuracy"], 2)]
    before = (folder / "log.txt").read_text()
    assert stock_parser(folder.parent, "Finish training") == stock_parser(folder.parent, "=> result") == accuracy
    assert call("CoOp", toy_root, tiny_biomedclip, tmp_path / "out", "--eval-only") == 0
    assert stock_parser(folder.parent, "Finish training") == stock_parser(folder.parent, "=> result") == accuracy
    assert (folder / "log.txt").read_text() == before and is_complete(folder)
    (later,) = folder.glob("log.txt-*")
    assert "=> result" in later.read_text() and "Finish training" not in later.read_text()


def test_a_call_that_fails_takes_no_log_but_its_own(toy_root: Path, tiny_biomedclip: Path, tmp_path: Path) -> None:
    """Another project's training, without our config.yaml, lies in the folder."""
    (tmp_path / "log.txt").write_text("Finish training\n=> result\n* accuracy: 50.00%\n")
    words = ["--root", toy_root, "--seed", 1, "--trainer", "BiomedDPT", "--config-file",
             REPO / "configs" / "trainers" / "BiomedDPT" / "few_shot.yaml", "--output-dir", tmp_path,
             "DATASET.NAME", "ToyStripes", "MODEL.BACKBONE.PATH", tiny_biomedclip, "DATALOADER.NUM_WORKERS", 0]  # fmt: skip
    assert train.main([str(word) for word in words]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]
