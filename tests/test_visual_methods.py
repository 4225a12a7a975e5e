"""VPT, DPT and MaPLe re-computed by naive code, what they learn, and their readable errors; PromptSRC: test_promptsrc.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import trainers.frozen_towers
from backbones import VisualPrompt
from dassl.utils import UserError
from runs.departures import forced_departures
from tests.conftest import REPO
from tests.helpers import build
from tests.test_deep_prompts import native_clip
from tests.test_formulas import CLASSES, Naive, images_and_labels

PHANTOM = REPO / "backbones" / "weights" / "phantomclip"


class NaivePrompted(Naive):
    """Towers layer by layer, with vectors written over their hidden states by index."""

    def embed(self, text: str) -> tuple[Tensor, Tensor]:
        (ids,) = self.tokenizer([text])  # all of the context's length
        return self.model.text.transformer.embeddings.word_embeddings(ids), (ids != 0).long()

    def deep_text(self, embedded: Tensor, mask: Tensor, deep: list[Tensor]) -> Tensor:
        """(L, W) embeddings, and for text layers 1, 2, … (M, W) vectors -> normalised (D,)."""
        bert = self.model.text.transformer
        hidden = bert.embeddings(inputs_embeds=embedded[None])
        blocked = torch.where(mask == 1, 0.0, torch.finfo(torch.float32).min)[None, None, None].expand(1, 1, len(mask), -1)
        for number, layer in enumerate(bert.encoder.layer):
            hidden = hidden.clone()
            for position, vector in enumerate(deep[number - 1] if 0 < number <= len(deep) else []):
                hidden[0, 1 + position] = vector
            out = layer(hidden, attention_mask=blocked)
            hidden = out[0] if isinstance(out, tuple) else out
        feature = self.model.text.proj(hidden[:, 0])[0]
        return feature / feature.norm()

    def prompted_image(self, image: Tensor, deep: list[Tensor], placement: str) -> Tensor:
        """(3, H, W) image, and for blocks 0, 1, … (P, W) tokens -> normalised (D,)."""
        trunk = self.model.visual.trunk
        patches = list(trunk.patch_embed(image[None]).reshape(-1, trunk.embed_dim))
        rows = [row + at for row, at in zip([trunk.cls_token[0, 0], *patches], trunk.pos_embed[0], strict=True)]
        count = len(deep[0])
        rows[1 : 1 + count if placement == "replace" else 1] = list(deep[0])
        for number, block in enumerate(trunk.blocks):
            if number < len(deep):
                rows[1 : 1 + count] = list(deep[number])
            rows = list(block(torch.stack(rows)[None])[0])
        feature = self.model.visual.head(trunk.norm(rows[0]))
        return feature / feature.norm()

    def logits(self, images: list[Tensor], classes: list[Tensor]) -> Tensor:
        return torch.stack([torch.stack([self.scale * a @ b for b in classes]) for a in images])


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return -sum(logits.softmax(1)[b, y].log() for b, y in enumerate(labels)) / len(labels)


def move(learner: torch.nn.Module) -> None:
    """Every parameter off its start, so that no two are alike."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for value in learner.parameters():
            value += 0.3 * torch.randn(value.shape, generator=generator)


def shapes(trainer) -> dict[str, tuple[int, ...]]:
    assert all(value.requires_grad for value in trainer.prompt_learner.parameters())
    assert not any(value.requires_grad for value in trainer.backbone.parameters())
    return {name: tuple(value.shape) for name, value in trainer.prompt_learner.named_parameters()}


