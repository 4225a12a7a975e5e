"""predict.py: any method's run from its config and what it learned alone, on images good and bad."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import predict
import train
from analysis.predictions import read_predictions
from dassl.utils import UserError
from datasets.base import BiomedDataset
from runs.identity import save_config
from runs.inference import find_images, load_run
from tests.conftest import BTMRI_CLASSES, SHARED, write_dataset, write_tiny_biomedclip
from tests.helpers import arguments, quick
from trainers import methods
from trainers.checkpoints import find_checkpoint

pytestmark = pytest.mark.usefixtures("log_off_stdout")


def keep(trainer, folder: Path) -> Path:
    """What a run leaves that predict.py needs: config and learned tensors."""
    folder.mkdir(exist_ok=True)
    save_config(trainer.cfg, folder)
    if trainer.learns:
        trainer.save_model(0, str(folder))
    return folder


@pytest.fixture
def no_data(monkeypatch) -> None:
    """Building a dataset fails."""

    def absent(self, cfg) -> None:
        raise AssertionError("a dataset was built")

    monkeypatch.setattr(BiomedDataset, "__init__", absent)


@pytest.mark.parametrize("method", sorted(methods()))
def test_every_method_is_rebuilt_from_config_and_learned_tensors(
    method, tiny_biomedclip, btmri_root, tmp_path, request
) -> None:
    trainer = quick(method, tiny_biomedclip, btmri_root, tmp_path / "was")
    drawn = torch.Generator().manual_seed(7)
    if trainer.learns:  # as if it had learned something
        with torch.no_grad():
            for value in trainer.prompt_learner.state_dict().values():
                value += 0.1 * torch.randn(value.shape, generator=drawn)
    trainer.set_model_mode("eval")
    size = trainer.backbone.image_size
    images = torch.randn(3, 3, size, size, generator=drawn)
    want = trainer.model_inference(images)
    folder = keep(trainer, tmp_path / "run")
    request.getfixturevalue("no_data")
    again = load_run(folder)
    assert again is not trainer and again.classnames == list(BTMRI_CLASSES)
    torch.testing.assert_close(again.model_inference(images), want, rtol=1e-6, atol=1e-6)


def test_prompts_that_only_the_loss_reads_are_not_needed(tiny_biomedclip, btmri_root, tmp_path, monkeypatch) -> None:
    for method in ("BiomedDPT", "BiomedCoOp", "PromptSRC"):
        folder = keep(quick(method, tiny_biomedclip, btmri_root, tmp_path / "was"), tmp_path / method)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["DATASET"]["PROMPTS"] = str(tmp_path / "gone.json")
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        load_run(folder)


@pytest.fixture(scope="module")
def run(tiny_biomedclip, btmri_root, tmp_path_factory) -> Path:
    """A trained and tested run."""
    folder = tmp_path_factory.mktemp("whole")
    assert train.main(arguments("BiomedDPT", tiny_biomedclip, btmri_root, folder, split="all")) == 0
    return folder


def test_probabilities_are_those_of_the_runs_own_test(run, btmri_root, tmp_path, no_data) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(run / "prompt_learner", alone / "prompt_learner")
    shutil.copy(run / "config.yaml", alone / "config.yaml")
    kept = read_predictions(run / "predictions.csv.gz")
    images = btmri_root / "BTMRI" / "BTMRI"
    out = tmp_path / "out.csv"
    files = [str(images / path) for path in kept.paths]
    assert predict.main([str(alone), *files, "-o", str(out), "--batch-size", "5", "--workers", "1"]) == 0
    rows = list(csv.DictReader(out.open()))
    assert [row["image"] for row in rows] == files
    found = np.array([[float(row[name]) for name in BTMRI_CLASSES] for row in rows])
    np.testing.assert_allclose(found, kept.probabilities, rtol=1e-4, atol=1e-6)
    for row, values in zip(rows, found, strict=True):
        assert row["prediction"] == BTMRI_CLASSES[values.argmax()] and float(row["probability"]) == values.max()


def bad_files(folder: Path, good: Path) -> list[Path]:
    """No image, nothing, and an image that ends too early."""
    folder.mkdir()
    (folder / "text.png").write_text("this is no image")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.png").write_bytes(good.read_bytes()[:300])
    return sorted(folder.iterdir())


@pytest.mark.parametrize("batch_size", ["1", "4"])
def test_unreadable_images_are_named_and_skipped(run, btmri_root, tmp_path, capsys, batch_size) -> None:
    good = btmri_root / "BTMRI" / "BTMRI" / "glioma_tumor" / "000.png"
    bad = bad_files(tmp_path / "bad", good)
    words = [str(run), str(tmp_path / "bad"), str(good), "--format", "json", "--batch-size", batch_size]
    assert predict.main(words) == 3
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert [one["image"] for one in told["images"]] == [str(good)]
    assert [one["image"] for one in told["unreadable"]] == [str(path) for path in bad]
    assert all(f"unreadable, skipped: {path}" in said.err for path in bad)
    assert sum(told["images"][0]["probabilities"].values()) == pytest.approx(1)
    assert predict.main([str(run), str(tmp_path / "bad")]) == 3


def test_forms_of_output(run, btmri_root, tmp_path, capsys) -> None:
    images = str(btmri_root / "BTMRI" / "BTMRI" / "normal_brain")
    assert predict.main([str(run), images]) == 0
    assert capsys.readouterr().out.count("%") == 12 * 3
    assert predict.main([str(run), images, "--top-k", "2", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(rows[0]) == ["image", "class_1", "probability_1", "class_2", "probability_2"]
    assert all(float(row["probability_1"]) >= float(row["probability_2"]) for row in rows) and len(rows) == 12
    assert predict.main([str(run), images, "--top-k", "1", "-o", str(tmp_path / "new" / "o.json")]) == 0
    told = json.loads((tmp_path / "new" / "o.json").read_text())
    assert (told["method"], told["classes"], told["unreadable"]) == ("BiomedDPT", list(BTMRI_CLASSES), [])
    assert [list(one["probabilities"]) for one in told["images"]] == [[one["prediction"]] for one in told["images"]]
    assert predict.main([str(run), images, "--top-k", "5"]) == 2
    assert "the run has 4 classes" in capsys.readouterr().err


def test_overlays_are_written_with_the_predictions(run, btmri_root, tmp_path) -> None:
    images = btmri_root / "BTMRI" / "BTMRI" / "normal_brain"
    words = [str(run), str(images / "000.png"), str(images / "001.png"), "-o", str(tmp_path / "o.csv")]
    assert predict.main([*words, "--explain", str(tmp_path / "maps")]) == 0
    written = sorted((tmp_path / "maps").iterdir())
    assert [path.name for path in written] == ["0001_000.png", "0002_001.png"]
    with Image.open(written[0]) as picture:
        assert picture.width > picture.height > 200
    assert predict.main([*words, "--explain", str(tmp_path / "none"), "--map", "grad"]) == 2
    assert not (tmp_path / "none").exists()


def without_classes(run: Path, folder: Path) -> Path:
    """The run as an older version wrote it: no class names in its config."""
    shutil.copytree(run, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["DATASET"].pop("RUN_CLASSNAMES") == list(BTMRI_CLASSES)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_class_names_of_an_older_run_come_from_its_results(run, tmp_path) -> None:
    older = without_classes(run, tmp_path / "older")
    assert load_run(older).classnames == list(BTMRI_CLASSES)
    (older / "results.json").unlink()
    with pytest.raises(UserError, match="--classnames"):
        load_run(older)
    assert load_run(older, classnames=BTMRI_CLASSES).classnames == list(BTMRI_CLASSES)


def test_learned_prompts_serve_other_classes_and_classifiers_do_not(tiny_biomedclip, btmri_root, tmp_path) -> None:
    coop = keep(quick("CoOp", tiny_biomedclip, btmri_root, tmp_path / "a", split="base"), tmp_path / "coop")
    assert load_run(coop).classnames == list(BTMRI_CLASSES[:2])
    other = load_run(coop, classnames=BTMRI_CLASSES[2:])
    assert other.text_features().shape[0] == 2
    assert not torch.equal(other.text_features(), load_run(coop).text_features())
    gda = keep(quick("GDA", tiny_biomedclip, btmri_root, tmp_path / "b"), tmp_path / "gda")
    with pytest.raises(UserError, match="only the classes that it was trained on"):
        load_run(gda, classnames=BTMRI_CLASSES[2:])
    with pytest.raises(UserError, match="each once"):
        load_run(coop, classnames=["x", "x"])


def test_other_weights_are_told(run, tmp_path, caplog) -> None:
    load_run(run)
    assert "not those" not in caplog.text
    load_run(run, backbone_path=str(write_tiny_biomedclip(tmp_path / "other", seed=5)))
    assert "not those that" in caplog.text


def test_the_best_checkpoint_is_loaded_where_the_run_tested_it(tmp_path) -> None:
    for name in ("model.pth.tar-2", "model.pth.tar-10", "model-best.pth.tar"):
        (tmp_path / name).touch()
    assert find_checkpoint(tmp_path).name == "model.pth.tar-10"
    assert find_checkpoint(tmp_path, best=True).name == "model-best.pth.tar"
    assert find_checkpoint(tmp_path, 2, best=True).name == "model.pth.tar-2"
    with pytest.raises(UserError, match=r"epoch 0 .*2, 10"):
        find_checkpoint(tmp_path, 0)


MISTAKES = [
    (["/nowhere", "x.png"], "not the folder of a run"),
    (["{run}", "x.png"], "no such file or folder: x.png"),
    (["{run}", "{empty}"], "no images in"),
    (["{empty}", "{image}"], "not the folder of a run"),
    (["{above}", "{image}"], "there is a run in"),
    (["{run}", "{image}", "--epoch", "77"], "no checkpoint of epoch 77"),
    (["{run}", "{image}", "--device", "gpu"], "must be one of cpu, cuda"),
    (["{run}", "{image}", "--batch-size", "0"], "must be 1 or more"),
    (["{run}", "{image}", "--backbone-path", "{empty}"], "no open_clip_config.json"),
]


@pytest.mark.parametrize("words, what", MISTAKES)
def test_a_mistake_is_one_line(words, what, run, btmri_root, tmp_path, capsys) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    image = btmri_root / "BTMRI" / "BTMRI" / "normal_brain" / "000.png"
    places = {"run": run, "empty": empty, "image": image, "above": run.parent}
    assert predict.main([word.format(**places) for word in words]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ") and what in said[-1] and len(said) == 1


def test_a_run_that_only_tested_names_the_one_that_learned(tiny_biomedclip, btmri_root, tmp_path) -> None:
    learned = tmp_path / "base2new" / "train_base" / "seed1"
    learned.mkdir(parents=True)
    keep(quick("CoOp", tiny_biomedclip, btmri_root, tmp_path / "a", split="base"), learned)
    tested = tmp_path / "base2new" / "test_new" / "seed1"
    tested.mkdir(parents=True)
    save_config(quick("CoOp", tiny_biomedclip, btmri_root, tmp_path / "b", split="new").cfg, tested)
    with pytest.raises(UserError, match=r'only tested what .*train_base.* --classnames "pituitary tumor" "normal brain"'):
        load_run(tested)


def test_images_are_found_once_and_in_order(tmp_path) -> None:
    root = write_dataset(tmp_path, "X", ("b", "a"), per_class=3) / "X" / "X"
    (root / ".hidden").mkdir()
    shutil.copy(root / "a" / "000.png", root / ".hidden" / "x.png")
    (root / "a" / "notes.txt").touch()
    found = find_images([root / "b" / "001.png", root])
    assert [path.relative_to(root).as_posix() for path in found] == [
        "b/001.png", "a/000.png", "a/001.png", "a/002.png", "b/000.png", "b/002.png"
    ]  # fmt: skip


@pytest.mark.skipif(not (SHARED / "data" / "BTMRI").is_dir(), reason="no ../shared/data/BTMRI: real images are not here")
def test_ten_real_brain_mri(tmp_path) -> None:
    trainer = quick("CoOp", "", SHARED / "data", tmp_path / "was", backbone="PhantomCLIP")
    folder = keep(trainer, tmp_path / "run")
    images = sorted((SHARED / "data" / "BTMRI" / "BTMRI" / "glioma_tumor").iterdir())[:10]
    assert len(images) == 10
    out = tmp_path / "out.csv"
    assert predict.main([str(folder), *map(str, images), "-o", str(out)]) == 0
    rows = list(csv.DictReader(out.open()))
    assert [row["image"] for row in rows] == list(map(str, images))
    for row in rows:
        assert sum(float(row[name]) for name in trainer.classnames) == pytest.approx(1)
