"""Every backbone of the registry against its own library, the naive arithmetic, and the trainers that stand on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import backbones.hub
from analysis.predictions import read_predictions
from backbones import BACKBONES, VisionLanguageBackbone, VisualPrompt, build_backbone, zero_vectors
from dassl.utils import UserError
from tests import tiny_backbones
from tests.helpers import arguments
from tests.naive_towers import REFERENCES, naive_image, naive_text

TEXTS = ["a MR photo of a glioma tumor in the brain.", "a tumor", "a chest X-ray photo of covid lungs, lower lobe."]
OPEN_CLIP = [f"open_clip:{name}" for name in ("tiny-vit", "tiny-resnet", "tiny-custom", "tiny-both-ways")]
NO_PATCHES = {"PMCCLIP", "PMCCLIP-trained", "open_clip:tiny-resnet"}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name -> tiny folder of every registry entry; the open_clip architectures get registered too."""
    root = tmp_path_factory.mktemp("backbones")
    tiny_backbones.register_open_clip(root / "architectures")
    return {name: tiny_backbones.WRITERS[name](root / name) for name in BACKBONES if name in tiny_backbones.WRITERS}


def load(name: str, folders: dict[str, Path]) -> VisionLanguageBackbone:
    if name.startswith("open_clip:"):
        torch.manual_seed(0)
        backbone = build_backbone(name, pretrained=False)
        tiny_backbones.scramble(backbone.model, 6)
        return backbone
    assert name in folders, f"{name} is registered without a tiny folder: write one in tests/tiny_backbones.py (WRITERS)"
    return build_backbone(name, str(folders[name]))


