"""What makes runs fast does not change what they compute: compiled layers, grouped and stored sentences, mapped weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.transforms import Compose

from backbones import VisionLanguageBackbone, build_backbone
from backbones.base import TEXTS_AT_ONCE
from backbones.quick_loading import Undrawn
from dassl.data.transforms import Cutout, InstanceNormalization
from dassl.utils import UserError
from features.disk import spaces
from features.encoder import transform_name
from tests.helpers import build
from tests.tiny_backbones import register_open_clip

TEXTS = [f"a {'very ' * (number % 7)}small photo of a tumor, number {number}" for number in range(2 * TEXTS_AT_ONCE + 5)]


@pytest.fixture
def backbone(tiny_biomedclip: Path) -> VisionLanguageBackbone:
    return build_backbone("BiomedCLIP", str(tiny_biomedclip))


def features_and_gradient(backbone: VisionLanguageBackbone) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = backbone.tokenize(TEXTS[:3])
    embeddings = backbone.embed_tokens(tokens).clone().requires_grad_(True)
    features = backbone.encode_embeddings(embeddings, tokens)
    features.square().sum().backward()
    return features.detach(), embeddings.grad


def test_compiled_text_layers_give_the_same_features_and_gradients(backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def captured(module: nn.Module, mode: str, dynamic: bool) -> None:
        """The same capture of forward and backward, without the minute that generating machine code takes."""
        asked.append(mode)
        module._compiled_call_impl = torch.compile(module._call_impl, backend="aot_eager", dynamic=dynamic)

    monkeypatch.setattr(nn.Module, "compile", captured)
    wanted = features_and_gradient(backbone)
    backbone.compile_text("reduce-overhead")
    try:
        found = features_and_gradient(backbone)
        assert asked == ["reduce-overhead"] * len(backbone.text_layers)
        assert all(layer._compiled_call_impl is not None for layer in backbone.text_layers)
    finally:
        backbone.compile_text("")
    assert all(layer._compiled_call_impl is None for layer in backbone.text_layers)
    for one, other in zip(wanted, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-6 * float(one.abs().max()))  # sums in another order


@pytest.mark.parametrize(
    ("switch", "told"),
    [("COMPILE fast", 'COMPILE is "fast", must be empty or one of default'), ("TF32 True", "TF32 is a GPU's")],
)
def test_switches_that_cannot_work_are_told(switch: str, told: str, tiny_biomedclip, btmri_root, tmp_path) -> None:
    with pytest.raises(UserError, match=told):
        build("CoOp", tiny_biomedclip, btmri_root, tmp_path, split="all", extra=f"MODEL.BACKBONE.{switch}".split())


def test_many_sentences_are_encoded_as_one_by_one(backbone) -> None:
    with torch.no_grad():
        together = backbone.encode_text(TEXTS)
        alone = torch.cat([backbone.encode_text([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["BiomedDPT", "BiomedCoOp"])
def test_prompts_are_encoded_once_for_all_methods(method, tiny_biomedclip, btmri_root, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("BIOMED_DPT_CACHE", str(tmp_path / "cache"))
    direct = build(method, tiny_biomedclip, btmri_root, tmp_path / "direct", split="all", extra=["FEATURES.MODE", "direct"])
    assert spaces(tmp_path / "cache" / "features") == []
    first = build("ZeroshotCLIP2", tiny_biomedclip, btmri_root, tmp_path / "first", split="all")
    assert [space["about"]["kind"] for space in spaces(tmp_path / "cache" / "features")] == ["text"]

    encoded: list[int] = []
    whole = VisionLanguageBackbone.encode_text
    monkeypatch.setattr(
        VisionLanguageBackbone, "encode_text", lambda self, texts: encoded.append(len(texts)) or whole(self, texts)
    )
    second = build(method, tiny_biomedclip, btmri_root, tmp_path / "second", split="all")
    assert not encoded
    assert torch.equal(first.fixed_features, second.fixed_features)
    torch.testing.assert_close(direct.fixed_features, second.fixed_features, rtol=0, atol=1e-5)


def test_transforms_are_known_by_what_they_do() -> None:
    names = [transform_name(Compose([InstanceNormalization(), Cutout(1, length)])) for length in (16, 16, 64)]
    assert names[0] == names[1] != names[2] and " at 0x" not in names[0]


@pytest.mark.parametrize(
    "setting", ["TRAIN.PRINT_FREQ 0", "DATALOADER.TEST.BATCH_SIZE 0", "DATALOADER.K_TRANSFORMS 2", "INPUT.NO_TRANSFORM True"]
)
def test_settings_that_no_run_can_have_are_told(setting: str, tiny_biomedclip, btmri_root, tmp_path) -> None:
    with pytest.raises(UserError, match=setting.split()[0]):
        build("CoOp", tiny_biomedclip, btmri_root, tmp_path, split="all", extra=setting.split())


def test_a_backbone_that_is_built_takes_nothing_from_the_random_stream(tmp_path: Path) -> None:
    register_open_clip(tmp_path / "configs")
    drawn = []
    for _ in range(2):  # built, then handed out again
        torch.manual_seed(3)
        build_backbone("open_clip:tiny-vit", pretrained=False)
        drawn.append(torch.rand(1))
    assert torch.equal(*drawn)


def test_parameters_keep_what_they_had_and_buffers_get_theirs() -> None:
    held = nn.Parameter(torch.full((2, 3), 7.0))
    with Undrawn():
        nn.init.kaiming_uniform_(held)
        with torch.no_grad():
            held.normal_()
            nn.init.constant_(held, 1.0)
        buffer = torch.zeros(3).uniform_(1, 2)
    assert torch.equal(held, torch.full((2, 3), 7.0)) and (buffer >= 1).all()


def test_weights_are_the_file_s_in_float32(tiny_biomedclip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    folder.mkdir()
    for path in tiny_biomedclip.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = folder / "open_clip_model.safetensors"
    state = load_file(weights)
    save_file({key: value.half() for key, value in state.items()}, weights)
    loaded = build_backbone("BiomedCLIP", str(folder)).model.state_dict()
    assert {value.dtype for value in loaded.values() if value.is_floating_point()} == {torch.float32}
    assert all(torch.equal(loaded[key], value.half().float()) for key, value in state.items())
    del state["logit_scale"]
    save_file(state, weights)
    (folder / "again").symlink_to(folder)
    with pytest.raises(UserError, match="could not be loaded by open_clip.*logit_scale"):
        build_backbone("BiomedCLIP", str(folder / "again"))
