"""What may lie in a backbone's folder or come from the hub, and what is refused, in one line."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from backbones import build_backbone, check_name
from backbones.pmcclip import BERT_HUB
from backbones.pmcclip import HUB as PMC_HUB
from backbones.pubmedclip import HUB as PUBMED_HUB
from dassl.utils import UserError
from runs.config import split_trainer_name
from tests.tiny_backbones import register_open_clip, write_pmcclip, write_pubmedclip

TEXTS = ["a MR photo of a glioma tumor.", "normal brain"]


@pytest.fixture
def pmc(tmp_path: Path) -> Path:
    return write_pmcclip(tmp_path / "pmc")


@pytest.fixture
def pubmed(tmp_path: Path) -> Path:
    return write_pubmedclip(tmp_path / "pubmed")


def refused(name: str, folder: Path) -> str:
    with pytest.raises(UserError) as told:
        build_backbone(name, str(folder))
    assert "\n" not in str(told.value)
    return str(told.value)


def test_pmcclip_takes_safetensors_as_well(pmc: Path) -> None:
    want = build_backbone("PMC-CLIP", str(pmc))
    assert want.name == "PMCCLIP" and want.logit_scale.item() == pytest.approx(4.4292)
    for path in list(pmc.glob("*.pth")):
        loaded = torch.load(path, weights_only=True)
        tensors = loaded if isinstance(loaded, dict) else {"text_projection_layer": loaded.detach()}
        save_file({key: value.clone() for key, value in tensors.items()}, path.with_suffix(".safetensors"))
        path.unlink()
    moved = pmc.rename(pmc.parent / "moved")  # a folder that was loaded is kept in memory
    assert build_backbone("PMCCLIP", str(moved)).fingerprint() == want.fingerprint()


class Burglar:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("kind", ["image_encoder(resnet50)", "text_encoder", "text_projection_layer"])
def test_pmcclip_never_unpickles(kind: str, pmc: Path, tmp_path: Path) -> None:
    torch.save({"weights": Burglar(tmp_path / "been here")}, pmc / f"{kind}.pth")
    assert "holds more than tensors" in refused("PMCCLIP", pmc)
    assert not (tmp_path / "been here").exists()


def test_pmcclip_says_what_is_missing_or_wrong(pmc: Path) -> None:
    encoder = pmc / "image_encoder(resnet50).pth"
    whole = torch.load(encoder, weights_only=True)
    torch.save({key: value for key, value in whole.items() if "layer3.0.conv2" not in key}, encoder)
    assert "layer3.0.conv2.weight" in refused("PMCCLIP", pmc)
    torch.save({"nothing": "of use"}, encoder)
    assert "not a mapping of names to tensors" in refused("PMCCLIP", pmc)
    torch.save({"layer": torch.zeros(1)}, encoder)
    assert "does not fit PMC-CLIP" in refused("PMCCLIP", pmc)
    torch.save(whole, encoder)
    torch.save(nn.Parameter(torch.zeros(32, 25)), pmc / "text_projection_layer.pth")
    assert "text.proj.weight" in refused("PMCCLIP", pmc)
    (pmc / "text_projection_layer.pth").unlink()
    assert "no text projection of PMCCLIP" in refused("PMCCLIP", pmc)
    write_again = pmc.parent / "again"
    (write_pmcclip(write_again) / "config.json").unlink()
    assert "no BERT configuration of PMCCLIP" in refused("PMCCLIP", write_again)


def test_pubmedclip_from_a_pickled_state_dict_and_in_half_precision(pubmed: Path) -> None:
    want = build_backbone("PubMedCLIP", str(pubmed)).encode_text(TEXTS)
    state = load_file(pubmed / "model.safetensors")
    moved = pubmed.rename(pubmed.parent / "binary")  # a folder that was loaded is kept in memory
    (moved / "model.safetensors").unlink()
    assert "no weights of PubMedCLIP" in refused("PubMedCLIP", moved)
    torch.save({key: value.half() for key, value in state.items()}, moved / "pytorch_model.bin")
    backbone = build_backbone("PubMedCLIP", str(moved))
    assert {value.dtype for value in backbone.parameters()} == {torch.float32}
    torch.testing.assert_close(backbone.encode_text(TEXTS), want, rtol=0.05, atol=0.05)


def test_pubmedclip_without_some_weights_is_no_random_model(pubmed: Path) -> None:
    state = load_file(pubmed / "model.safetensors")
    del state["text_projection.weight"]
    save_file(state, pubmed / "model.safetensors", metadata={"format": "pt"})
    assert "lack text_projection.weight" in refused("PubMedCLIP", pubmed)
    (pubmed / "config.json").write_text("{")
    assert "could not be loaded as a CLIPModel" in refused("PubMedCLIP", pubmed)


def test_pubmedclip_s_tokens_are_openai_s(pubmed: Path) -> None:
    theirs = open_clip.SimpleTokenizer()(TEXTS)
    ours = build_backbone("PubMedCLIP", str(pubmed)).tokenize(TEXTS)
    for ids, mask, want in zip(ours.ids, ours.mask, theirs, strict=True):
        assert ids[mask.bool()].tolist() == want[: want.argmax() + 1].tolist()


def test_hub_names(pmc: Path, pubmed: Path, monkeypatch) -> None:
    """Without MODEL.BACKBONE.PATH exactly the wanted files of the published repositories are asked for."""
    asked: list[tuple[str, str, str]] = []

    def snapshot_download(repository: str, repo_type: str, allow_patterns: list[str]) -> str:
        asked.append((repository, repo_type, " ".join(allow_patterns)))
        return str(pubmed if repository == PUBMED_HUB else pmc)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert build_backbone("PubMedCLIP").pretrained and build_backbone("PMCCLIP").pretrained
    assert not build_backbone("PubMedCLIP", pretrained=False).pretrained
    clip, bert, pmc_files, bare = asked
    assert clip[:2] == (PUBMED_HUB, "model") and "model.safetensors" in clip[2]
    assert bert == (BERT_HUB, "model", "config.json vocab.txt tokenizer*.json")
    assert pmc_files[:2] == (PMC_HUB, "dataset") and "image_encoder*.pth" in pmc_files[2] and "*.json" not in pmc_files[2]
    assert "model" not in bare[2]


def test_random_weights_only_on_demand(pmc: Path, pubmed: Path) -> None:
    for path in [*pmc.glob("*.pth"), pubmed / "model.safetensors"]:
        path.unlink()
    config = json.loads((pmc / "config.json").read_text())
    for name, folder in (("PMCCLIP", pmc), ("PubMedCLIP", pubmed)):
        assert "no " in refused(name, folder)
        backbone = build_backbone(name, str(folder), pretrained=False)
        assert not backbone.pretrained and backbone.text_width == config["hidden_size"]
        assert backbone.encode_text(TEXTS).shape == (2, backbone.embed_dim)
    assert build_backbone("PMCCLIP", str(pmc), pretrained=False).image_size == 224


def test_names() -> None:
    assert check_name("PMC-CLIP") == check_name("pmcclip") == "PMCCLIP"
    assert check_name("pubmedclip") == "PubMedCLIP"
    assert split_trainer_name("CoOp_PMCCLIP") == ("CoOp", "PMCCLIP")
    assert split_trainer_name("BiomedDPT_PubMedCLIP") == ("BiomedDPT", "PubMedCLIP")
    with pytest.raises(UserError, match='Did you mean "PubMedCLIP"'):
        check_name("PubMedClap")


def test_open_clip_names(tmp_path: Path) -> None:
    register_open_clip(tmp_path / "architectures")
    for name, what in (("tiny-coca", "pooling an appended token"), ("tiny-last", "pooling last")):
        with pytest.raises(UserError, match=f"{what}.*take a CLIP-style model"):
            build_backbone(f"open_clip:{name}", pretrained=False)
    with pytest.raises(UserError, match='no model "ViT-B-33".*ViT-B-32'):
        build_backbone("open_clip:ViT-B-33/laion2b_s34b_b79k")
    with pytest.raises(UserError, match="open_clip:tiny-vit/TAG"):
        build_backbone("open_clip:tiny-vit")
    with pytest.raises(UserError, match="could not be had from tiny-vit/laion2b"):
        build_backbone("open_clip:tiny-vit/laion2b")
    named = build_backbone("open_clip:tiny-vit/laion2b", pretrained=False)
    assert named.name == "open_clip:tiny-vit/laion2b" and named.context_length == 77 and named.image_size == 64
