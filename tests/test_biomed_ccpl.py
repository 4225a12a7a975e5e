"""BiomedCCPL re-computed layer by layer and pair by pair, what it learns, its refusals, and a run with new classes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from backbones.between_layers import image_patches
from dassl.utils import UserError
from datasets.prompts import load_prompts
from tests.conftest import REPO
from tests.helpers import arguments, build, last_tokens
from tests.test_formulas import CLASSES, images_and_labels
from tests.test_visual_methods import NaivePrompted, close, cross_entropy, move

PHANTOM = REPO / "backbones" / "weights" / "phantomclip"
OWN = {"CROSS_LAYERS": "[0,2,3]", "N_PROTOTYPES": 3, "ALPHA": 0.8, "NEM_LAMBDA": 2.0, "ORTHO_LAMBDA": 3.0, "N_PROMPTS": 4}
LAYERS = [0, 2, 3]


class Guided(NaivePrompted):
    """Both towers by hand, for one image and one class at a time."""

    def look(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(3, H, W) -> normalised (D,), and the patches (N, W) behind LAYERS."""
        trunk, patches = self.model.visual.trunk, []
        rows = torch.cat([trunk.cls_token, trunk.patch_embed(image[None])], dim=1) + trunk.pos_embed
        for number, block in enumerate(trunk.blocks):
            rows = type(block).forward(block, rows)
            if number in LAYERS:
                patches.append(rows[0, 1:])
        feature = self.model.visual.head(trunk.norm(rows[0, 0]))
        return feature / feature.norm(), patches

    def guided(self, embedded: Tensor, mask: Tensor, seen: list[Tensor], attention, heads: int) -> Tensor:
        """The class token mixed behind LAYERS with what it attends to among prototypes (R, W) -> normalised (D,)."""
        bert, length = self.model.text.transformer, int(mask.sum())
        embedded, mask = embedded[:length], mask[:length]  # tests of other methods show that padding changes nothing
        hidden = bert.embeddings(inputs_embeds=embedded[None])
        blocked = torch.where(mask == 1, 0.0, torch.finfo(torch.float32).min)[None, None, None].expand(1, 1, len(mask), -1)
        for number, layer in enumerate(bert.encoder.layer):
            out = type(layer).forward(layer, hidden, attention_mask=blocked)
            hidden = (out[0] if isinstance(out, tuple) else out).clone()
            if number in LAYERS:
                at = LAYERS.index(number)
                token = hidden[0, 0].clone()
                hidden[0, 0] = 0.8 * token + 0.2 * attended(token, seen[at], attention[at], heads)
        feature = self.model.text.proj(hidden[:, 0])[0]
        return feature / feature.norm()


def attended(query: Tensor, seen: Tensor, attention: torch.nn.MultiheadAttention, heads: int) -> Tensor:
    """Multi-head attention of one token to R others, head by head."""
    (wq, wk, wv), (bq, bk, bv) = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    q, width, parts = wq @ query + bq, len(query) // heads, []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        scores = torch.stack([q[own] @ (wk @ one + bk)[own] / math.sqrt(width) for one in seen])
        parts.append(sum(p * (wv @ one + bv)[own] for p, one in zip(scores.softmax(0), seen, strict=True)))
    return attention.out_proj.weight @ torch.cat(parts) + attention.out_proj.bias


def prototypes(network: torch.nn.Sequential, patches: Tensor) -> Tensor:
    first, norm, _, last = network
    rows = []
    for patch in patches:
        hidden = first.weight @ patch
        hidden = (hidden - hidden.mean()) / (hidden.var(unbiased=False) + 1e-5).sqrt() * norm.weight + norm.bias
        rows.append(last.weight @ hidden.clamp(min=0))
    weights = torch.stack(rows).softmax(dim=0)  # (N, R)
    return torch.stack([sum(w * patch for w, patch in zip(column, patches, strict=True)) for column in weights.T])


def trainer_of(root: Path, out: Path, **own: object):
    trainer = build("BiomedCCPL", PHANTOM, root, out, split="base", backbone="PhantomCLIP", **(OWN | own))
    move(trainer.prompt_learner)
    with torch.no_grad():
        for value in trainer.prompt_learner.parameters():
            value *= 0.1  # or all classes are alike beside what was added
    return trainer


