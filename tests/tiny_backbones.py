"""A tiny local folder with random weights for every entry of BACKBONES, in the layout that the real weights have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel

from backbones.phantomclip import WEIGHTS as PHANTOM
from tests.conftest import CLIP_MEAN, CLIP_STD, TOKENIZER_FILES, write_tiny_biomedclip

WIDTH, JOINT = 32, 24
VIT = {"layers": 3, "width": 32, "head_width": 8, "patch_size": 16, "image_size": 64}
RESNET = {"layers": [1, 2, 1, 1], "width": 8, "head_width": 64, "image_size": 64}
NATIVE_TEXT = {"context_length": 77, "vocab_size": 49408, "width": WIDTH, "heads": 4, "layers": 3}
# open_clip architectures that the tests register under these names
OPEN_CLIP = {
    "tiny-vit": {"embed_dim": JOINT, "vision_cfg": VIT, "text_cfg": NATIVE_TEXT},
    "tiny-resnet": {"embed_dim": JOINT, "vision_cfg": RESNET, "text_cfg": NATIVE_TEXT},
    "tiny-custom": {"embed_dim": JOINT, "vision_cfg": VIT, "text_cfg": NATIVE_TEXT, "custom_text": True},
    "tiny-both-ways": {"embed_dim": JOINT, "vision_cfg": VIT, "text_cfg": NATIVE_TEXT | {"no_causal_mask": True}},
    "tiny-coca": {"embed_dim": JOINT, "vision_cfg": VIT, "text_cfg": NATIVE_TEXT | {"embed_cls": True}, "custom_text": True},
    "tiny-last": {"embed_dim": JOINT, "vision_cfg": VIT, "text_cfg": NATIVE_TEXT | {"pool_type": "last"}},
}


def register_open_clip(folder: Path) -> None:
    """Let open_clip know the architectures of OPEN_CLIP; their configs are written to ``folder``."""
    folder.mkdir()
    for name, config in OPEN_CLIP.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


@torch.no_grad()
def scramble(model: nn.Module, seed: int) -> nn.Module:
    """Random weights that make every part matter: zero initialisations and identical norms are gone."""
    drawn = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if not value.is_floating_point() or value.ndim == 0:
            continue
        if name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=drawn))
        else:
            wide = value[0].numel() if value.ndim > 1 and "embed" not in name else 16
            value.copy_(torch.randn(value.shape, generator=drawn) / max(wide, 1) ** 0.5)
            if value.ndim == 1 and name.endswith("weight"):
                value += 1
    return model


def bert_folder(folder: Path) -> BertConfig:
    """The rehearsal vocabulary and the config.json of a small BERT."""
    folder.mkdir(parents=True)
    for name in TOKENIZER_FILES:
        shutil.copy(PHANTOM / name, folder / name)
    config = BertConfig(
        vocab_size=len((folder / "vocab.txt").read_text().split("\n")), hidden_size=WIDTH, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=64, max_position_embeddings=128,
    )  # fmt: skip
    config.save_pretrained(folder)
    return config


def resnet(heads: int) -> ModifiedResNet:
    """PMC-CLIP's image tower at toy size."""
    return ModifiedResNet(RESNET["layers"], JOINT, heads, image_size=RESNET["image_size"], width=RESNET["width"])


def write_pmcclip(folder: Path) -> Path:
    """PMC-CLIP's three files as its release has them, and the BERT's configuration and tokenizer."""
    config = bert_folder(folder)
    torch.save(scramble(resnet(8), 1).state_dict(), folder / "image_encoder(resnet50).pth")
    text = scramble(BertModel(config), 2).state_dict()
    text["embeddings.position_ids"] = torch.arange(128)[None]  # the release is of a transformers that saved them
    torch.save(text, folder / "text_encoder.pth")
    projection = torch.randn(WIDTH, JOINT, generator=torch.Generator().manual_seed(3))
    torch.save(nn.Parameter(projection), folder / "text_projection_layer.pth")
    return folder


def write_pubmedclip(folder: Path) -> Path:
    """A transformers CLIPModel with CLIP's own vocabulary; eos_token_id 2, as old configs have it."""
    text = {"hidden_size": WIDTH, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64, "eos_token_id": 2}
    vision = {"hidden_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
              "patch_size": 16, "image_size": 64}  # fmt: skip
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=JOINT)
    scramble(CLIPModel(config), 4).save_pretrained(folder)
    bpe = SimpleTokenizer()
    start, end = "<|startoftext|>", "<|endoftext|>"
    words = {word: number for word, number in bpe.encoder.items() if number < 49406} | {start: 49406, end: 49407}
    (folder / "vocab.json").write_text(json.dumps(words))
    merges = ["#version: 0.2", *(f"{left} {right}" for left, right in bpe.bpe_ranks)]
    (folder / "merges.txt").write_text("\n".join(merges) + "\n")
    settings = {"tokenizer_class": "CLIPTokenizer", "bos_token": start, "model_max_length": 77}
    settings |= {key: end for key in ("eos_token", "pad_token", "unk_token")}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def write_clip(folder: Path) -> Path:
    """OpenAI's CLIP at toy size, in open_clip's local-dir layout."""
    folder.mkdir(parents=True)
    config = OPEN_CLIP["tiny-vit"] | {"quick_gelu": True}
    written = {"model_cfg": config, "preprocess_cfg": {"mean": CLIP_MEAN, "std": CLIP_STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(written))
    model = scramble(open_clip.CLIP(**config), 5)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


def write_phantomclip(folder: Path) -> Path:
    """The committed folder itself: it is small."""
    return Path(shutil.copytree(PHANTOM, folder))


WRITERS: dict[str, Callable[[Path], Path]] = {
    "BiomedCLIP": write_tiny_biomedclip,
    "CLIP": write_clip,
    "PhantomCLIP": write_phantomclip,
    "PMCCLIP": write_pmcclip,
    "PMCCLIP-trained": write_pmcclip,
    "PubMedCLIP": write_pubmedclip,
}


def change_a_weight(folder: Path) -> None:
    """Add a little to one number of the image tower's first large tensor."""
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob("*.pth")])[0]
    safe = weights.suffix == ".safetensors"
    state: dict[str, Tensor] = load_file(weights) if safe else torch.load(weights, weights_only=True)
    first = next(value for key, value in sorted(state.items()) if value.ndim > 1)
    first.view(-1)[0] += 0.01
    if safe:
        save_file(state, weights)
    else:
        torch.save(state, weights)
