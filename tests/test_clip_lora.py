"""CLIP-LoRA against towers whose weights were changed by hand, what it learns, its steps, its refusals, a stopped run."""

from __future__ import annotations

import copy
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from backbones import build_backbone
from backbones.low_rank import adapted, sharing_copy
from dassl.utils import UserError
from tests.helpers import arguments, build
from tests.test_formulas import CLASSES, images_and_labels
from tests.test_visual_methods import close, cross_entropy, move
from tests.tiny_backbones import write_clip, write_pmcclip, write_pubmedclip
from trainers.clip_lora import CLIPLoRA, CountedLoader

pytest.importorskip("peft", reason="peft is not installed: it is in requirements-dev.txt")

OWN = {"RANK": 3, "ALPHA": 2.0, "DROPOUT": 0.0, "STEPS_PER_SHOT": 3}
FACTOR = 2.0 / math.sqrt(3)
CLINICAL = "a MR photo of a {} in the brain."


def product(factors: torch.nn.ModuleDict) -> Tensor:
    """α / sqrt(r) B A, entry by entry."""
    a, b = factors["A"].weight.detach(), factors["B"].weight.detach()
    return FACTOR * torch.stack([sum(row[r] * a[r] for r in range(len(a))) for row in b])


def rows(block: torch.nn.Module, part: str) -> Tensor:
    """The rows of a frozen block's weights that make queries, keys or values, as a view."""
    at = "qkv".index(part)
    own = dict(block.named_parameters())
    long = {"q": "query", "k": "key", "v": "value"}[part]
    for name, value in own.items():
        if name.endswith(("attn.qkv.weight", "attn.in_proj_weight")):  # timm, PyTorch
            return value.data.chunk(3)[at]
        if name.endswith((f"self.{long}.weight", f"{part}_proj.weight")):  # BERT, transformers' CLIP
            return value.data
    raise AssertionError(list(own))


def merged(backbone, learner):
    """A full copy of the frozen backbone with every product added to its weights."""
    plain = copy.deepcopy(backbone)
    for layers, blocks in ((plain.visual_layers, learner.image), (plain.text_layers, learner.text)):
        for block, factors in zip(layers, blocks, strict=True):
            for part in "qkv":
                rows(block, part).add_(product(factors[part]))
    return plain


@pytest.fixture
def frozen_of(tmp_path: Path, tiny_biomedclip: Path):
    def make(name: str):
        writers = {"CLIP": write_clip, "PubMedCLIP": write_pubmedclip}
        folder = tmp_path / name
        if name in writers:
            folder.parent.mkdir(exist_ok=True)
            if name == "PubMedCLIP":
                folder.mkdir()
        return build_backbone(name, str(writers[name](folder) if name in writers else tiny_biomedclip))

    return make


@pytest.mark.parametrize("name", ["BiomedCLIP", "CLIP", "PubMedCLIP"])
def test_adapted_towers_are_the_frozen_ones_with_other_weights(name: str, frozen_of) -> None:
    frozen = frozen_of(name)
    images = torch.randn(2, 3, frozen.image_size, frozen.image_size, generator=torch.Generator().manual_seed(1))
    texts = ["a photo of a tumor.", "an MR photo of a normal brain"]
    with torch.no_grad():
        before = frozen.encode_image(images), frozen.encode_text(texts)
        copied, learner = adapted(frozen, rank=3, alpha=2.0, dropout=0.0)
        for have, want in zip((copied.encode_image(images), copied.encode_text(texts)), before, strict=True):
            close(have, want)  # B starts at zero
        move(learner)
        plain = merged(frozen, learner)
        after = copied.encode_image(images), copied.encode_text(texts)
        for have, want, start in zip(after, (plain.encode_image(images), plain.encode_text(texts)), before, strict=True):
            torch.testing.assert_close(have, want, rtol=1e-4, atol=1e-4)
            assert (have - start).abs().max() > 0.01
        for have, want in zip((frozen.encode_image(images), frozen.encode_text(texts)), before, strict=True):
            assert torch.equal(have, want)
    assert not [key for key in frozen.state_dict() if "lora" in key]
    assert copied.fingerprint() == frozen.fingerprint()
    shared = {value.untyped_storage().data_ptr() for value in frozen.parameters()}
    held = [value for key, value in copied.named_parameters() if "lora" not in key]
    assert all(value.untyped_storage().data_ptr() in shared and not value.requires_grad for value in held)
    assert len(learner.image) == len(frozen.visual_layers) and len(learner.text) == len(frozen.text_layers)


