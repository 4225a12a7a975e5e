"""ProKeR, computed again by loops in NumPy; every image really left out; what it chooses and says."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from dassl.utils import UserError
from runs.departures import forced_departures
from tests.conftest import BTMRI_CLASSES
from tests.helpers import quick
from tests.rivals_by_hand import CLASSES, WIDTH, Array, array, drawn, llm_features, right, unit, validation_of, views_of
from trainers import proker


def k(x: Array, s: Array, beta: float) -> float:
    return math.exp(-beta * (1 - float(x @ s)))


def proker_fit(keys: Array, residual: Array, beta: float, strength: float, form: str) -> Array:
    """A (N, C) as it is written: ``(K / λ + I)^-1 R`` as released, ``1 / λ`` of it the exact minimiser's."""
    gram = np.array([[k(a, b, beta) for b in keys] for a in keys])
    released = np.linalg.solve(gram / strength + np.eye(len(keys)), residual)
    return released if form == "released" else released / strength


def proker_score(x: Array, texts: Array, keys: Array, values: Array, beta: float) -> Array:
    return np.array([
        float(x @ texts[c]) + sum(k(x, s, beta) * values[n][c] for n, s in enumerate(keys)) for c in range(len(texts))
    ])  # fmt: skip


def proker_data(trainer) -> tuple[Array, list[int], Array, Array]:
    """Samples view by view, their labels, texts, and what zero-shot leaves over."""
    views, labels = views_of(trainer)
    keys = np.array([unit(v) for view in views for v in view])
    texts = array(trainer.class_texts)
    residual = np.array([
        [float(labels[n % len(labels)] == c) - float(key @ texts[c]) for c in range(CLASSES)] for n, key in enumerate(keys)
    ])  # fmt: skip
    return keys, labels * len(views), texts, residual


@pytest.mark.parametrize("form", ["released", "exact"])
@pytest.mark.parametrize("texts_of", ["template", "ensemble"])
def test_proker_by_loops(form: str, texts_of: str, tiny_biomedclip, btmri_root, tmp_path) -> None:
    settings = {"AUGMENT_EPOCH": 2, "SELECT": "fixed", "BETA": 2.5, "LAMBDA": 0.3, "FORM": form, "PROMPTS": texts_of}
    trainer = quick("ProKeR", tiny_biomedclip, btmri_root, tmp_path, N_PROMPTS=3, **settings)
    trainer.train()
    keys, _, texts, residual = proker_data(trainer)
    if texts_of == "template":
        want = [f"a MR photo of a {name} in the brain." for name in BTMRI_CLASSES]
        own = [unit(array(row)) for row in trainer.backbone.encode_text(want).detach()]
    else:
        own = [unit(sum(prompts)) for prompts in llm_features(trainer, 3)]
    np.testing.assert_allclose(texts, own, rtol=1e-4, atol=1e-5)
    values = proker_fit(keys, residual, 2.5, 0.3, form)
    new = drawn(5, WIDTH, seed=4)
    want = [proker_score(x, texts, keys, values, 2.5) for x in new]
    np.testing.assert_allclose(trainer.scores(torch.from_numpy(new).float()), want, rtol=1e-4, atol=1e-5)


def test_the_exact_form_is_the_minimiser_and_the_released_one_is_not() -> None:
    keys, residual, strength = drawn(6, 4, seed=1), np.random.default_rng(2).normal(size=(6, 2)), 0.2
    gram = np.array([[k(a, b, 1.5) for b in keys] for a in keys])
    slopes = {}
    for form in ("exact", "released"):
        values = proker_fit(keys, residual, 1.5, strength, form)
        slopes[form] = np.abs(gram @ (gram @ values - residual) + strength * gram @ values).max()  # gradient in A, halved
    assert slopes["exact"] < 1e-12 < 1e-3 < slopes["released"]


def left_out_by_hand(keys: Array, residual: Array, beta: float, strength: float, form: str, views: int) -> Array:
    """What is added to f0 at each sample after a fit to the samples of all other images."""
    images = len(keys) // views
    found = np.zeros_like(residual)
    for n in range(len(keys)):
        others = [m for m in range(len(keys)) if m % images != n % images]
        values = proker_fit(keys[others], residual[others], beta, strength, form)
        found[n] = sum(k(keys[n], keys[m], beta) * values[row] for row, m in enumerate(others))
    return found


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("form", ["released", "exact"])
@pytest.mark.parametrize("strength", [0.01, 0.7])
def test_the_shortcut_equals_really_leaving_out_each_image(views: int, form: str, strength: float) -> None:
    keys, residual = drawn(5 * views, 7, seed=5), np.random.default_rng(6).normal(size=(5 * views, 3))
    gram = np.array([[k(a, b, 2.0) for b in keys] for a in keys])
    ridge = proker.Ridge.of(torch.from_numpy(gram), torch.from_numpy(residual))
    factor = strength if form == "released" else 1.0
    ours = factor * ridge.left_out(strength, views).numpy()
    np.testing.assert_allclose(ours, left_out_by_hand(keys, residual, 2.0, strength, form, views), rtol=1e-7, atol=1e-9)
    if views == 1 and form == "exact":  # the formula in its usual words: y - [G R]_i / G_ii
        inverse = np.linalg.inv(gram + strength * np.eye(len(keys)))
        usual = residual - (inverse @ residual) / np.diag(inverse)[:, None]
        np.testing.assert_allclose(ours, usual, rtol=1e-7, atol=1e-9)


