"""CLIP-Adapter, Tip-Adapter(-F), the linear probe, LP++ and GDA, re-computed by loops from their papers' formulas."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tests.conftest import BTMRI_CLASSES
from tests.helpers import quick
from trainers import gda, linear_probe, lp_plus_plus, tip_adapter

WIDTH = 32


def drawn(*shape: int, seed: int = 0, labels: int = 0) -> torch.Tensor:
    """Unit vectors, or labels of which each occurs."""
    generator = torch.Generator().manual_seed(seed)
    if labels:
        return torch.cat([torch.arange(labels), torch.randint(labels, (shape[0] - labels,), generator=generator)])
    values = torch.randn(*shape, generator=generator)
    return values / values.norm(dim=-1, keepdim=True)


# -- CLIP-Adapter -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("renormalise", [False, True])
def test_clip_adapter(renormalise: bool, tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick("CLIPAdapter", tiny_biomedclip, btmri_root, tmp_path, ALPHA=0.3, RENORMALISE=renormalise)
    down, up = trainer.prompt_learner.down.weight, trainer.prompt_learner.up.weight
    raw, labels = 3 * drawn(5, WIDTH), drawn(5, labels=4)
    terms, logits = trainer.loss_terms(raw, labels)
    with torch.no_grad():
        for row, v in enumerate(raw):
            v = v / v.norm()
            out = (up @ (down @ v).clamp(min=0)).clamp(min=0)
            mixed = 0.3 * out + 0.7 * v
            mixed = mixed / mixed.norm() if renormalise else mixed
            for column, name in enumerate(BTMRI_CLASSES):
                text = trainer.backbone.encode_text([f"a MR photo of a {name} in the brain."])[0]
                want = trainer.backbone.model.logit_scale.exp() * mixed @ (text / text.norm())
                torch.testing.assert_close(logits[row, column], want, rtol=1e-5, atol=1e-5)
        ce = -sum(logits[row].softmax(0)[label].log() for row, label in enumerate(labels)) / len(labels)
    torch.testing.assert_close(terms["ce"].detach(), ce, rtol=1e-5, atol=1e-5)


# -- Tip-Adapter ------------------------------------------------------------------------------------------


def tip_logits(v, zero_shot, keys, values, alpha: float, beta: float) -> list[float]:
    """One image's logits, term by term."""
    return [
        zero_shot[c] + alpha * sum(math.exp(-beta * (1 - float(v @ k))) * values[n][c] for n, k in enumerate(keys))
        for c in range(len(zero_shot))
    ]


def test_tip_adapter_scores_and_search() -> None:
    v, keys, labels, key_labels = drawn(9, 6), drawn(5, 6, seed=1), drawn(9, labels=3), drawn(5, labels=3, seed=2)
    values = torch.nn.functional.one_hot(key_labels, 3).float()
    zero_shot = 2 * torch.randn(9, 3, generator=torch.Generator().manual_seed(3))
    cache = tip_adapter.Cache(keys, values, torch.tensor(2.5), 4.0, learn=False)
    want = [tip_logits(v[i], zero_shot[i].tolist(), keys, values.tolist(), 2.5, 4.0) for i in range(9)]
    torch.testing.assert_close(zero_shot + cache(v), torch.tensor(want), rtol=1e-5, atol=1e-5)

    alphas = [i * (6 - 0.1) / 4 + 0.1 for i in range(4)]
    betas = [i * (5 - 0.1) / 3 + 0.1 for i in range(3)]
    torch.testing.assert_close(tip_adapter.search_grid(6, 4), torch.tensor(alphas))
    best = (-1.0, 0.0, 0.0)
    for beta, alpha in itertools.product(betas, alphas):
        logits = [tip_logits(v[i], zero_shot[i].tolist(), keys, values.tolist(), alpha, beta) for i in range(9)]
        right = sum(row.index(max(row)) == label for row, label in zip(logits, labels.tolist(), strict=True))
        if right > best[0]:
            best = (right, alpha, beta)
    found = tip_adapter.search_blend(zero_shot, v @ keys.T, values, labels, torch.tensor(alphas), torch.tensor(betas))
    assert found == pytest.approx((best[1], best[2], best[0]))
    level = torch.zeros(9, 3)  # nothing to choose between: the first pair
    found = tip_adapter.search_blend(level, v @ keys.T, level[:5], labels, torch.tensor(alphas), torch.tensor(betas))
    assert found[:2] == pytest.approx((alphas[0], betas[0]))


