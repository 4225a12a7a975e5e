"""``python -m share pack``: what is in the folder, what is not, and that it predicts to the bit what the run predicts."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

import predict
import train
from analysis.results import read_run
from dassl.utils import UserError
from runs.inference import load_run
from share.command import main
from share.pack import FILES, pack
from share.scrub import secrets
from tests.conftest import BTMRI_CLASSES, write_dataset, write_tiny_biomedclip
from tests.helpers import arguments, quick
from tests.synthetic_runs import write_run
from tests.test_predict import keep
from trainers import methods
from trainers.checkpoints import LEARNER

pytestmark = pytest.mark.usefixtures("log_off_stdout")

USER = "mariecurie"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with a name in it, with data, a backbone and runs of three seeds."""
    home = tmp_path_factory.mktemp("machine") / "home" / USER
    write_dataset(home / "data", "BTMRI", BTMRI_CLASSES)
    write_tiny_biomedclip(home / "weights")
    for seed in (1, 2, 3):
        words = arguments("CoOp", home / "weights", home / "data", run_of(home, seed), split="all", seed=seed, epochs=1)
        assert train.main(words) == 0
    return home


def run_of(home: Path, seed: int = 1) -> Path:
    return home / "out" / "few_shot" / "btmri" / "shots_2" / "CoOp_BiomedCLIP" / "nctx4_cscFalse_ctpend" / f"seed{seed}"