def assert_all_learn(trainer, terms: dict[str, Tensor]) -> None:
    """Gradients reach every parameter, and every token of it."""
    sum(terms.values()).backward()
    for name, value in trainer.prompt_learner.named_parameters():
        assert bool((value.grad.flatten(0, -2) if value.ndim > 1 else value.grad).abs().sum(dim=-1).gt(0).all()), name


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got.detach(), want.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("depth", ["deep", "shallow"])
@pytest.mark.parametrize("placement", ["insert", "replace"])
def test_vpt(placement: str, depth: str, tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path) -> None:
    own = {"VISUAL.N_TOKENS": 3, "VISUAL.PLACEMENT": placement, "VISUAL.DEPTH": depth}
    trainer = build("VPT", tiny_biomedclip, btmri_root, tmp_path, split="base", **own)
    assert shapes(trainer) == {"ctx": (6, 3, 64) if depth == "deep" else (3, 64)}
    move(trainer.prompt_learner)
    naive, (images, labels), ctx = NaivePrompted(trainer), images_and_labels(trainer), trainer.prompt_learner.ctx.detach()
    terms, logits = trainer.loss_terms(images, labels)
    with torch.no_grad():
        t = [naive.sentence(f"a MR photo of a {name} in the brain.") for name in CLASSES]
        v = [naive.prompted_image(image, list(ctx) if depth == "deep" else [ctx], placement) for image in images]
        want = naive.logits(v, t)
    close(logits, want)
    close(terms["ce"], cross_entropy(want, labels))
    close(trainer.model_inference(images), want)
    assert_all_learn(trainer, terms)


@pytest.mark.parametrize("position", ["end", "middle"])
def test_dpt(position: str, tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path) -> None:
    trainer = build("DPT", tiny_biomedclip, btmri_root, tmp_path, split="base", CLASS_TOKEN_POSITION=position)
    assert shapes(trainer) == {"ctx": (4, 32), "visual.ctx": (6, 4, 64)}
    move(trainer.prompt_learner)
    naive, (images, labels), learner = NaivePrompted(trainer), images_and_labels(trainer), trainer.prompt_learner
    terms, logits = trainer.loss_terms(images, labels)
    with torch.no_grad():
        t = [naive.text(*naive.prompt(f"a photo of a {n}.", n, learner.ctx, position, "published")) for n in CLASSES]
        want = naive.logits([naive.prompted_image(image, list(learner.visual.ctx), "insert") for image in images], t)
    close(logits, want)
    close(terms["ce"], cross_entropy(want, labels))
    close(trainer.model_inference(images), want)
    assert_all_learn(trainer, terms)


@pytest.mark.parametrize("depth, placement", [(1, "replace"), (2, "insert"), (3, "insert"), (3, "replace")])
def test_maple(depth: int, placement: str, btmri_root: Path, tmp_path: Path) -> None:
    """On PhantomCLIP: its towers have four layers, so there are some behind the prompted ones."""
    own = {"N_CTX": 3, "PROMPT_DEPTH": depth, "PLACEMENT": placement}
    trainer = build("MaPLe", PHANTOM, btmri_root, tmp_path, split="base", backbone="PhantomCLIP", **own)
    want_shapes = {"ctx": (3, 192), "proj.weight": (192, 192), "proj.bias": (192,)}
    for k in range(depth - 1):
        want_shapes |= {f"compound_prompts_text.{k}": (3, 192), f"compound_prompt_projections.{k}.weight": (192, 192)}
        want_shapes[f"compound_prompt_projections.{k}.bias"] = (192,)
    assert shapes(trainer) == want_shapes
    move(trainer.prompt_learner)
    naive, (images, labels) = NaivePrompted(trainer), images_and_labels(trainer)
    terms, logits = trainer.loss_terms(images, labels)
    learned = dict(trainer.prompt_learner.named_parameters())
    with torch.no_grad():
        texts = [learned["ctx"], *(learned[f"compound_prompts_text.{k}"] for k in range(depth - 1))]
        couplings = ["proj", *(f"compound_prompt_projections.{k}" for k in range(depth - 1))]
        tokens = []
        for prompt, name in zip(texts, couplings, strict=True):
            weight, bias = learned[f"{name}.weight"], learned[f"{name}.bias"]
            tokens.append(torch.stack([weight @ vector + bias for vector in prompt]))
        t = []
        for name in CLASSES:
            embedded, mask = naive.prompt(f"a photo of a {name}.", name, texts[0], "end", "exact")
            t.append(naive.deep_text(embedded, mask, texts[1:]))
        want = naive.logits([naive.prompted_image(image, tokens, placement) for image in images], t)
    close(logits, want)
    close(terms["ce"], cross_entropy(want, labels))
    close(trainer.model_inference(images), want)
    assert_all_learn(trainer, terms)


