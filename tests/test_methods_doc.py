"""docs/METHODS.md against the code: every method has a section, with the right number of parameters and a command."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from backbones import TokenBatch, VisionLanguageBackbone
from datasets.facts import DatasetFacts
from runs.config import default_config, merge_file
from runs.settings import config_file
from tests.conftest import BTMRI_CLASSES, REPO
from trainers import methods
from trainers.feature_trainer import FeatureTrainer

SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", (REPO / "docs/METHODS.md").read_text(), re.MULTILINE | re.DOTALL))
SHOTS = 16


class BiomedCLIPSized(VisionLanguageBackbone):
    """The widths and depths of BiomedCLIP, and nothing in between."""

    name, text_width, visual_width, embed_dim = "BiomedCLIP", 768, 768, 512
    image_size, context_length, pretrained = 224, 256, False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("logit_scale", torch.zeros(()))

        self.towers = nn.ModuleDict({name: nn.ModuleList([attention(768) for _ in range(12)]) for name in ("text", "visual")})

    @property
    def text_layers(self) -> Sequence[nn.Module]:
        return self.towers["text"]

    @property
    def visual_layers(self) -> Sequence[nn.Module]:
        return self.towers["visual"]

    def fingerprint(self) -> str:
        return ""

    def tokenize(self, texts: Sequence[str]) -> TokenBatch:
        return TokenBatch(*torch.ones(2, len(texts), 16, dtype=torch.int64))

    def name_token_len(self, classname: str, how: str = "exact") -> int:
        return 1

    def embed_tokens(self, tokens: TokenBatch) -> Tensor:
        return torch.zeros(*tokens.ids.shape, self.text_width)

    def encode_embeddings(self, embeddings: Tensor, tokens: TokenBatch, deep_prompts: Tensor | None = None) -> Tensor:
        return torch.ones(len(embeddings), self.embed_dim)


def attention(width: int) -> nn.ModuleDict:
    """The layers of an attention, without memory."""
    return nn.ModuleDict({name: nn.Linear(width, width, device="meta") for name in ("q_proj", "k_proj", "v_proj")})


def learner_of(method: str) -> nn.Module:
    """What the method learns on BTMRI by its few-shot config, without images or weights."""
    if method == "CLIPLoRA":
        pytest.importorskip("peft")
    cls = methods()[method]
    trainer = cls.__new__(cls)
    trainer.cfg = default_config()
    trainer.cfg.TRAINER.NAME = method
    merge_file(trainer.cfg, str(config_file(method, "all", "btmri")))
    trainer.backbone, trainer.device, trainer.forced = BiomedCLIPSized(), torch.device("cpu"), []
    trainer.facts = DatasetFacts("BTMRI", "btmri", "MRI", "brain", "a MR photo of a {} in the brain.", BTMRI_CLASSES)
    images = [None] * (SHOTS * len(BTMRI_CLASSES))
    trainer.has_images, trainer.dm = True, SimpleNamespace(dataset=SimpleNamespace(train_x=images))
    return trainer.build_learner(BTMRI_CLASSES)


def test_every_method_has_a_section() -> None:
    assert sorted(SECTIONS) == sorted(methods())


@pytest.mark.parametrize("method", sorted(methods()))
def test_the_number_of_parameters_is_the_documented_one(method: str) -> None:
    learner = learner_of(method)
    held = issubclass(methods()[method], FeatureTrainer)  # these count what they computed, too
    tensors = learner.state_dict().values() if held else [p for p in learner.parameters() if p.requires_grad]
    (documented,) = re.findall(r"Parameters: ([\d,]+)", SECTIONS[method])
    assert sum(tensor.numel() for tensor in tensors) == int(documented.replace(",", ""))
    for name, _ in learner.named_parameters():
        assert f"`{name.split('.')[0]}" in SECTIONS[method], name


@pytest.mark.parametrize("method", sorted(methods()))
def test_the_documented_command_runs_the_method(method: str) -> None:
    run = re.search(r"\*\*Run\*\*: `(.*?)`", SECTIONS[method])[1]
    script = (REPO / re.search(r"scripts/\S+\.sh", run)[0]).read_text()
    assert f"few_shot {method} " in script or f"METHODS={method} " in run
    for key in re.findall(r"TRAINER\.([A-Z0-9]+)", SECTIONS[method]):
        assert key == methods()[method].section