def by_hand(trainer, images: Tensor) -> tuple[list[Tensor], list[list[Tensor]], list[list[Tensor]], Guided]:
    """v, t and u: of each image, and of each image and class."""
    naive, learner, v, t, u = Guided(trainer), trainer.prompt_learner, [], [], []
    for image in images:
        feature, patches = naive.look(image)
        seen = [prototypes(network, one) for network, one in zip(learner.prototypes, patches, strict=True)]
        v.append(feature)
        for found, ctx, attention in ((t, learner.ctx, learner.attention), (u, learner.ctx_nc, learner.attention_nc)):
            prompts = [naive.prompt(f"a photo of a {name}.", name, ctx, "end", "exact") for name in CLASSES]
            found.append([naive.guided(*prompt, seen, attention, 3) for prompt in prompts])
    return v, t, u, naive


FORMS = [
    ("uniform", "all", "mse", "prompt"),
    ("prediction", "diagonal", "cosine", "ensemble"),
]


@pytest.mark.parametrize("kl, ortho, sar, anchor", FORMS)
def test_losses_and_predictions_by_loops(kl: str, ortho: str, sar: str, anchor: str, btmri_root: Path, tmp_path: Path) -> None:
    trainer = trainer_of(btmri_root, tmp_path, KL=kl, ORTHO=ortho, SAR=sar, ANCHOR=anchor)
    images, labels = (one[:2] for one in images_and_labels(trainer))
    terms, logits = trainer.loss_terms(images, labels)
    with torch.no_grad():
        v, t, u, naive = by_hand(trainer, images)
        want, other = (
            naive.scale * torch.stack([torch.stack([a @ one for one in row]) for a, row in zip(v, rows, strict=True)])
            for rows in (t, u)
        )
        divergence, cosines, distances = [], [], []
        for image, q in enumerate(other.softmax(1)):
            pairs = [(0.5, p) if kl == "uniform" else (p, 0.5) for p in q.tolist()]
            divergence.append(sum(a * math.log(a / b) for a, b in pairs))
            squares = [[float(a @ b) ** 2 for b in u[image]] for a in t[image]]
            cosines += sum(squares, []) if ortho == "all" else [squares[c][c] for c in range(2)]
            for c, name in enumerate(CLASSES):
                if anchor == "prompt":
                    target = naive.sentence(f"a photo of a {name}.")
                else:
                    ensemble = sum(naive.sentence(text) for text in load_prompts("btmri", CLASSES, 4).texts[name])
                    target = ensemble / ensemble.norm()
                apart = t[image][c] - target
                distances.append(float((apart**2).mean() if sar == "mse" else 1 - t[image][c] @ target))
    assert min(divergence) > 0.05 and abs(squares[0][0] - squares[0][1]) > 0.01  # the forms give other numbers
    close(logits, want)
    close(trainer.model_inference(images), want)
    assert set(terms) == {"ce", "nem", "ortho", "sar"}
    close(terms["ce"], cross_entropy(want, labels))
    close(terms["nem"], torch.tensor(2.0 * sum(divergence) / len(divergence)))
    close(terms["ortho"], torch.tensor(3.0 * sum(cosines) / len(cosines)))
    close(terms["sar"], torch.tensor(sum(distances) / len(distances)))


def test_gradients_reach_all_that_is_learned_and_only_training_reads_the_second_pathway(
    btmri_root: Path, tmp_path: Path
) -> None:
    trainer = trainer_of(btmri_root, tmp_path)
    learner, (images, labels) = trainer.prompt_learner, images_and_labels(trainer)
    terms, _ = trainer.loss_terms(images, labels)
    sum(terms.values()).backward()
    for name, value in learner.named_parameters():
        part = value.grad.chunk(3)[1] if name.endswith("in_proj_bias") else None  # a key's bias shifts all scores alike
        assert value.grad.abs().sum() > 0, name
        assert part is None or part.abs().max() < 1e-4 * value.grad.abs().max()
    assert not any(value.requires_grad for value in trainer.backbone.parameters())
    kinds = {name.split(".")[0] for name in trainer.learned_names}
    assert kinds == {"ctx", "ctx_nc", "prototypes", "attention", "attention_nc"}
    said = trainer.model_inference(images)
    with torch.no_grad():
        learner.ctx_nc += 1
        learner.attention_nc[0].in_proj_weight += 1
    assert torch.equal(trainer.model_inference(images), said)
    assert last_tokens(trainer.backbone) == (1, 1)  # patches were read for the call alone


