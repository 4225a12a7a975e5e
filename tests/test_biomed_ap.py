"""BiomedAP re-computed token by token, what of it learns and what cannot, its refusals, and a run with new classes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import trainers.biomed_ap
from backbones import VisualPrompt
from dassl.utils import UserError
from datasets.prompts import load_prompts
from tests.conftest import REPO
from tests.helpers import arguments, build
from tests.test_biomed_ccpl import attended
from tests.test_formulas import CLASSES, images_and_labels
from tests.test_visual_methods import NaivePrompted, close, cross_entropy, move

PHANTOM = REPO / "backbones" / "weights" / "phantomclip"
LAYERS, BLOCKS, WIDTH, HEADS = [1, 4], 6, 64, 8  # of the tiny BiomedCLIP, whose words are 32 wide
WEIGHTS = {"L1_LAMBDA_HIGH": 2.0, "KL_LAMBDA": 3.0, "L1_LAMBDA_LOW": 5.0, "ALIGNMENT_LAMBDA": 7.0}
OWN = {"FUSION_LAYERS": "[1,4]", "N_TOKENS": 3, "N_PROMPTS": 4, **WEIGHTS}


def trainer_of(folder: Path, root: Path, out: Path, **own: object):
    """The tiny BiomedCLIP's, everything learned moved off its start, and without dropout."""
    trainer = build("BiomedAP", folder, root, out, split="base", **(OWN | own))
    move(trainer.prompt_learner)
    trainer.set_model_mode("eval")
    return trainer


def linear(layer: torch.nn.Module, row: Tensor) -> Tensor:
    return row if isinstance(layer, torch.nn.Identity) else layer.weight @ row + layer.bias


def side(part: torch.nn.Module, rows: list[Tensor], seen: Tensor) -> Tensor:
    """One side of a fusion, token by token: rows (W,), and the others' (K, common)."""
    out = []
    for row in rows:
        found = linear(part.leave, attended(linear(part.enter, row), seen, part.attention, HEADS))
        gate = 1 / (1 + (-linear(part.gate, row)).exp())
        mixed = row + gate * row + (1 - gate) * found
        mixed = (mixed - mixed.mean()) / (mixed.var(unbiased=False) + 1e-5).sqrt() * part.norm.weight + part.norm.bias
        first, last = part.network[0], part.network[3]
        hidden = linear(first, mixed)
        out.append(mixed + linear(last, hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))))
    return torch.stack(out)