@pytest.fixture(scope="module", params=[*BACKBONES, *OPEN_CLIP])
def backbone(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Iterator[VisionLanguageBackbone]:
    yield load(request.param, folders)


@pytest.fixture
def reference(backbone: VisionLanguageBackbone, folders: dict[str, Path]):
    kind = REFERENCES.get(backbone.name, REFERENCES["open_clip"])
    return kind(backbone, folders.get(backbone.name))


def alike(features: Tensor, want: Tensor) -> None:
    """Features of one direction and length: equal to 1e-5 of the wanted length."""
    length = want.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(features / length, want / length, rtol=1e-5, atol=1e-5)


def random_images(backbone: VisionLanguageBackbone, count: int = 2) -> Tensor:
    return torch.randn(count, 3, backbone.image_size, backbone.image_size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_text_features_are_the_library_s_own(backbone, reference) -> None:
    features = backbone.encode_text(TEXTS)
    assert features.shape == (len(TEXTS), backbone.embed_dim)
    alike(features, reference.text(TEXTS))  # the reference pads to the full context
    assert (features - features.mean(0)).abs().max() > 1e-3
    for row, text in zip(features, TEXTS, strict=True):  # trimmed to another length
        alike(backbone.encode_text([text])[0], row)


def test_embeddings_in_equal_words_in(backbone) -> None:
    tokens = backbone.tokenize(TEXTS)
    embedded = backbone.embed_tokens(tokens).detach().requires_grad_()
    assert embedded.shape == (*tokens.ids.shape, backbone.text_width) and tokens.mask.shape == tokens.ids.shape
    out = backbone.encode_embeddings(embedded, tokens)
    alike(out, backbone.encode_text(TEXTS))
    out[1].square().sum().backward()
    assert embedded.grad[1, : tokens.mask[1].sum()].abs().sum(1).min() > 0 and not embedded.grad[0].any()
    with torch.no_grad():
        other = embedded + torch.randn(embedded.shape, generator=torch.Generator().manual_seed(2))
        changed = backbone.encode_embeddings(other, tokens)
        alike(changed, naive_text(backbone, other, tokens))
        assert (changed - out).abs().max() > 1e-3
        alike(backbone.encode_text(TEXTS), out)  # nothing stays behind


@torch.no_grad()
def test_deep_text_prompts(backbone) -> None:
    tokens = backbone.tokenize(TEXTS)
    embedded = backbone.embed_tokens(tokens)
    sets = len(backbone.text_layers) - 1
    deep = torch.randn(sets, 2, backbone.text_width, generator=torch.Generator().manual_seed(2))
    want = naive_text(backbone, embedded, tokens, deep)
    alike(backbone.encode_embeddings(embedded, tokens, deep), want)
    assert (want - backbone.encode_embeddings(embedded, tokens)).abs().max() > 1e-3


@torch.no_grad()
def test_tokens_are_trimmed_to_the_longest(backbone, caplog) -> None:
    tokens = backbone.tokenize(TEXTS)
    lengths = tokens.mask.sum(1)
    assert len(set(lengths.tolist())) > 1
    whole = backbone.context_length if "both-ways" in backbone.name else int(lengths.max())
    assert tokens.ids.shape == (3, whole)
    assert all(row.tolist() == sorted(row.tolist(), reverse=True) for row in tokens.mask)  # padding behind the text
    names = ["glioma tumor", "normal z line"]
    for name, mask in zip(names, backbone.tokenize([f"a photo of a {name}." for name in names]).mask, strict=True):
        pieces = backbone.name_token_len(name)
        frame = int(backbone.tokenize(["a photo of a."]).mask.sum())
        assert pieces == int(mask.sum()) - frame >= 2
        counted = 1 if getattr(backbone, "hf_text", False) else pieces  # the released code takes len() of a padded row
        assert backbone.name_token_len(name, "published") == counted
    cut = backbone.tokenize(["tumor " * 300])
    assert cut.ids.shape[1] == backbone.context_length and "may have been cut" in caplog.text


@torch.no_grad()
def test_image_features_are_the_library_s_own(backbone, reference) -> None:
    images = random_images(backbone)
    features = backbone.encode_image(images)
    assert features.shape == (2, backbone.embed_dim)
    alike(features, reference.image(images))
    assert (features[0] - features[1]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("placement", ["replace", "insert"])
def test_zero_vectors_in_the_image_tower(backbone, placement: str, deep: bool) -> None:
    images = random_images(backbone)
    prompt = zero_vectors(4, backbone.visual_width, placement, deep)
    assert backbone.supports_visual_prompts == (backbone.name not in NO_PATCHES)
    if not backbone.supports_visual_prompts:
        with pytest.raises(ValueError, match="no patch tokens"):
            backbone.encode_image(images, prompt)
        return
    features = backbone.encode_image(images, prompt)
    want = torch.stack([naive_image(backbone, image, prompt) for image in images])
    alike(features, want)
    plain = backbone.encode_image(images)
    assert (features - plain).abs().max() > 1e-3
    torch.testing.assert_close(backbone.encode_image(images, zero_vectors(0, backbone.visual_width)), plain, rtol=0, atol=0)


def test_learned_tokens_of_the_first_blocks_get_gradients(backbone) -> None:
    if not backbone.supports_visual_prompts:
        assert not len(backbone.visual_layers)
        return
    tokens = torch.randn(2, 3, backbone.visual_width, generator=torch.Generator().manual_seed(3)).requires_grad_()
    prompt, images = VisualPrompt(tokens), random_images(backbone)
    features = backbone.encode_image(images, prompt)
    with torch.no_grad():
        want = torch.stack([naive_image(backbone, image, prompt) for image in images])
    alike(features, want)
    features.square().sum().backward()
    # what the second block overwrites reaches the output only through the other positions of the first
    assert tokens.grad.abs().sum(-1).min() > 0


def test_frozen_and_in_evaluation_mode(backbone) -> None:
    assert not any(value.requires_grad for value in backbone.parameters())
    assert not any(module.training for module in backbone.modules())
    assert backbone.logit_scale.numel() == 1 and not backbone.logit_scale.requires_grad
    tower = set(backbone.text_tower.modules())
    plain = backbone.encode_text(TEXTS)
    backbone.set_text_dropout(True)
    assert {module for module in backbone.modules() if module.training} == tower
    drops = any(isinstance(module, nn.Dropout) and module.p > 0 for module in tower)
    assert torch.equal(backbone.encode_text(TEXTS), backbone.encode_text(TEXTS)) != drops
    backbone.set_text_dropout(False)
    assert torch.equal(backbone.encode_text(TEXTS), plain)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_fingerprint_is_of_the_weights_not_of_the_place(name: str, folders, tmp_path) -> None:
    first = load(name, folders).fingerprint()
    copy = Path(shutil.copytree(folders[name], tmp_path / "copy"))
    assert build_backbone(name, str(copy)).fingerprint() == first
    changed = Path(shutil.copytree(folders[name], tmp_path / "changed"))
    tiny_backbones.change_a_weight(changed)
    assert build_backbone(name, str(changed)).fingerprint() != first


@pytest.mark.parametrize("name", [*BACKBONES, "open_clip:tiny-vit", "open_clip:tiny-resnet"])
def test_biomed_dpt_trains_tests_and_reloads(name: str, folders, btmri_root, tmp_path) -> None:
    import train

    given = dict(split="base", backbone=name, epochs=1, N_PROMPTS=2)
    folder = folders.get(name, "")
    rest = [] if folder else ["MODEL.BACKBONE.PRETRAINED", "False"]
    out = tmp_path / "a"
    assert train.main(arguments("BiomedDPT", folder, btmri_root, out, **given) + rest) == 0
    first = json.loads((out / "results.json").read_text())
    assert first["backbone"] == name and first["num_test"] > 0
    assert first["learned"]["names"] == ["ctx"]
    textual = "text side only: this image tower has no patch tokens for visual prompts"
    assert (textual in first["departures"]) == (name in NO_PATCHES)
    assert any("random" in said for said in first["departures"]) == (not folder)
    (kept,) = (out / "prompt_learner").glob("model.pth.tar-*")
    ctx = torch.load(kept, weights_only=True)["state_dict"]["ctx"]
    used = build_backbone(name, str(folder), bool(folder))  # the very one that the run had
    start = used.embed_tokens(used.tokenize(["a MR photo of a"]))[0, 1:6]
    assert ctx.shape == (5, used.text_width) and 0 < (ctx - start).abs().max() < 0.1
    again = arguments("BiomedDPT", folder, btmri_root, tmp_path / "b", extra=("--eval-only", "--model-dir", str(out)), **given)
    if folder:  # random weights would be drawn anew
        assert train.main(again + rest) == 0
        said, reloaded = (read_predictions(folder / "predictions.csv.gz").probabilities for folder in (out, tmp_path / "b"))
        assert np.array_equal(said, reloaded)


@pytest.mark.parametrize("name", BACKBONES)
def test_an_empty_folder_is_one_readable_line(name: str, tmp_path) -> None:
    with pytest.raises(UserError) as told:
        build_backbone(name, str(tmp_path))
    assert str(tmp_path) in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("name", BACKBONES)
def test_no_network_is_one_readable_line(name: str, tmp_path, monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(backbones.hub, "reachable", lambda endpoint: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    if name == "PhantomCLIP":  # the one whose weights are in the repository
        assert build_backbone(name).pretrained
        return
    with pytest.raises(UserError, match="MODEL.BACKBONE.PATH.*docs/DATASETS.md.*PhantomCLIP") as told:
        build_backbone(name)
    assert f"the weights of {name} could not be had from " in str(told.value) and "\n" not in str(told.value)
