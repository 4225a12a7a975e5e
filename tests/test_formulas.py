"""BiomedDPT, CoOp and CoCoOp re-computed from METHOD's formulas by naive code: full-length padding, loops, no cache."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from tests.helpers import build

CLASSES = ["glioma tumor", "meningioma tumor"]
CONTEXT = 256


class Naive:
    """The towers of a tiny BiomedCLIP, driven by hand."""

    def __init__(self, trainer) -> None:
        self.model, self.tokenizer = trainer.backbone.model, trainer.backbone.tokenizer
        self.scale = self.model.logit_scale.exp()

    def embed(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        ids = self.tokenizer([text])
        assert ids.shape == (1, CONTEXT)
        return self.model.text.transformer.embeddings.word_embeddings(ids)[0], (ids[0] != 0).long()

    def text(self, embedded: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        out = self.model.text.transformer(inputs_embeds=embedded[None], attention_mask=mask[None])
        feature = self.model.text.proj(out.last_hidden_state[:, 0])[0]
        return feature / feature.norm()

    def sentence(self, text: str) -> torch.Tensor:
        return self.text(*self.embed(text))

    def image(self, image: torch.Tensor, num_prompts: int, placement: str, deep: bool) -> torch.Tensor:
        trunk, zero = self.model.visual.trunk, torch.zeros
        patches = trunk.patch_embed(image[None]).reshape(1, -1, trunk.embed_dim)
        x = torch.cat([trunk.cls_token, patches], dim=1) + trunk.pos_embed
        x = trunk.norm_pre(x)[0]
        width = x.shape[1]
        if placement == "insert":
            x = torch.cat([x[:1], zero(num_prompts, width), x[1:]])
        for number, block in enumerate(trunk.blocks):
            if deep or number == 0:
                x = x.clone()
                for position in range(1, num_prompts + 1):
                    x[position] = zero(width)
            x = block(x[None])[0]
        feature = self.model.visual.head(trunk.norm(x[None])[:, 0])[0]
        return feature / feature.norm()

    def prompt(self, text: str, name: str, ctx: torch.Tensor, position: str, name_len: str):
        embedded, mask = self.embed(text)
        m = len(ctx)
        length = 1 if name_len == "published" else int((self.tokenizer([name]) != 0).sum()) - 2
        start, rest = [embedded[0]], list(embedded[1 + m :])
        words, tail = rest[:length], rest[length:]
        if position == "end":
            rows = start + list(ctx) + rest
        elif position == "middle":
            rows = start + list(ctx[: m // 2]) + words + list(ctx[m // 2 :]) + tail
        else:
            rows = start + words + list(ctx) + tail
        return torch.stack(rows), mask


def images_and_labels(trainer) -> tuple[torch.Tensor, torch.Tensor]:
    size = trainer.backbone.image_size
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(3)), torch.tensor([0, 1, 1])


def nudge(trainer) -> torch.Tensor:
    """Move ctx off its start, so that per-class contexts differ."""
    ctx = trainer.prompt_learner.ctx
    with torch.no_grad():
        ctx += 0.2 * torch.randn(ctx.shape, generator=torch.Generator().manual_seed(4))
    return ctx


CASES = [
    *itertools.product(("end", "middle", "front"), (False, True), ("replace",), (True,), ("published", "exact")),
    *itertools.product(("middle",), (False,), ("replace", "insert"), (True, False), ("published",)),
]


@pytest.mark.parametrize("position, csc, placement, deep, name_len", CASES)
def test_biomed_dpt(
    position: str, csc: bool, placement: str, deep: bool, name_len: str, tiny_biomedclip: Path, btmri_root: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    own = {
        "CLASS_TOKEN_POSITION": position, "CSC": csc, "NAME_LEN": name_len, "VISUAL.PLACEMENT": placement,
        "VISUAL.DEPTH": "deep" if deep else "shallow", "N_CTX": 5, "CTX_INIT": "a MR photo of a",
        "L1_LAMBDA": 12.5, "KL_LAMBDA": 0.25,
    }  # fmt: skip
    trainer = build("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path, split="base", **own)
    trainer.set_model_mode("eval")
    naive, (images, labels), learned = Naive(trainer), images_and_labels(trainer), nudge(trainer)
    terms, logits = trainer.loss_terms(images, labels)

    with torch.no_grad():
        t, fixed = [], []
        for index, name in enumerate(CLASSES):
            ctx = learned[index] if csc else learned
            prompt = naive.prompt(f"a MR photo of a {name} in the brain.", name, ctx, position, name_len)
            t.append(naive.text(*prompt))
            ensemble = torch.stack([naive.sentence(text) for text in trainer.prompts.texts[name]]).mean(0)
            fixed.append(ensemble / ensemble.norm())
        v = [naive.image(image, 4, placement, deep) for image in images]
        want = torch.stack([torch.stack([naive.scale * a @ b for b in t]) for a in v])
        z = torch.stack([torch.stack([naive.scale * a @ b for b in fixed]) for a in v])
        p, q = want.softmax(1), z.softmax(1)
        ce = -sum(p[b, y].log() for b, y in enumerate(labels)) / len(v)
        l1 = sum((a - b).abs().sum() for a, b in zip(t, fixed, strict=True)) / (len(t) * len(t[0]))
        kl = sum(
            q[b, c] * (q[b, c].log() - p[b, c].log()) for b in range(len(v)) for c in range(len(t))
        ) / (len(v) * len(t))  # fmt: skip
    torch.testing.assert_close(logits, want, rtol=1e-5, atol=1e-5)
    for name, value in (("ce", ce), ("l1", 12.5 * l1), ("kl", 0.25 * kl)):
        torch.testing.assert_close(terms[name].detach(), value, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(trainer.model_inference(images), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("csc", [False, True])
@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_coop(position: str, csc: bool, tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path) -> None:
    own = {"CLASS_TOKEN_POSITION": position, "CSC": csc, "N_CTX": 4, "CTX_INIT": "a photo of a"}
    trainer = build("CoOp", tiny_biomedclip, btmri_root, tmp_path, split="base", **own)
    naive, (images, labels), learned = Naive(trainer), images_and_labels(trainer), nudge(trainer)
    terms, logits = trainer.loss_terms(images, labels)
    with torch.no_grad():
        t = [
            naive.text(*naive.prompt(f"a photo of a {n}.", n, learned[i] if csc else learned, position, "published"))
            for i, n in enumerate(CLASSES)
        ]
        v = [image / image.norm() for image in (naive.model.encode_image(one[None])[0] for one in images)]
        want = torch.stack([torch.stack([naive.scale * a @ b for b in t]) for a in v])
        ce = -sum(want.softmax(1)[b, y].log() for b, y in enumerate(labels)) / len(v)
    torch.testing.assert_close(logits, want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(terms["ce"].detach(), ce, rtol=1e-5, atol=1e-5)


def test_cocoop(tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path) -> None:
    own = {"N_CTX": 4, "CTX_INIT": "a photo of a", "TEST_CHUNK": 2}
    trainer = build("CoCoOp", tiny_biomedclip, btmri_root, tmp_path, split="base", **own)
    naive, (images, labels), learned = Naive(trainer), images_and_labels(trainer), nudge(trainer)
    net = trainer.prompt_learner.meta_net
    terms, logits = trainer.loss_terms(images, labels)
    with torch.no_grad():
        rows = []
        for image in images:
            v = naive.model.encode_image(image[None])[0]
            v = v / v.norm()
            hidden = (net.linear1.weight @ v + net.linear1.bias).clamp(min=0)
            shift = net.linear2.weight @ hidden + net.linear2.bias
            row = []
            for name in CLASSES:
                prompt = naive.prompt(f"a photo of a {name}.", name, learned + shift, "end", "exact")
                row.append(naive.scale * v @ naive.text(*prompt))
            rows.append(torch.stack(row))
        want = torch.stack(rows)
        ce = -sum(want.softmax(1)[b, y].log() for b, y in enumerate(labels)) / len(images)
    torch.testing.assert_close(logits, want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(terms["ce"].detach(), ce, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(trainer.model_inference(images), want, rtol=1e-5, atol=1e-5)