def trainer_of(folder: Path, root: Path, out: Path, **own: object):
    return build("CLIPLoRA", folder, root, out, split="base", **(OWN | own))


def test_loss_predictions_and_gradients(tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tiny_biomedclip, btmri_root, tmp_path)
    learner, (images, labels) = trainer.prompt_learner, images_and_labels(trainer)
    widths = {"image": 64, "text": 32}
    for name, value in learner.named_parameters():
        tower, _, _, factor, _ = name.split(".")
        assert tuple(value.shape) == ((3, widths[tower]) if factor == "A" else (widths[tower], 3)) and value.requires_grad
        assert bool(value.any()) == (factor == "A")  # B starts at zero
    assert len(list(learner.parameters())) == 2 * 3 * (len(trainer.backbone.visual_layers) + len(trainer.backbone.text_layers))
    move(learner)
    plain = merged(build_backbone("BiomedCLIP", str(tiny_biomedclip)), learner)
    trainer.set_model_mode("train")
    terms, logits = trainer.loss_terms(images, labels)
    with torch.no_grad():
        v = [one / one.norm() for one in plain.encode_image(images)]
        t = [one / one.norm() for one in plain.encode_text([CLINICAL.format(name) for name in CLASSES])]
        want = plain.logit_scale.exp() * torch.stack([torch.stack([a @ b for b in t]) for a in v])
    torch.testing.assert_close(logits.detach(), want, rtol=1e-4, atol=1e-3)
    close(terms["ce"], cross_entropy(logits.detach(), labels))
    trainer.set_model_mode("eval")
    torch.testing.assert_close(trainer.model_inference(images), want, rtol=1e-4, atol=1e-3)
    terms["ce"].backward()
    assert all(value.grad.abs().sum() > 0 for value in learner.parameters())
    reached = {id(value) for value in trainer.backbone.parameters() if value.grad is not None}
    assert reached == {id(value) for value in learner.parameters()}


def test_dropout_is_on_in_training_in_both_towers_and_off_in_tests(
    tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path
) -> None:
    trainer = trainer_of(tiny_biomedclip, btmri_root, tmp_path, DROPOUT=0.5)
    move(trainer.prompt_learner)
    images, _ = images_and_labels(trainer)
    for mode in ("train", "eval"):
        trainer.set_model_mode(mode)
        with torch.no_grad():
            pairs = [(trainer.image_features(images), trainer.encode_classes()) for _ in range(2)]
        for first, second in zip(*pairs, strict=True):
            assert torch.equal(first, second) == (mode == "eval")
        assert not trainer.backbone.text_tower.training  # the tower's own dropout stays off


class Batches(list):
    """A loader of a few batches."""


def test_an_epoch_has_steps_per_shot_and_the_rate_falls_step_by_step(
    tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path
) -> None:
    trainer = trainer_of(tiny_biomedclip, btmri_root, tmp_path)
    assert "6 steps per shot (published: 500)" in trainer.departures(trainer.cfg)  # 3 in each of two epochs
    loader = trainer.train_loader_x
    assert len(loader) == 3 * 2  # three steps for each of two shots
    views, again = ([batch["img"] for batch in loader] for _ in range(2))
    assert len(views) == 6 and all(torch.equal(a, b) for a, b in zip(views, again, strict=True))  # an epoch is what it is
    assert not torch.equal(views[0], views[1])  # each pass has views of its own
    four = Batches(range(4))
    assert list(CountedLoader(four, 6)) == [0, 1, 2, 3, 0, 1] and list(CountedLoader(four, 3)) == [0, 1, 2] and four.turn == 0
    rates = []
    trainer.num_batches = 6
    for trainer.epoch in range(2):
        for trainer.batch_idx in range(6):
            rates.append(trainer.get_current_lr())
            trainer.optim.step()
            trainer.end_step(torch.zeros(()), {"ce": torch.zeros(())}, torch.zeros(()))
    want = [2e-4 * 0.5 * (1 + math.cos(math.pi * step / 12)) for step in range(12)]
    assert rates == pytest.approx(want)
    group = trainer.optim.param_groups[0]
    assert type(trainer.optim).__name__ == "AdamW" and group["weight_decay"] == 0.01 and tuple(group["betas"]) == (0.9, 0.999)