def test_an_image_guides_only_its_own_classes_and_alpha_one_leaves_images_out(btmri_root: Path, tmp_path: Path) -> None:
    trainer = trainer_of(btmri_root, tmp_path, TEST_CHUNK=2)
    images, _ = images_and_labels(trainer)
    together = trainer.model_inference(images)
    close(together, torch.cat([trainer.model_inference(one[None]) for one in images]))
    v, patches = trainer.look(images)
    features, four = image_patches(trainer.backbone, images, [0, 1, 2, 3])
    close(v, torch.nn.functional.normalize(trainer.backbone.encode_image(images), dim=1))
    assert [tuple(one.shape) for one in patches] == [tuple(four[k].shape) for k in LAYERS] and len(four) == 4
    still = trainer_of(btmri_root, tmp_path / "still", ALPHA=1.0)
    t = torch.nn.functional.normalize(still.encode_classes(), dim=1)
    close(still.model_inference(images), still.logit_scale * v @ t.T)


def test_the_start_is_the_released_one(btmri_root: Path, tmp_path: Path) -> None:
    trainer = build("BiomedCCPL", PHANTOM, btmri_root, tmp_path, split="base", backbone="PhantomCLIP", **OWN)
    assert trainer.layers == LAYERS and not trainer.forced
    learner = trainer.prompt_learner
    noise = learner.ctx_nc - learner.ctx
    assert 0.008 < float(noise.detach().std()) < 0.012
    for kind in (learner.prototypes, learner.attention, learner.attention_nc):
        states = [torch.cat([value.flatten() for value in one.parameters()]) for one in kind]
        assert len(states) == 3 and torch.equal(states[0], states[1]) and torch.equal(states[0], states[2])
    assert torch.equal(learner.attention[0].in_proj_weight, learner.attention_nc[0].in_proj_weight)
    shallow = build(
        "BiomedCCPL", PHANTOM, btmri_root, tmp_path / "b", split="base", backbone="PhantomCLIP", CROSS_LAYERS="[1,4]"
    )
    assert shallow.layers == [0, 1] and "CROSS_LAYERS are [0, 1], not [1, 4]" in shallow.forced[0]


@pytest.mark.parametrize(
    "own, words",
    [
        ({"KL": "reverse"}, "BIOMEDCCPL.KL"),
        ({"ORTHO": "some"}, "all, diagonal"),
        ({"SAR": "l1"}, "mse, cosine"),
        ({"ANCHOR": "llm"}, "prompt, ensemble"),
        ({"ALPHA": 1.5}, "ALPHA is 1.5"),
        ({"N_PROTOTYPES": 0}, "N_PROTOTYPES is 0"),
        ({"TEST_CHUNK": 0}, "TEST_CHUNK is 0"),
        ({"CROSS_LAYERS": "[2,1]"}, "CROSS_LAYERS is [2, 1]"),
        ({"CROSS_LAYERS": "[]"}, "CROSS_LAYERS is []"),
        ({"CROSS_LAYERS": "[-1,1]"}, "CROSS_LAYERS is [-1, 1]"),
    ],
)
def test_settings_that_cannot_be(own: dict[str, object], words: str, btmri_root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        build("BiomedCCPL", PHANTOM, btmri_root, tmp_path, split="base", backbone="PhantomCLIP", **(OWN | own))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_run_with_new_classes_saves_and_reloads(btmri_root: Path, tmp_path: Path) -> None:
    import train

    first = tmp_path / "first"
    run = arguments("BiomedCCPL", PHANTOM, btmri_root, first, split="base", backbone="PhantomCLIP", shots=1, epochs=1)
    assert train.main(run) in (None, 0)
    record = json.loads((first / "results.json").read_text())
    assert any(said.startswith("CROSS_LAYERS are [1, 2, 3]") for said in record["departures"])
    assert any("ALPHA and both lambdas as for 16 shots, here 1" in said for said in record["departures"])
    trained = build("BiomedCCPL", PHANTOM, btmri_root, tmp_path / "a", split="base", backbone="PhantomCLIP")
    novel = build("BiomedCCPL", PHANTOM, btmri_root, tmp_path / "b", split="new", backbone="PhantomCLIP")
    for trainer in (trained, novel):
        trainer.load_model(str(first))
        trainer.set_model_mode("eval")
    images, _ = images_and_labels(trained)
    assert not torch.equal(trained.prompt_learner.ctx, trained.backbone.embed_tokens(trained.prompt_learner.tokens)[0, 1:5])
    for name, value in trained.prompt_learner.named_parameters():
        assert torch.equal(value, dict(novel.prompt_learner.named_parameters())[name])
    scores = novel.model_inference(images)
    assert scores.shape == (3, 2) and not torch.allclose(scores, trained.model_inference(images))
