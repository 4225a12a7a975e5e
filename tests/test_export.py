"""export.py: what onnxruntime computes from the exported files is what the run computes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import export
import predict
from runs.inference import load_run
from tests.conftest import REPO
from tests.helpers import quick
from tests.test_predict import keep

pytestmark = pytest.mark.usefixtures("log_off_stdout")


@pytest.fixture(scope="module")
def run(tiny_biomedclip, btmri_root, tmp_path_factory) -> Path:
    """A run of BiomedDPT whose context is off its start."""
    trainer = quick("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path_factory.mktemp("was"))
    with torch.no_grad():
        trainer.prompt_learner.ctx += torch.randn(trainer.prompt_learner.ctx.shape)
    return keep(trainer, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def served(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "served"
    assert export.main([str(run), "-o", str(folder)]) == 0
    return folder


def through_onnx(folder: Path, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    scores, features = session.run(["scores", "features"], {"images": images.numpy()})
    return torch.from_numpy(scores), torch.from_numpy(features)


def noise(size: int, count: int) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))


def test_scores_and_features_equal_pytorchs_with_the_zero_vectors(run, served) -> None:
    trainer = load_run(run)
    for count in (1, 2, 5):
        images = noise(trainer.backbone.image_size, count)
        scores, features = through_onnx(served, images)
        torch.testing.assert_close(scores, trainer.model_inference(images), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(features, trainer.image_features(images), rtol=1e-4, atol=1e-4)
        plain = torch.nn.functional.normalize(trainer.backbone.encode_image(images), dim=-1)
        assert (features - plain).abs().max() > 1e-3


def test_the_facts_are_the_runs(run, served) -> None:
    trainer, told = load_run(run), json.loads((served / "model.json").read_text())
    assert told["classnames"] == trainer.classnames and told["method"] == "BiomedDPT"
    assert told["logit_scale"] == pytest.approx(float(trainer.backbone.logit_scale.exp()))
    assert told["largest_difference"] <= 1e-4
    np.testing.assert_allclose(told["text_features"], trainer.text_features().detach().numpy(), rtol=1e-5, atol=1e-7)
    made = told["preprocessing"]
    assert (made["resize_shorter_side"], made["interpolation"]) == (trainer.backbone.image_size, "bicubic")
    assert made["mean"] == list(trainer.cfg.INPUT.PIXEL_MEAN) and made["std"] == list(trainer.cfg.INPUT.PIXEL_STD)
    scores, features = through_onnx(served, noise(trainer.backbone.image_size, 2))
    again = told["logit_scale"] * features @ torch.tensor(told["text_features"]).T
    torch.testing.assert_close(scores, again, rtol=1e-4, atol=1e-4)


def test_the_text_tower_stays_behind(run, served) -> None:
    names = [one.name for one in onnx.load(served / "model.onnx").graph.initializer]
    assert names and not any("text" in name or "embeddings" in name for name in names)


@pytest.mark.parametrize("method, precision", [("TipAdapterF", "fp32"), ("MaPLe", "bf16")])
def test_adapters_and_learned_visual_prompts(method, precision, tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick(method, tiny_biomedclip, btmri_root, tmp_path / "was", PREC=precision)
    with torch.no_grad():
        for value in trainer.prompt_learner.state_dict().values():
            value += 0.2 * torch.randn(value.shape)
    folder = keep(trainer, tmp_path / "run")
    assert export.main([str(folder), "-o", str(tmp_path / "served")]) == 0
    images, again = noise(trainer.backbone.image_size, 3), load_run(folder, full_precision=True)
    scores, features = through_onnx(tmp_path / "served", images)
    torch.testing.assert_close(scores, again.model_inference(images), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(features, again.image_features(images).detach(), rtol=1e-4, atol=1e-4)


def test_text_that_sees_the_image_is_not_exported(tiny_biomedclip, btmri_root, tmp_path, capsys) -> None:
    folder = keep(quick("CoCoOp", tiny_biomedclip, btmri_root, tmp_path / "was"), tmp_path / "run")
    assert export.main([str(folder), "-o", str(tmp_path / "served")]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: CoCoOp") and "predict.py" in said and "\n" not in said
    assert not list(tmp_path.rglob("*.onnx"))


def test_nothing_is_kept_that_differs(run, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(export, "TOLERANCE", 0.0)
    assert export.main([str(run), "-o", str(tmp_path / "served")]) == 2
    assert "departs from PyTorch" in capsys.readouterr().err
    assert not list((tmp_path / "served").iterdir())


def test_the_programme_in_the_docs_serves_it_without_this_project(run, served, btmri_root, tmp_path, capsys) -> None:
    text = (REPO / "docs" / "PREDICT.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(code.strip().splitlines()) <= 32
    (tmp_path / "serve.py").write_text(code)
    root = btmri_root / "BTMRI" / "BTMRI"
    images = [root / "glioma_tumor" / "000.png", root / "normal_brain" / "003.png"]
    wide = tmp_path / "wide.png"  # neither square nor of the model's size
    from PIL import Image

    Image.open(images[0]).resize((301, 177)).save(wide)
    blocked = "import sys, runpy; sys.modules.update(dict.fromkeys(('torch', 'torchvision', 'dassl', 'trainers')))"
    call = [sys.executable, "-c", f"{blocked}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"]
    words = [str(tmp_path / "serve.py"), str(served), *map(str, images), str(wide)]
    done = subprocess.run([*call, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert predict.main([str(run), *map(str, images), str(wide), "--format", "json"]) == 0
    for ours, wanted in zip(lines, json.loads(capsys.readouterr().out)["images"], strict=True):
        assert ours["image"] == wanted["image"]
        assert ours["probabilities"] == pytest.approx(wanted["probabilities"], abs=1e-4)
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((20, 20), 3000, np.uint16)).save(deep)
    done = subprocess.run([*call, *words[:2], str(deep)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and f"{deep}: more than 8 bits" in done.stderr
