"""KgCoOp, ProGrad and BiomedCoOp re-computed from METHOD's formulas by naive code, and what their parts do at the edges."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dassl.utils import UserError
from tests.conftest import REPO
from tests.helpers import build
from tests.test_formulas import CLASSES, Naive, images_and_labels, nudge
from trainers.biomedcoop import is_selected
from trainers.prograd import project

CLINICAL, PHOTO = "a MR photo of a {} in the brain.", "a photo of a {}."


class Side:
    """What every method here computes, by the naive towers: s, v (B), t (C) as lists of unit vectors, logits (B, C)."""

    def __init__(self, trainer, images: Tensor, ctx: Tensor) -> None:
        self.naive = Naive(trainer)
        self.s = self.naive.scale
        self.v = [image / image.norm() for image in (self.naive.model.encode_image(one[None])[0] for one in images)]
        prompts = [self.naive.prompt(PHOTO.format(name), name, ctx, "end", "exact") for name in CLASSES]
        self.t = [self.naive.text(*prompt) for prompt in prompts]
        self.logits = self.against(self.t)

    def against(self, classes: list[Tensor]) -> Tensor:
        return torch.stack([torch.stack([self.s * a @ b for b in classes]) for a in self.v])

    def cross_entropy(self, labels: Tensor) -> Tensor:
        p = self.logits.softmax(1)
        return -sum(p[b, int(y)].log() for b, y in enumerate(labels)) / len(labels)


def kl_sum(z: Tensor, logits: Tensor) -> Tensor:
    q, p = z.softmax(1), logits.softmax(1)
    pairs = itertools.product(range(z.shape[0]), range(z.shape[1]))
    return sum(q[b, c] * (q[b, c].log() - p[b, c].log()) for b, c in pairs)


def close(have: Tensor, want: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(have.detach(), want.detach(), rtol=tolerance, atol=tolerance)


@pytest.fixture
def tiny(tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path):
    """Builds a trainer on two classes whose context was moved off its start."""

    def make(method: str, extra: tuple[str, ...] = (), **own: object):
        trainer = build(method, tiny_biomedclip, btmri_root, tmp_path, split="base", extra=extra, **own)
        nudge(trainer)
        return trainer

    return make


# -- KgCoOp -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["", PHOTO])
def test_kgcoop(template: str, tiny) -> None:
    trainer = tiny("KgCoOp", extra=("DATASET.TEMPLATE", template) if template else (), W=8.0)
    images, labels = images_and_labels(trainer)
    terms, logits = trainer.loss_terms(images, labels)
    with torch.no_grad():
        side = Side(trainer, images, trainer.prompt_learner.ctx)
        by_hand = [side.naive.sentence((template or CLINICAL).format(name)) for name in CLASSES]
        cosine = sum(a @ b for a, b in zip(side.t, by_hand, strict=True)) / len(by_hand)
        distance = sum(((a - b) ** 2).sum() for a, b in zip(side.t, by_hand, strict=True)) / len(by_hand)
    close(logits, side.logits)
    close(trainer.model_inference(images), side.logits)
    close(terms["ce"], side.cross_entropy(labels))
    close(terms["kg"], 8.0 * (1 - cosine))
    close(terms["kg"], 4.0 * distance)  # the paper's form
    assert set(terms) == {"ce", "kg"}


# -- ProGrad ------------------------------------------------------------------------------------------------


class Step:
    """Gradients by ctx of CE and of the released KL loss (its cross-entropy form), and KL as METHOD has it."""

    def __init__(self, trainer, images: Tensor, temperature: float) -> None:
        self.ctx = trainer.prompt_learner.ctx.detach().clone().requires_grad_()
        self.side = side = Side(trainer, images, self.ctx)
        z = side.against([side.naive.sentence(CLINICAL.format(name)) for name in CLASSES]).detach() / temperature
        soft = side.logits / temperature
        released = -(z.softmax(1) * soft.log_softmax(1) * temperature * temperature).sum(1).mean()
        self.g_kl = self.gradient(released)
        self.kl = temperature**2 * kl_sum(z, soft.detach()) / len(images)

    def gradient(self, loss: Tensor) -> Tensor:
        return torch.autograd.grad(loss, self.ctx, retain_graph=True)[0]

    def g_ce(self, labels: Tensor) -> Tensor:
        return self.gradient(self.side.cross_entropy(labels))


def naive_projection(g_ce: Tensor, g_kl: Tensor, strength: float) -> Tensor:
    a, b = g_ce.flatten().tolist(), g_kl.flatten().tolist()
    dot, square = math.fsum(x * y for x, y in zip(a, b, strict=True)), math.fsum(y * y for y in b)
    if dot >= 0:
        return g_ce
    return torch.tensor([x - strength * dot / square * y for x, y in zip(a, b, strict=True)]).view_as(g_ce)


@pytest.mark.parametrize("temperature, strength", [(1.0, 1.0), (0.25, 1.0), (4.0, 0.5), (2.0, 0.0)])
@pytest.mark.parametrize("conflict", [True, False])
def test_prograd_steps_along_the_projected_gradient(conflict: bool, temperature: float, strength: float, tiny) -> None:
    trainer = tiny("ProGrad", T=temperature, LAMBDA=strength)
    images, _ = images_and_labels(trainer)
    step = Step(trainer, images, temperature)
    for labels in map(torch.tensor, itertools.product((0, 1), repeat=len(images))):  # some labels conflict, some agree
        g_ce, g_kl = step.g_ce(labels), step.g_kl
        if (float((g_ce * g_kl).sum()) < 0) == conflict:
            break
    assert (float((g_ce * g_kl).sum()) < 0) == conflict
    before = trainer.prompt_learner.ctx.detach().clone()
    terms, _ = trainer.loss_terms(images, labels)
    loss = trainer.update(terms)
    want = naive_projection(g_ce, g_kl, strength)
    close(terms["kl"], step.kl)
    close(loss, terms["ce"] + terms["kl"])
    close(trainer.prompt_learner.ctx.grad / want.norm(), want / want.norm())
    group = trainer.optim.param_groups[0]
    close(trainer.prompt_learner.ctx, before - group["lr"] * (want + group["weight_decay"] * before))
    if strength == 1.0 and conflict:
        assert abs(float((trainer.prompt_learner.ctx.grad * g_kl).sum() / (g_ce.norm() * g_kl.norm()))) < 1e-4


def test_prograd_published_teacher_is_the_learning_model(tiny) -> None:
    trainer = tiny("ProGrad", TEACHER="published", T=2.0)
    images, labels = images_and_labels(trainer)
    step, ctx = Step(trainer, images, 2.0), trainer.prompt_learner.ctx
    before = ctx.detach().clone()
    terms, _ = trainer.loss_terms(images, labels)
    (noise,) = torch.autograd.grad(terms["kl"], ctx, retain_graph=True)
    assert step.kl.item() > 1e-3 and abs(terms["kl"].item()) < 1e-5
    assert noise.norm() < 1e-4 * step.g_kl.norm()
    trainer.update(terms)
    close(ctx.grad, naive_projection(step.g_ce(labels), noise, 1.0), 1e-4)
    assert not torch.equal(ctx, before)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e18])
def test_projection_at_any_scale(scale: float) -> None:
    draw = torch.Generator().manual_seed(0)
    g_ce, g_kl = torch.randn(4, 8, generator=draw), torch.randn(4, 8, generator=draw)
    g_kl -= (1 + (g_ce * g_kl).sum()) / (g_ce * g_ce).sum() * g_ce  # now the dot product is -1
    close(project(g_ce, g_kl * scale), naive_projection(g_ce, g_kl, 1.0))
    assert torch.equal(project(g_ce, -g_kl * scale), g_ce)


def test_projection_at_the_edges() -> None:
    g_ce = torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(project(g_ce, torch.zeros(3, 2)), g_ce)
    assert torch.equal(project(torch.zeros(3, 2), g_ce), torch.zeros(3, 2))
    close(project(g_ce, -g_ce), torch.zeros(3, 2))
    close(project(g_ce, -g_ce, 0.5), g_ce / 2)
    for bad in (math.inf, math.nan):
        broken = torch.where(torch.arange(6).view(3, 2) == 0, bad, 0.0)
        assert not torch.isfinite(project(g_ce, broken)).any() and not torch.isfinite(project(broken, g_ce)).all()


def test_prograd_with_a_grad_scaler_takes_the_same_step(tiny) -> None:
    after = []
    for factor in (None, 1024.0):
        trainer = tiny("ProGrad")
        images, labels = images_and_labels(trainer)
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=factor) if factor else None
        trainer.update(trainer.loss_terms(images, labels)[0])
        after.append(trainer.prompt_learner.ctx.detach().clone())
    close(after[0], after[1], 1e-6)


def test_an_overflown_kl_gradient_leaves_the_step_out(tiny) -> None:
    trainer = tiny("ProGrad")
    images, labels = images_and_labels(trainer)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1e30)
    before = trainer.prompt_learner.ctx.detach().clone()
    terms, _ = trainer.loss_terms(images, labels)
    terms["kl"] = terms["kl"] + 1e30 * (trainer.prompt_learner.ctx.sum() - trainer.prompt_learner.ctx.detach().sum())
    trainer.update(terms)
    assert torch.equal(trainer.prompt_learner.ctx, before) and trainer.scaler.get_scale() < 1e30


# -- BiomedCoOp ---------------------------------------------------------------------------------------------


def naive_selection(scores: list[float], tau: float) -> list[int]:
    median = sorted(scores)[(len(scores) - 1) // 2]
    deviations = sorted(abs(score - median) for score in scores)
    z = [(score - median) / deviations[(len(scores) - 1) // 2] for score in scores]
    return [k for k, value in enumerate(z) if abs(value - statistics.mean(z)) / statistics.stdev(z) <= tau]


@pytest.mark.parametrize("tau", [0.75, 1.5])
def test_biomedcoop(tau: float, tiny) -> None:
    trainer = tiny("BiomedCoOp", SCCM_LAMBDA=20.0, KDSP_LAMBDA=0.25, TAU=tau, N_PROMPTS=10)
    images, labels = images_and_labels(trainer)
    terms, logits = trainer.loss_terms(images, labels)
    with torch.no_grad():
        side = Side(trainer, images, trainer.prompt_learner.ctx)
        entries = json.loads((REPO / "datasets/prompts/btmri.json").read_text())["prompts"]
        encoded = [[side.naive.sentence(entry["text"]) for entry in entries[name][:10]] for name in CLASSES]
        scores = [
            statistics.mean(max(float(side.s * v @ prompts[k]) for prompts in encoded) for v in side.v) for k in range(10)
        ]
        kept = naive_selection(scores, tau)
        assert 0 < len(kept) < 10
        everything = [sum(prompts) / (sum(prompts)).norm() for prompts in encoded]
        chosen = [sum(prompts[k] for k in kept) for prompts in encoded]
        z = side.against([one / one.norm() for one in chosen])
        mse = sum(((a - b) ** 2).sum() for a, b in zip(side.t, everything, strict=True)) / sum(len(a) for a in side.t)
    close(logits, side.logits)
    close(trainer.model_inference(images), side.logits)
    close(terms["ce"], side.cross_entropy(labels))
    close(terms["sccm"], 20.0 * mse)
    close(terms["kdsp"], 0.25 * kl_sum(z, side.logits) / logits.numel())
    assert set(terms) == {"ce", "sccm", "kdsp"}


@pytest.mark.parametrize("tau", [0.5, 1.0, 1.25, 2.0])
@pytest.mark.parametrize("count", [3, 7, 50])
def test_selection_is_the_robust_z_score_standardised(count: int, tau: float) -> None:
    scores = np.random.default_rng(count).normal(30, 2, count).astype(np.float32)
    kept = is_selected(torch.from_numpy(scores), tau)
    assert kept.nonzero().flatten().tolist() == naive_selection(scores.tolist(), tau)


def test_selection_where_the_median_deviation_is_zero() -> None:
    scores = torch.tensor([30.0] * 6 + [31.0, 45.0])  # more than half are equal
    z = [(float(s) - statistics.mean(scores.tolist())) / statistics.stdev(scores.tolist()) for s in scores]
    assert is_selected(scores, 1.5).tolist() == [abs(value) <= 1.5 for value in z] == [True] * 7 + [False]


@pytest.mark.parametrize("count", [1, 2, 50])
def test_selection_keeps_all_where_all_scores_are_equal(count: int) -> None:
    assert is_selected(torch.full((count,), 31.7), 0.1).tolist() == [True] * count


def test_a_tau_that_keeps_nothing_is_named(tiny) -> None:
    trainer = tiny("BiomedCoOp", TAU=0.5, N_PROMPTS=2)  # two scores lie 0.71 standard deviations from their mean
    images, labels = images_and_labels(trainer)
    with pytest.raises(UserError, match=r"TAU 0\.5 keeps none of 2 prompts: set it to 1 or more"):
        trainer.loss_terms(images, labels)


# -- all three ----------------------------------------------------------------------------------------------

NAMES = ("KgCoOp", "ProGrad", "BiomedCoOp")


@pytest.mark.parametrize("csc", [False, True])
@pytest.mark.parametrize("method", NAMES)
def test_the_context_is_all_that_is_learned(method: str, csc: bool, tiny) -> None:
    trainer = tiny(method, CSC=csc)
    learned = {name: tuple(p.shape) for name, p in trainer.prompt_learner.named_parameters() if p.requires_grad}
    assert learned == {"ctx": (2, 4, 32) if csc else (4, 32)}
    assert [p for group in trainer.optim.param_groups for p in group["params"]] == [trainer.prompt_learner.ctx]
    trainer.set_model_mode("train")
    images, labels = images_and_labels(trainer)
    trainer.update(trainer.loss_terms(images, labels)[0])
    assert all(p.grad is None for p in trainer.backbone.parameters())
    assert trainer.backbone.text_tower.training == (method == "BiomedCoOp")


@pytest.mark.parametrize("method", NAMES)
def test_a_step_in_half_precision_is_near_the_full_one(method: str, tiny) -> None:
    terms = []
    for chosen in ("fp32", "amp"):
        trainer = tiny(method, PREC=chosen)
        images, labels = images_and_labels(trainer)
        before = trainer.prompt_learner.ctx.detach().clone()
        with trainer.precision():
            terms.append(trainer.loss_terms(images, labels)[0])
        trainer.update(terms[-1])
        assert not torch.equal(trainer.prompt_learner.ctx, before)
    for name, full in terms[0].items():
        close(terms[1][name].float(), full, 0.1)


@pytest.mark.parametrize("method", NAMES)
def test_a_loss_that_is_not_finite_ends_the_run(method: str, tiny) -> None:
    trainer = tiny(method)
    images, labels = images_and_labels(trainer)
    trainer.update(trainer.loss_terms(images * math.nan, labels)[0])
    with pytest.raises(UserError, match="the loss is nan in epoch 1: lower OPTIM.LR"):
        trainer.after_epoch()