def test_tip_adapter_cache_is_the_normalised_mean_over_views(tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick("TipAdapter", tiny_biomedclip, btmri_root, tmp_path, AUGMENT_EPOCH=2)
    trainer.train()
    views = [trainer.store.views(epoch).features for epoch in (0, 1)]
    for row, item in enumerate(trainer.dm.dataset.train_x):
        mean = (views[0][row] + views[1][row]) / 2
        torch.testing.assert_close(trainer.prompt_learner.keys[row], mean / mean.norm())
        assert trainer.prompt_learner.values[row].tolist() == [float(c == item.label) for c in range(4)]


def test_candidates_of_tip_adapter_f_train_as_if_alone(tiny_biomedclip, btmri_root, tmp_path) -> None:
    together = quick("TipAdapterF", tiny_biomedclip, btmri_root, tmp_path / "all")
    together.before_train()
    trained = together.train_candidates(torch.tensor([1.0, 2.0, 3.0]))
    alone = quick("TipAdapterF", tiny_biomedclip, btmri_root, tmp_path / "one", GRID_SEARCH=False, INIT_ALPHA=2.0)
    alone.train()
    start = together.prompt_learner.keys
    assert (trained.keys[1] - start).abs().max() > 1e-4
    torch.testing.assert_close(alone.prompt_learner.keys, trained.keys[1], rtol=1e-5, atol=1e-6)


def test_tip_adapter_f_resumes_and_ends_the_same(tiny_biomedclip, btmri_root, tmp_path, monkeypatch) -> None:
    whole = quick("TipAdapterF", tiny_biomedclip, btmri_root, tmp_path / "whole")
    whole.train()
    broken = quick("TipAdapterF", tiny_biomedclip, btmri_root, tmp_path / "broken")
    monkeypatch.setattr(broken, "run_epoch", lambda go=broken.run_epoch: go() if broken.epoch < 1 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        broken.train()
    resumed = quick("TipAdapterF", tiny_biomedclip, btmri_root, tmp_path / "broken")
    monkeypatch.setattr(resumed, "search_initial_alpha", lambda: pytest.fail("it was chosen before"))
    resumed.train()
    assert resumed.start_epoch == 1
    for name, value in resumed.prompt_learner.state_dict().items():
        assert torch.equal(value, whole.prompt_learner.state_dict()[name]), name


# -- linear probe -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
def test_linear_probe_has_the_probabilities_of_scikit_learn(classes: int) -> None:
    x, y, new = drawn(20, 6).double().numpy(), drawn(20, labels=classes).numpy(), drawn(7, 6, seed=4).double()
    weight, bias = linear_probe.fit_logistic(x, y, 1.5)
    want = LogisticRegression(solver="lbfgs", max_iter=1000, C=10**1.5).fit(x, y).predict_proba(new.numpy())
    logits = new.float() @ weight.T + bias
    np.testing.assert_allclose(logits.softmax(dim=1).numpy(), want, atol=1e-5)


@pytest.mark.parametrize("peak", [-5.3, -0.4, 1.1, 2.7, 6.9])
def test_linear_probe_search(peak: float) -> None:
    def accuracy(c: float) -> float:
        return -round(abs(math.log10(c) - peak), 1)

    coarse = [1e6, 1e4, 1e2, 1, 1e-2, 1e-4, 1e-6]
    best = coarse[int(np.argmax([accuracy(c) for c in coarse]))]
    left, right = 1e-1 * best, 1e1 * best
    for _ in range(8):
        final = right if accuracy(left) < accuracy(right) else left
        centre = 10 ** (0.5 * (np.log10(left) + np.log10(right)))
        left, right = (centre, right) if final == right else (left, centre)
    assert linear_probe.search_c(lambda log_c: accuracy(10**log_c), 8) == pytest.approx(math.log10(final), abs=1e-6)


# -- LP++ -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum, every", [(0.9, 10), (0.0, 3)])
def test_lp_plus_plus(momentum: float, every: int) -> None:
    v, y, text = drawn(12, 6), drawn(12, labels=3), drawn(3, 6, seed=5)
    w = torch.stack([sum(v[i] for i in range(12) if y[i] == k) for k in range(3)]).requires_grad_()
    means = [np.mean([float(v[i] @ text[k]) for i in range(12) if y[i] == k]) for k in range(3)]
    alpha = torch.full((3,), 250 * float(np.mean(means)), requires_grad=True)
    lipschitz_w = float(torch.linalg.eigvalsh(v.T @ v).max()) / (4 * 12)
    largest = max(sum(float(v[i] @ text[k]) ** 2 for i in range(12)) for k in range(3))
    optimiser = torch.optim.SGD([w], lr=1 / lipschitz_w, momentum=momentum)
    visited = []
    lp_plus_plus.descend(v, y, text, iterations=25, momentum=momentum, alpha_every=every,
                         visit=lambda *point: visited.append(point))  # fmt: skip
    for iteration in range(25):
        logits = torch.stack([torch.stack([v[i] @ (w[k] + alpha[k] * text[k]) for k in range(3)]) for i in range(12)])
        loss = -sum(logits[i].log_softmax(0)[y[i]] for i in range(12)) / 12
        w.grad = alpha.grad = None
        loss.backward()
        optimiser.step()
        if (iteration + 1) % every == 0:
            alpha.data -= 12 / (4 * largest) * alpha.grad
        torch.testing.assert_close(visited[iteration][0], w.detach(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(visited[iteration][1], alpha.detach(), rtol=1e-4, atol=1e-4)


def test_lp_plus_plus_steps_without_momentum_never_go_up() -> None:
    v, y, text, losses = drawn(30, 8), drawn(30, labels=4), drawn(4, 8, seed=5), []

    def visit(w: torch.Tensor, alpha: torch.Tensor) -> None:
        losses.append(float(torch.nn.functional.cross_entropy(v @ (w + alpha[:, None] * text).T, y)))

    lp_plus_plus.descend(v, y, text, iterations=60, momentum=0.0, alpha_every=1000, visit=visit)
    assert losses[-1] < losses[0] and all(b <= a + 1e-6 for a, b in itertools.pairwise(losses))


def test_lp_plus_plus_keeps_the_last_of_the_best_on_validation(tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick("LPPlusPlus", tiny_biomedclip, btmri_root, tmp_path)
    trainer.train()
    (v, y), (new, labels) = (trainer.normalised([trainer.store.images(part)]) for part in ("train", "val"))
    text, visited = trainer.text_features(), []
    lp_plus_plus.descend(v, y, text, iterations=30, momentum=0.9, alpha_every=10,
                         visit=lambda *point: visited.append(point))  # fmt: skip
    right = [
        sum(int(((w + alpha[:, None] * text) @ one).argmax()) == int(label) for one, label in zip(new, labels, strict=True))
        for w, alpha in visited
    ]
    last = max(index for index, count in enumerate(right) if count == max(right))
    assert torch.equal(trainer.prompt_learner.weight, visited[last][0])
    assert torch.equal(trainer.prompt_learner.alpha, visited[last][1])


# -- GDA --------------------------------------------------------------------------------------------------


def test_gda_scores_are_log_densities_of_gaussians() -> None:
    v, y, new = drawn(14, 5).double(), drawn(14, labels=3), drawn(4, 5, seed=6).double()
    means = [np.mean([v[i].numpy() for i in range(14) if y[i] == k], axis=0) for k in range(3)]
    covariance = sum(np.outer(v[i] - means[y[i]], v[i] - means[y[i]]) for i in range(14)) / 13
    precision = 5 * np.linalg.inv(13 * covariance + np.trace(covariance) * np.eye(5))
    weight, bias = gda.gaussian_classifier(v, y, 3)
    ours = (new @ weight.T + bias).softmax(dim=1).numpy()
    for i, x in enumerate(new.numpy()):
        densities = np.array([math.exp(-0.5 * (x - m) @ precision @ (x - m)) for m in means])
        np.testing.assert_allclose(ours[i], densities / densities.sum(), rtol=1e-9)


@pytest.mark.parametrize("scale", [0.0, 100.0])
def test_gda_takes_the_first_of_the_best_blends_on_validation(scale: float, tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick("GDA", tiny_biomedclip, btmri_root, tmp_path, SCALE=scale)
    trainer.train()
    learner, best = trainer.prompt_learner, (-1, 0.0)
    s = scale or trainer.backbone.model.logit_scale.exp()
    new, labels = trainer.normalised([trainer.store.images("val")])
    for alpha in (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0):
        right = 0
        for v, label in zip(new, labels, strict=True):
            logits = s * trainer.fixed_features @ v + alpha * (learner.weight @ v + learner.bias)
            right += int(logits.argmax()) == int(label)
        best = max(best, (right, alpha), key=lambda pair: pair[0])
    assert learner.alpha.item() == pytest.approx(best[1])
    want = [s * trainer.fixed_features @ v + best[1] * (learner.weight @ v + learner.bias) for v in new]
    torch.testing.assert_close(trainer.scores(new), torch.stack(want), rtol=1e-5, atol=1e-4)


def test_gda_leaves_the_word_to_zero_shot_where_nothing_varies(tiny_biomedclip, btmri_root, tmp_path) -> None:
    assert not gda.precision_matrix(torch.zeros(3, 5)).any()
    trainer = quick("GDA", tiny_biomedclip, btmri_root, tmp_path, shots=1, AUGMENT_EPOCH=0)
    trainer.train()
    v = drawn(6, WIDTH)
    torch.testing.assert_close(trainer.scores(v).softmax(1), trainer.zero_shot(v).softmax(1), rtol=1e-5, atol=1e-6)