def by_hand(trainer, words: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Tokens before each block, and what the words (M, W) became in each fusion."""
    zero, tokens, heard = [torch.zeros(WIDTH)] * 3, [torch.zeros(3, WIDTH)] * BLOCKS, []
    for layer in LAYERS:
        fusion = trainer.prompt_learner.fusion[str(layer)]
        told = torch.stack([linear(fusion.text.enter, row) for row in words])
        tokens[layer] = side(fusion.visual, zero, told)
        heard.append(side(fusion.text, list(words), torch.zeros(3, WIDTH)))
    return tokens, heard


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


FORMS = [
    ("middle", "published", "minimal", "{}", "replace"),
    ("end", "exact", "medical_minimal", "a medical image of {}", "insert"),
    ("front", "exact", "empty", "X", "replace"),
]


@pytest.mark.parametrize("position, name_len, low, sentence, placement", FORMS)
def test_losses_and_predictions_by_loops(
    position: str, name_len: str, low: str, sentence: str, placement: str,
    tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path,
) -> None:  # fmt: skip
    own = {"CLASS_TOKEN_POSITION": position, "NAME_LEN": name_len, "LOW_TEMPLATE_TYPE": low, "PLACEMENT": placement}
    trainer = trainer_of(tiny_biomedclip, btmri_root, tmp_path, **own)
    images, labels = images_and_labels(trainer)
    terms, logits = trainer.loss_terms(images, labels)
    naive = NaivePrompted(trainer)
    with torch.no_grad():
        ctx = trainer.prompt_learner.ctx
        prompts = [naive_prompt(naive, name, ctx, position, name_len) for name in CLASSES]
        t = [naive.text(*prompt) for prompt in prompts]
        words = [embedded[1 : 1 + len(ctx)] for embedded, _ in prompts]
        assert torch.equal(words[0], words[1]) == (position == "end")  # else names are among them, and images differ in tokens
        fused = [by_hand(trainer, one) for one in words]
        v = [naive.prompted_image(image, fused[y][0], placement) for image, y in zip(images, labels, strict=True)]
        want = naive.logits(v, t)
        texts = load_prompts("btmri", CLASSES, 4).texts
        high = [sum(naive.sentence(text) for text in texts[name]) for name in CLASSES]
        high = [one / one.norm() for one in high]
        lows = [naive.sentence(sentence.format(name)) for name in CLASSES]
        p_z, p = naive.logits(v, high).softmax(1).flatten().tolist(), want.softmax(1).flatten().tolist()
        away = [1 - cosine(heard.mean(0), words[y].mean(0)) for y in labels for heard in fused[y][1]]
        tested = [naive.prompted_image(image, by_hand(trainer, (words[0] + words[1]) / 2)[0], placement) for image in images]
    close(logits, want)
    close(trainer.model_inference(images), naive.logits(tested, t))
    assert set(terms) == {"ce", "l1_high", "kl", "l1_low", "align"}
    close(terms["ce"], cross_entropy(want, labels))
    close(terms["l1_high"], 2.0 * sum((a - b).abs().mean() for a, b in zip(t, high, strict=True)) / 2)
    close(terms["kl"], torch.tensor(3.0 * sum(a * math.log(a / b) for a, b in zip(p_z, p, strict=True)) / len(p)))
    close(terms["l1_low"], 5.0 * sum((a - b).abs().mean() for a, b in zip(t, lows, strict=True)) / 2)
    close(terms["align"], torch.tensor(7.0 * sum(away) / len(away)))


def naive_prompt(naive: NaivePrompted, name: str, ctx: Tensor, position: str, name_len: str) -> tuple[Tensor, Tensor]:
    return naive.prompt(f"a MR photo of a {name} in the brain.", name, ctx, position, name_len)


def test_gradients_reach_all_that_zero_vectors_let_through_and_nothing_frozen(
    tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path
) -> None:
    """Zero queries hide the weights they pass; zero keys, all alike, hide all of the words' attention but its value's bias."""
    trainer = trainer_of(tiny_biomedclip, btmri_root, tmp_path)
    terms, _ = trainer.loss_terms(*images_and_labels(trainer))
    sum(terms.values()).backward()
    largest = max(float(value.grad.abs().max()) for value in trainer.prompt_learner.parameters())
    parts = {}
    for name, value in trainer.prompt_learner.named_parameters():
        split = zip("qkv", value.grad.chunk(3), strict=True) if ".in_proj_" in name else [("", value.grad)]
        parts |= {f"{name}{part}": float(grad.abs().max()) / largest for part, grad in split}
    still = {name for name, size in parts.items() if size < 1e-7}
    hidden = ["visual.gate.weight", "visual.attention.in_proj_weightq", "visual.attention.in_proj_biask"]
    hidden += [f"text.attention.in_proj_{kind}" for kind in ("weightq", "weightk", "weightv", "biasq", "biask")]
    assert still == {f"fusion.{layer}.{name}" for layer in LAYERS for name in hidden}
    assert set(trainer.learned_names) == {name for name, _ in trainer.prompt_learner.named_parameters()}
    assert not any(value.requires_grad or value.grad is not None for value in trainer.backbone.parameters())
    assert not trainer.high_anchors.requires_grad and not trainer.low_anchors.requires_grad


def test_without_fusions_it_is_biomed_dpt_beside_low_anchors(tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path) -> None:
    trainer = build("BiomedAP", tiny_biomedclip, btmri_root, tmp_path / "ap", split="base", FUSION_LAYERS="[]")
    other = build("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path / "dpt", split="base")
    assert trainer.learned_names == ["ctx"] and not trainer.forced and trainer.own.L1_LAMBDA_LOW == 2.0
    images, labels = images_and_labels(trainer)
    (terms, logits), (want, want_logits) = (one.loss_terms(images, labels) for one in (trainer, other))
    close(logits, want_logits)
    assert set(terms) == {"ce", "l1_high", "kl", "l1_low"}
    for mine, theirs in (("ce", "ce"), ("l1_high", "l1"), ("kl", "kl")):
        close(terms[mine], want[theirs])
    assert trainer.variant(trainer.cfg).endswith("_layersnone")
    assert "FUSION_LAYERS [] (released code: [5, 8])" in trainer.departures(trainer.cfg)


def test_dropout_of_the_fusions_is_on_in_training_alone(tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tiny_biomedclip, btmri_root, tmp_path, TEXT_DROPOUT=False)
    images, labels = images_and_labels(trainer)
    still = [trainer.loss_terms(images, labels)[1] for _ in range(2)]
    assert torch.equal(*still)
    trainer.set_model_mode("train")
    moving = [trainer.loss_terms(images, labels)[1] for _ in range(2)]
    assert not torch.allclose(*moving) and not torch.allclose(still[0], moving[0])


def test_tokens_of_each_image_are_its_own() -> None:
    tokens = torch.arange(2 * 3 * 2 * 4.0).view(2, 3, 2, 4)  # depth, images, P, W
    sequence = -torch.ones(3, 5, 4)
    for placement, length in (("replace", 5), ("insert", 7)):
        prompt = VisualPrompt(tokens, placement)
        begun = prompt.start(sequence)
        for block in range(3):
            begun = prompt.before_block(block, begun)
            assert begun.shape == (3, length, 4) and torch.equal(begun[:, 1:3], tokens[min(block, 1)])
    with pytest.raises(ValueError, match="depth, B, P, W"):
        VisualPrompt(tokens[None])


def test_shallower_towers_and_odd_widths_are_told(
    tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = build("BiomedAP", PHANTOM, btmri_root, tmp_path / "a", split="base", backbone="PhantomCLIP")
    assert list(trainer.prompt_learner.fusion) == ["1", "2"]
    (said,) = trainer.forced
    assert said == f"FUSION_LAYERS are [1, 2], not [5, 8]: {trainer.backbone.name} has 4 layers"
    monkeypatch.setattr(trainers.biomed_ap, "HEADS", 12)
    trainer = build("BiomedAP", tiny_biomedclip, btmri_root, tmp_path / "b", split="base", **OWN)
    assert trainer.prompt_learner.fusion["1"].visual.attention.num_heads == 4
    assert trainer.forced == [f"the fusions have 4 heads, not 12: {trainer.backbone.name} is 64 wide"]


@pytest.mark.parametrize(
    "own, words",
    [
        ({"PLACEMENT": "behind"}, "BIOMEDAP.PLACEMENT"),
        ({"LOW_TEMPLATE_TYPE": "poor"}, "minimal, article, generic, medical_minimal, empty"),
        ({"FUSION_LAYERS": "[4,1]"}, "FUSION_LAYERS is [4, 1]"),
        ({"FUSION_LAYERS": "[-1]"}, "FUSION_LAYERS is [-1]"),
        ({"N_TOKENS": 0}, "N_TOKENS is 0"),
        ({"N_PROMPTS": 0}, "N_PROMPTS is 0"),
    ],
)
def test_settings_that_cannot_be(
    own: dict[str, object], words: str, tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        build("BiomedAP", tiny_biomedclip, btmri_root, tmp_path, split="base", **(OWN | own))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_run_with_new_classes_saves_and_reloads(btmri_root: Path, tmp_path: Path) -> None:
    import train

    first = tmp_path / "first"
    run = arguments("BiomedAP", PHANTOM, btmri_root, first, split="base", backbone="PhantomCLIP", shots=1, epochs=2)
    assert train.main(run) in (None, 0)
    record = json.loads((first / "results.json").read_text())
    assert any(said.startswith("FUSION_LAYERS are [1, 2]") for said in record["departures"])
    trained = build("BiomedAP", PHANTOM, btmri_root, tmp_path / "a", split="base", backbone="PhantomCLIP")
    start = {name: value.detach().clone() for name, value in trained.prompt_learner.named_parameters()}
    novel = build("BiomedAP", PHANTOM, btmri_root, tmp_path / "b", split="new", backbone="PhantomCLIP")
    for trainer in (trained, novel):
        trainer.load_model(str(first))
        trainer.set_model_mode("eval")
    found = dict(trained.prompt_learner.named_parameters())
    assert not torch.equal(found["ctx"], start["ctx"])
    for name, value in novel.prompt_learner.named_parameters():
        assert torch.equal(value, found[name])
    images, _ = images_and_labels(trained)
    scores = novel.model_inference(images)
    assert scores.shape == (3, 2) and not torch.allclose(scores, trained.model_inference(images))
    novel.prompt_learner.eval()
    assert not torch.allclose(novel.visual_prompt().tokens[1], trained.visual_prompt().tokens[1])  # of their classes' words