@pytest.mark.parametrize(
    "own, words",
    [({"RANK": 0}, "RANK is 0"), ({"STEPS_PER_SHOT": 0}, "STEPS_PER_SHOT is 0"), ({"ALPHA": 0.0}, "ALPHA is 0"),
     ({"DROPOUT": 1.0}, "DROPOUT is 1")],
)  # fmt: skip
def test_settings_that_cannot_be(
    own: dict[str, object], words: str, tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        trainer_of(tiny_biomedclip, btmri_root, tmp_path, **own)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_towers_that_cannot_be_adapted_and_a_missing_package_are_one_line(
    tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="CLIPLoRA learns in the attention among image patches, and PMCCLIP has none"):
        build("CLIPLoRA", write_pmcclip(tmp_path / "pmc"), btmri_root, tmp_path / "a", split="base", backbone="PMCCLIP")
    strange = sharing_copy(build_backbone("BiomedCLIP", str(tiny_biomedclip)))
    strange.visual_layers[0].attn = torch.nn.Linear(64, 64)
    with pytest.raises(UserError, match="attention of a Block has no queries"):
        adapted(strange, rank=2, alpha=1.0, dropout=0.0)
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setattr("backbones.low_rank.find_spec", lambda name: None)
    with pytest.raises(UserError, match="CLIPLoRA needs the peft package, which is not installed: pip install peft"):
        trainer_of(tiny_biomedclip, btmri_root, tmp_path / "b")


def test_a_run_that_was_stopped_ends_the_same_and_goes_to_new_classes(
    tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import train

    def words(out: Path) -> list[str]:
        own = {"shots": 1, "epochs": 2, "STEPS_PER_SHOT": 2}
        return arguments("CLIPLoRA", tiny_biomedclip, btmri_root, tmp_path / out, split="base", **own)

    def learned(out: str) -> dict[str, Tensor]:
        (path,) = (tmp_path / out / "prompt_learner").glob("model.pth.tar-*")
        assert path.name.endswith("-2") and path.stat().st_size < 1_000_000  # no backbone in it
        return torch.load(path, weights_only=True)["state_dict"]

    assert train.main(words("whole")) == 0
    record, whole = json.loads((tmp_path / "whole" / "results.json").read_text()), learned("whole")
    assert record["learned"]["parameters"]
    assert all(key.split(".")[0] in ("image", "text") for key in whole) and any(
        whole[key].any() for key in whole if ".B." in key
    )

    original = CLIPLoRA.end_step

    def stopped(self, *args):
        if self.epoch == 1:
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(CLIPLoRA, "end_step", stopped)
    assert train.main(words("again")) == 130
    monkeypatch.undo()
    assert train.main(words("again")) == 0
    again = learned("again")
    assert set(again) == set(whole) and all(torch.equal(value, again[key]) for key, value in whole.items())

    trained = build("CLIPLoRA", tiny_biomedclip, btmri_root, tmp_path / "a", split="base")
    novel = build("CLIPLoRA", tiny_biomedclip, btmri_root, tmp_path / "b", split="new")
    for trainer in (trained, novel):
        trainer.load_model(str(tmp_path / "whole"))
        trainer.set_model_mode("eval")
    images, _ = images_and_labels(trained)
    with torch.no_grad():
        close(trained.image_features(images), novel.image_features(images))
    assert novel.classnames != trained.classnames and novel.model_inference(images).shape == (3, 2)