@pytest.fixture
def account(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The account that the home folder belongs to, which is also the working folder."""
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("LOGNAME", USER)
    monkeypatch.setattr("share.scrub.socket.gethostname", lambda: "radium.example.org")
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def packed(account: Path, tmp_path: Path) -> Path:
    return pack(run_of(account), tmp_path / "packed", "mit").folder


def predicted(run: Path, images: Path, out: Path, *words: str) -> list[dict]:
    assert predict.main([str(run), str(images), "-o", str(out), *words]) == 0
    return json.loads(out.read_text())["images"]


def test_it_predicts_to_the_bit_what_the_run_predicts(account: Path, packed: Path, tmp_path: Path, capsys) -> None:
    images = account / "data" / "BTMRI" / "BTMRI"
    own = predicted(run_of(account), images, tmp_path / "own.json")
    shared = predicted(packed, images, tmp_path / "shared.json", "--backbone-path", str(account / "weights"))
    assert own == shared and len(own) == 48
    assert "warning" not in capsys.readouterr().err  # the backbone is the one that it was trained with


LEARNING = sorted(name for name, cls in methods().items() if cls.learns)


@pytest.mark.parametrize("method", LEARNING)
def test_every_method_that_learns(method: str, tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path, monkeypatch) -> None:
    trainer = quick(method, tiny_biomedclip, btmri_root, tmp_path / "was")
    drawn = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in trainer.prompt_learner.state_dict().values():
            value += 0.1 * torch.randn(value.shape, generator=drawn)
    trainer.set_model_mode("eval")
    images = torch.randn(2, 3, trainer.backbone.image_size, trainer.backbone.image_size, generator=drawn)
    run = write_run(tmp_path / "runs", method, shots=2)
    for path in (run / LEARNER).iterdir():
        path.unlink()
    keep(trainer, run)
    monkeypatch.setattr("share.pack.read_whole_record", lambda folder: json.loads((folder / "results.json").read_text()))
    monkeypatch.setattr("share.siblings.read_run", _unread)
    packed = pack(run, tmp_path / "packed").folder
    again = load_run(packed, backbone_path=str(tiny_biomedclip))
    assert torch.equal(again.model_inference(images), load_run(run).model_inference(images))
    assert set(load_file(packed / "prompt.safetensors")) == set(trainer.prompt_learner.state_dict())


def _unread(folder: Path):
    """The results of a run whose files were put there by hand."""
    record = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(record | {"files": {}}))
    return read_run(folder)


def test_the_files_and_what_they_hold(account: Path, packed: Path) -> None:
    assert sorted(path.name for path in packed.iterdir()) == sorted(FILES)
    checkpoint = torch.load(next((run_of(account) / LEARNER).glob("model.pth.tar-*")), weights_only=True)["state_dict"]
    stored = load_file(packed / "prompt.safetensors")
    assert set(stored) == set(checkpoint) and all(torch.equal(stored[name], checkpoint[name]) for name in stored)
    with safe_open(packed / "prompt.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    run, own = read_run(packed), read_run(run_of(account))
    assert (run.metrics, run.cell) == (own.metrics, own.cell)
    config = yaml.safe_load((packed / "config.yaml").read_text())
    assert config["DATASET"]["RUN_CLASSNAMES"] == list(BTMRI_CLASSES) and config["OPTIM"]["MAX_EPOCH"] == 1
    assert set(config["TRAINER"]) == {"NAME", "COOP"}


def test_nothing_of_the_machine_is_in_any_file(account: Path, packed: Path) -> None:
    """Of a run whose every file names the home folder, its user and the machine, in sentences too."""
    run = account / "named"
    shutil.copytree(run_of(account), run)
    record = json.loads((run / "results.json").read_text())
    folder = account / "data" / "my patients"
    record["notes"] = [f"no split.json in {folder}", "images of patient_17.png are left out"]
    record["warnings"] = [f"2 images in {folder}/train stand twice", "Marie Curie said: see C:\\Users\\x\\y.csv", f"{USER}'s"]
    record["departures"] = ["prompts of ~/prompts.json", "on radium"]
    record["changed"] = {"DATASET.PROMPTS": {"config_file": "", "run": str(account / "mine.json")}}
    record["files"] = {}
    (run / "results.json").write_text(json.dumps(record))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["DATASET"] |= {"PROMPTS": str(account / "mine.json"), "GROUP_BY": "groups.csv", "EXCLUDE": ["patient_17*"]}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    pack(run, packed, "mit")  # over the earlier one
    text = "\n".join((packed / name).read_bytes().decode("utf-8", "replace") for name in FILES)
    for secret in (
        str(account),
        "/home/",
        USER,
        "radium",
        "patient_17",
        "my patients",
        "mine.json",
        "~/",
        "C:\\",
        "groups.csv",
    ):
        assert secret not in text, secret
    assert str(os.getcwd()) not in text and "/tmp" not in text
    shown = json.loads((packed / "results.json").read_text())
    assert shown["warnings"][0].startswith("2 images in <path>") and shown["warnings"][2] == "<name>'s"
    assert shown["departures"] == ["prompts of <path>", "on <name>"]


@pytest.mark.parametrize(
    "text", ["ViT-B/16 and 1/2", "hf://a/b@c", "https://x.org/y", "either/or", "a / b", "5 % (1 / 3)", "</b>"]
)
def test_what_is_no_path_stays(text: str) -> None:
    assert secrets().without_places(text) == text


@pytest.mark.parametrize("path", ["/srv/x.csv", "~/x", "'/a b'", "=/x/y", "(/mnt/z)", "D:/x", "D:\\x\\y", "\\\\server\\share"])
def test_what_is_a_path_goes(path: str) -> None:
    said = secrets().without_places(f"read {path}, then")
    assert "<path>" in said and not any(part in said for part in ("srv", "mnt", "/a", "/x", "\\x", "server"))


def test_names_that_predictions_depend_on_stay_and_are_told(account: Path, tmp_path: Path) -> None:
    run = account / "title"
    shutil.copytree(run_of(account), run)
    record = json.loads((run / "results.json").read_text()) | {"files": {}}
    record["classnames"] = [f"{USER} tumor", *record["classnames"][1:]]
    (run / "results.json").write_text(json.dumps(record))
    (note,) = pack(run, tmp_path / "out", "mit").notes
    assert f'a class name holds "{USER}"' in note and "stays" in note
    assert json.loads((tmp_path / "out" / "results.json").read_text())["classnames"][0] == f"{USER} tumor"


def test_a_backbone_that_is_a_folder_is_named_without_its_place(account: Path, tmp_path: Path) -> None:
    run, images = account / "local", account / "data" / "BTMRI" / "BTMRI" / "normal_brain"
    words = arguments("CoOp", None, account / "data", run, split="all", epochs=1, backbone=f"local-dir:{account / 'weights'}")
    assert train.main(words) == 0
    packed = pack(run, tmp_path / "packed").folder
    assert yaml.safe_load((packed / "config.yaml").read_text())["MODEL"]["BACKBONE"]["NAME"] == "local-dir:weights"
    with pytest.raises(UserError, match=r"lay in a folder of the machine .*--backbone-path FOLDER"):
        load_run(packed)
    shared = predicted(packed, images, tmp_path / "shared.json", "--backbone-path", str(account / "weights"))
    assert shared == predicted(run, images, tmp_path / "own.json")


# -- the card ---------------------------------------------------------------------------------------------


def test_the_cards_header_is_what_the_hub_reads(account: Path, packed: Path) -> None:
    from huggingface_hub import ModelCard

    data = ModelCard.load(packed / "README.md").data
    assert (data.license, data.library_name, data.pipeline_tag) == ("mit", "biomed-dpt", "image-classification")
    assert data.base_model == "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
    assert data.datasets == ["TahaKoleilat/BiomedCoOp"] and {"few-shot", "prompt-tuning", "coop"} <= set(data.tags)
    values = {one.metric_type: one.metric_value for one in data.eval_results}
    assert set(values) == {"accuracy", "f1", "roc_auc"} == set(data.metrics)
    assert values["accuracy"] == pytest.approx(read_run(run_of(account)).metrics["accuracy"], abs=1e-3)
    assert {(one.dataset_name, one.dataset_type) for one in data.eval_results} == {("BTMRI", "btmri")}


def test_the_cards_text(account: Path, packed: Path) -> None:
    from analysis.stats import ci95, mean

    text = (packed / "README.md").read_text(encoding="utf-8")
    values = [read_run(run_of(account, seed)).metrics["accuracy"] for seed in (1, 2, 3)]
    assert f"| accuracy (%) | {mean(values):.2f} ± {ci95(values):.2f} |" in text and "the seeds 1, 2, 3" in text
    prints = json.loads((run_of(account) / "results.json").read_text())["fingerprints"]
    assert prints["backbone"] in text and prints["data"] in text
    for said in ("glioma tumor", "2 images per class, seed 1", "not a medical device", "OPTIM.MAX_EPOCH` 1", "hf://ORG/NAME"):
        assert said in text, said
    assert "generated images" not in text


# -- what is refused --------------------------------------------------------------------------------------


def refused(capsys, *words: str) -> str:
    assert main(list(words)) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and told.startswith("error: ")
    return told


def test_what_cannot_be_packed_is_one_line(account: Path, tmp_path: Path, capsys) -> None:
    run, out = run_of(account), str(tmp_path / "out")
    assert "no config.yaml there" in refused(capsys, "pack", str(tmp_path / "nowhere"), "-o", out)
    assert "holds other things" in refused(capsys, "pack", str(run), "-o", str(run))
    zero = tmp_path / "zero"
    words = arguments("ZeroshotCLIP", account / "weights", account / "data", zero, split="all")
    assert train.main(words) == 0
    capsys.readouterr()
    assert "learns nothing" in refused(capsys, "pack", str(zero), "-o", out)
    unfinished = Path(shutil.copytree(run, tmp_path / "unfinished"))
    (unfinished / "results.json").unlink()
    assert "no results.json" in refused(capsys, "pack", str(unfinished), "-o", out)
    tested = Path(shutil.copytree(run, tmp_path / "tested"))
    shutil.rmtree(tested / LEARNER)
    record = json.loads((tested / "results.json").read_text()) | {"files": {}}
    (tested / "results.json").write_text(json.dumps(record))
    assert "only tested what another run learned" in refused(capsys, "pack", str(tested), "-o", out)
    assert "no checkpoint of epoch 9" in refused(capsys, "pack", str(run), "-o", out, "--epoch", "9")
    assert not Path(out).exists() and list(tmp_path.glob(".*")) == []


def test_the_command_says_what_it_wrote(account: Path, capsys) -> None:
    assert main(["pack", str(run_of(account))]) == 0
    said = capsys.readouterr().out
    folder = Path("packed") / "BTMRI_CoOp_BiomedCLIP_2shots_seed1"
    assert said.startswith(f"{folder}\n") and "prompt.safetensors" in said and "no licence is named" in said
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["pack", str(run_of(account))]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before  # the same again, to the bit