GRID = {"BETA_SEARCH": "[0.5, 8.0, 3]", "LAMBDA_SEARCH": "[0.01, 1.0, 3]"}
PAIRS = list(itertools.product([0.5, 4.25, 8.0], [0.01, 0.505, 1.0]))


@pytest.mark.parametrize("form", ["released", "exact"])
def test_proker_chooses_by_leaving_out(form: str, tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick("ProKeR", tiny_biomedclip, btmri_root, tmp_path, **GRID, AUGMENT_EPOCH=2, FORM=form, shots=3)
    trainer.train()
    keys, labels, texts, residual = proker_data(trainer)
    found = []
    for beta, strength in PAIRS:
        added = left_out_by_hand(keys, residual, beta, strength, form, views=2)
        rows = [keys[n] @ texts.T + added[n] for n in range(len(keys))]
        error = sum(
            float((row[c] - (c == label)) ** 2) for row, label in zip(rows, labels, strict=True) for c in range(CLASSES)
        )
        found.append((right(rows, labels), -error))
    beta, strength = PAIRS[found.index(max(found))]
    assert trainer.prompt_learner.beta.item() == pytest.approx(beta)
    values = proker_fit(keys, residual, beta, strength, form)
    np.testing.assert_allclose(trainer.prompt_learner.values, values, rtol=1e-3, atol=1e-4)


def test_proker_chooses_on_validation_as_released(tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick("ProKeR", tiny_biomedclip, btmri_root, tmp_path, **GRID, AUGMENT_EPOCH=1, SELECT="val", shots=3)
    trainer.train()
    (keys, _, texts, residual), (given, truth) = proker_data(trainer), validation_of(trainer)
    counts = []
    for beta, strength in PAIRS:
        values = proker_fit(keys, residual, beta, strength, "released")
        counts.append(right([proker_score(x, texts, keys, values, beta) for x in given], truth))
    beta, strength = PAIRS[counts.index(max(counts))]
    assert trainer.prompt_learner.beta.item() == pytest.approx(beta)
    np.testing.assert_allclose(
        trainer.prompt_learner.values, proker_fit(keys, residual, beta, strength, "released"), rtol=1e-3, atol=1e-4
    )
    assert type(trainer).departures(trainer.cfg) == []


def test_an_image_alone_in_its_class_is_not_judged(tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick("ProKeR", tiny_biomedclip, btmri_root, tmp_path, AUGMENT_EPOCH=0)
    labels = torch.tensor([0, 0, 1, 2, 2])
    keys = torch.tensor([[1.0, 0], [0.8, 0.6], [-0.6, 0.8], [0, -1], [-0.6, -0.8]]).double()
    truth, plain = np.eye(3)[labels.numpy()], np.arange(15.0).reshape(5, 3) / 40
    residual = torch.from_numpy(truth - plain)
    (found,) = trainer.by_leaving_out(([2.0], [0.1]), keys, residual, labels)
    added = left_out_by_hand(keys.numpy(), residual.numpy(), 2.0, 0.1, "released", views=1)
    seen, scores = [0, 1, 3, 4], plain + added
    assert found[0] == right([scores[n] for n in seen], [labels.tolist()[n] for n in seen]) > 0
    assert found[1] == pytest.approx(-sum(((scores[n] - truth[n]) ** 2).sum() for n in seen))


def test_a_view_of_a_bank_is_a_sample_once(tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick("ProKeR", tiny_biomedclip, btmri_root, tmp_path, AUGMENT_EPOCH=3, extra=("FEATURES.VIEWS", "2"))
    assert (trainer.views, len(trainer.prompt_learner.keys)) == (2, 16)
    first, second = trainer.training_sets()
    assert not torch.equal(first.features, second.features)
    trainer.train()
    assert trainer.prompt_learner.values.abs().sum(dim=1).min() > 0


def test_proker_with_one_shot_takes_the_fixed_pair_and_says_so(tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick("ProKeR", tiny_biomedclip, btmri_root, tmp_path / "a", shots=1, AUGMENT_EPOCH=2)
    assert forced_departures(trainer) == ["beta 3 and lambda 0.05 are fixed: with one image per class none can be left out"]
    trainer.train()
    keys, _, _, residual = proker_data(trainer)
    assert trainer.prompt_learner.beta.item() == 3
    np.testing.assert_allclose(
        trainer.prompt_learner.values, proker_fit(keys, residual, 3.0, 0.05, "released"), rtol=1e-3, atol=1e-4
    )
    for number, (shots, select) in enumerate(((2, "loo"), (1, "val"), (1, "fixed"))):
        other = quick("ProKeR", tiny_biomedclip, btmri_root, tmp_path / f"b{number}", shots=shots, SELECT=select)
        assert forced_departures(other) == []


def test_a_cache_of_another_form_is_refused(tiny_biomedclip, btmri_root, tmp_path) -> None:
    trained = quick("ProKeR", tiny_biomedclip, btmri_root, tmp_path / "run")
    bare = type(trained)(trained.cfg, facts=trained.facts)
    for keys, values in (
        ((5, WIDTH), (4, CLASSES)),
        ((5, WIDTH + 1), (5, CLASSES)),
        ((5, WIDTH), (5, 3)),
        ((5,), (5, CLASSES)),
    ):
        with pytest.raises(UserError, match=r"a cache of keys .* does not fit BiomedCLIP"):
            bare.make_room({"keys": torch.zeros(keys), "values": torch.zeros(values)})
