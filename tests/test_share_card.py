"""The model card of runs that were written without a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from share.card import base_model, card, wilson
from share.pack import pack
from share.siblings import siblings_of
from tests.synthetic_runs import write_run
from trainers.checkpoints import LEARNER


def header(folder: Path) -> dict:
    _, front, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front)


def test_a_lone_run_of_generated_images_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", accuracy=80, rehearsal=True)
    (run / "config.yaml").write_text("TRAINER:\n  NAME: CoOp\nDATASET:\n  NAME: BTMRI\n")
    torch.save({"state_dict": {"ctx": torch.zeros(4, 2)}, "epoch": 50}, run / LEARNER / "model.pth.tar-50")
    record = json.loads((run / "results.json").read_text()) | {"files": {}}
    (run / "results.json").write_text(json.dumps(record))
    folder = pack(run, tmp_path / "packed").folder
    text = (folder / "README.md").read_text()
    assert "**Trained on generated images: it knows nothing of medicine.**" in text
    assert "interval for other test images 71.1 to 86.7 % (Wilson)" in text
    front = header(folder)
    assert "datasets" not in front and "synthetic-data" in front["tags"] and front["license"] == "other"


def test_base_and_new_stand_in_one_table(tmp_path: Path) -> None:
    for seed in (1, 2):
        base = write_run(tmp_path, split="base", seed=seed, accuracy=80)
        write_run(tmp_path, split="new", seed=seed, accuracy=60)
    text = card(json.loads((base / "results.json").read_text()), siblings_of(base))
    assert "| metric | base classes | new classes | HM of both |" in text
    assert "| accuracy (%) | 80.00 ± 0.00 | 60.00 ± 0.00 | 68.57 ± 0.00 |" in text


def test_names_cannot_break_the_card(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    record = json.loads((run / "results.json").read_text())
    record |= {"dataset": "a\n---\nlicense: mit", "classnames": ["<script>x</script>", "a|b `c`", "[d](e)"]}
    text = card(record, siblings_of(run))
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "other"
    assert "\\<script\\>" in body and "a\\|b \\`c\\`" in body and "# CoOp on a --- license: mit" in body


def test_where_weights_come_from() -> None:
    assert base_model("CLIP") == base_model("open_clip:ViT-B-16-quickgelu/openai") == "timm/vit_base_patch16_clip_224.openai"
    assert base_model("hf-hub:org/model") == "org/model"
    assert [base_model(name) for name in ("PhantomCLIP", "PMCCLIP", "local-dir:mine", "open_clip:no/such")] == [""] * 4


def test_an_interval_of_nothing_is_none() -> None:
    assert wilson(80.0, None) == wilson(None, 100) == wilson(50.0, 0) == (None, None)
    low, high = wilson(100.0, 20)
    assert 80 < low < 100 and round(high, 9) == 100


@pytest.mark.parametrize("method, words", [("CoOp", "A prompt for"), ("LinearProbe", "An adapter or classifier for")])
def test_what_was_learned_goes_by_its_name(method: str, words: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path, method)
    made = card(json.loads((folder / "results.json").read_text()), siblings_of(folder), licence="mit")
    assert words in made and ("- prompt-tuning" in made) == (method == "CoOp") and "mit. The licence of the images" in made