AS_BUILT = [
    ("VPT", False, []),
    ("DPT", True, []),
    ("MaPLe", True, ["PROMPT_DEPTH is 2"]),  # the tiny text tower has 2 layers, the image tower 6
    ("PromptSRC", False, ["PROMPT_DEPTH_VISION is 6", "PROMPT_DEPTH_TEXT is 2"]),
]


@pytest.mark.parametrize("method, dropout, forced", AS_BUILT)
def test_dropout_is_as_published_and_a_shallower_tower_is_said(
    method, dropout, forced, tiny_biomedclip, btmri_root, tmp_path
) -> None:
    own = {"PROMPTS": "template"} if method == "PromptSRC" else {}
    trainer = build(method, tiny_biomedclip, btmri_root, tmp_path, split="base", **own)
    trainer.set_model_mode("train")
    assert trainer.backbone.text_tower.training == dropout and not trainer.backbone.model.visual.training
    trainer.set_model_mode("eval")
    assert not trainer.backbone.text_tower.training
    assert [said.split(",")[0] for said in forced_departures(trainer)] == forced


@pytest.mark.parametrize("method", ["VPT", "DPT", "MaPLe", "PromptSRC"])
def test_no_patches_is_one_clear_line(method, btmri_root, tmp_path, monkeypatch) -> None:
    backbone = native_clip("tiny-resnet")
    assert not backbone.supports_visual_prompts and len(backbone.visual_layers) == 0
    monkeypatch.setattr(trainers.frozen_towers, "build_backbone", lambda *_: backbone)
    with pytest.raises(UserError, match=f"^{method} learns tokens among image patches") as raised:
        build(method, None, btmri_root, tmp_path, split="base")
    names = str(raised.value).split("(")[1]
    assert "CoOp" in names and "BiomedDPT" in names and not {"VPT", "DPT", "MaPLe"} & set(names.strip(")").split(", "))


MISTAKES = [
    ("VPT", {"VISUAL.N_TOKENS": 0}, "VISUAL.N_TOKENS is 0, must be at least 1"),
    ("VPT", {"VISUAL.PLACEMENT": "insret"}, 'Did you mean "insert"'),
    ("DPT", {"VISUAL.DEPTH": "deap"}, 'Did you mean "deep"'),
    ("MaPLe", {"PROMPT_DEPTH": 0}, "PROMPT_DEPTH is 0, must be at least 1"),
    ("MaPLe", {"PLACEMENT": "append"}, "TRAINER.MAPLE.PLACEMENT"),
    ("PromptSRC", {"GPA_STD": 0.0}, "GPA_STD is 0.0, must be positive"),
    ("PromptSRC", {"PROMPTS": "esemble"}, 'Did you mean "ensemble"'),
]


@pytest.mark.parametrize("method, own, said", MISTAKES)
def test_a_setting_that_cannot_be_is_one_clear_line(method, own, said, tiny_biomedclip, btmri_root, tmp_path) -> None:
    with pytest.raises(UserError) as raised:
        build(method, tiny_biomedclip, btmri_root, tmp_path, split="base", **own)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_more_tokens_than_patches_to_replace_is_told() -> None:
    prompt = VisualPrompt(torch.zeros(5, 8), "replace")
    with pytest.raises(UserError, match="5 visual prompt tokens cannot replace 4 patches"):
        prompt.start(torch.zeros(2, 5, 8))
