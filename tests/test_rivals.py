"""TIMO, TIMO-S and SS-Text, computed again by loops in NumPy; what these and ProKeR keep, refuse and say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import train
from dassl.utils import UserError
from runs.config import default_config, merge_file
from runs.settings import config_file
from share.pack import pack
from tests.conftest import REPO
from tests.helpers import arguments, build, quick
from tests.rivals_by_hand import WIDTH, Array, drawn, llm_features, right, unit, validation_of, views_of
from trainers import methods, ss_text, timo

RIVALS = ("TIMO", "TIMOS", "ProKeR", "SSText")


# -- TIMO -------------------------------------------------------------------------------------------------


def timo_scores(views: list[Array], labels: list[int], prompts: list[list[Array]]) -> list[list[float]]:
    """q_cp, from class means of image keys."""
    keys = [unit(sum(view[i] for view in views) / len(views)) for i in range(len(labels))]
    means = []
    for c in range(len(prompts)):
        mine = [key for key, label in zip(keys, labels, strict=True) if label == c]
        means.append(unit(sum(mine) / len(mine)))
    return [[float(means[c] @ prompt) for prompt in prompts[c]] for c in range(len(prompts))]


def timo_text(q: list[list[float]], prompts: list[list[Array]], gamma: float) -> list[Array]:
    texts = []
    for c, scores in enumerate(q):
        norm = math.sqrt(sum(score**2 for score in scores))
        raised = [math.exp(gamma * score / norm) for score in scores]
        texts.append(unit(sum(w / sum(raised) * prompt for w, prompt in zip(raised, prompts[c], strict=True))))
    return texts


def timo_gaussian(views: list[Array], labels: list[int], q: list[list[float]], prompts: list[list[Array]], count: int):
    """W and b of the Gaussian classifier of all views and of the ``count`` best prompts, each times its score."""
    samples = [(unit(v), label) for view in views for v, label in zip(view, labels, strict=True)]
    for c, scores in enumerate(q):
        ranked = sorted(range(len(scores)), key=lambda p: -scores[p])
        samples += [(scores[p] * prompts[c][p], c) for p in (ranked + ranked)[:count]]
    means = []
    for c in range(len(prompts)):
        mine = [v for v, label in samples if label == c]
        means.append(sum(mine) / len(mine))
    spread = sum(np.outer(v - means[c], v - means[c]) for v, c in samples)
    width, number = len(means[0]), len(samples)
    precision = width * np.linalg.inv(spread + np.trace(spread / (number - 1)) * np.eye(width))
    weights = [precision @ mean for mean in means]
    return weights, [math.log(1 / len(means)) - float(w @ mean) / 2 for w, mean in zip(weights, means, strict=True)]


def timo_logits(v: Array, texts: list[Array], weights: list[Array], biases: list[float], alpha: float) -> Array:
    return np.array([alpha * float(v @ f) + float(v @ w) + b for f, w, b in zip(texts, weights, biases, strict=True)])


ALPHAS = [10.0**power for power in (-4, -3, -2, -1, 0, 1, 2, 3, 4)]


def best_blend(given, labels, texts, weights, biases) -> tuple[int, float]:
    """How many are right with the first of the best alphas, and which it is."""
    counts = [right([timo_logits(v, texts, weights, biases, alpha) for v in given], labels) for alpha in ALPHAS]
    return max(counts), ALPHAS[counts.index(max(counts))]


def check_timo(trainer, texts, weights, biases, alpha: float) -> None:
    learner = trainer.prompt_learner
    assert learner.alpha.item() == pytest.approx(alpha)
    np.testing.assert_allclose(learner.text, np.array(texts), rtol=1e-4, atol=1e-5)
    new = drawn(5, WIDTH, seed=3)
    want = [timo_logits(v, texts, weights, biases, alpha) for v in new]
    np.testing.assert_allclose(trainer.scores(torch.from_numpy(new).float()), want, rtol=1e-3, atol=1e-3 * max(1.0, alpha))


def test_timo_by_loops(tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick("TIMO", tiny_biomedclip, btmri_root, tmp_path, AUGMENT_EPOCH=2, N_PROMPTS=6, GAMMA=20.0)
    trainer.train()
    (views, labels), prompts = views_of(trainer), llm_features(trainer, 6)
    assert len(views) == 2 and not np.allclose(views[0], views[1])
    q = timo_scores(views, labels, prompts)
    texts, (weights, biases) = timo_text(q, prompts, 20.0), timo_gaussian(views, labels, q, prompts, 6)
    _, alpha = best_blend(*validation_of(trainer), texts, weights, biases)
    check_timo(trainer, texts, weights, biases, alpha)


def test_timo_s_chooses_gamma_by_the_text_then_prompts_and_alpha(tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick("TIMOS", tiny_biomedclip, btmri_root, tmp_path, AUGMENT_EPOCH=0, N_PROMPTS=4, BETA_STEP=4)
    trainer.train()
    (views, labels), prompts, (given, truth) = views_of(trainer), llm_features(trainer, 4), validation_of(trainer)
    q = timo_scores(views, labels, prompts)
    gammas = list(range(5, 101, 5))
    alone = [right([np.array([v @ f for f in timo_text(q, prompts, gamma)]) for v in given], truth) for gamma in gammas]
    texts = timo_text(q, prompts, gammas[alone.index(max(alone))])
    best = (-1, 0.0, [], [])
    for count in (1, 3, 5, 8):  # 1 to 2 P = 8 in four steps of 7/3, rounded down
        weights, biases = timo_gaussian(views, labels, q, prompts, count)
        found, alpha = best_blend(given, truth, texts, weights, biases)
        if found > best[0]:
            best = (found, alpha, weights, biases)
    check_timo(trainer, texts, best[2], best[3], best[1])


def test_what_timo_s_chooses_among() -> None:
    assert timo.sample_counts(50, 10) == [1, 12, 23, 34, 45, 56, 67, 78, 89, 100]  # as released, for 50 prompts
    assert timo.sample_counts(4, 4) == [1, 3, 5, 8] and timo.sample_counts(1, 10) == [1, 2] and timo.sample_counts(9, 1) == [1]
    assert tuple(range(5, 101, 5)) == timo.GAMMAS and pytest.approx(ALPHAS) == timo.ALPHAS


def test_more_samples_than_prompts_begin_again_with_the_best() -> None:
    scores = torch.tensor([[0.2, 0.9, 0.5], [0.4, 0.1, 0.3]])
    prompts = torch.arange(1.0, 7.0).view(2, 3, 1)
    rows, labels = timo.text_samples(scores, prompts, 4)
    want = [0.9 * 2, 0.5 * 3, 0.2 * 1, 0.9 * 2, 0.4 * 4, 0.3 * 6, 0.1 * 5, 0.4 * 4]
    assert rows.flatten().tolist() == pytest.approx(want) and labels.tolist() == [0] * 4 + [1] * 4


def test_timo_s_without_search_takes_what_is_set(tiny_biomedclip, btmri_root, tmp_path) -> None:
    settings = {"AUGMENT_EPOCH": 1, "N_PROMPTS": 3, "SEARCH": False, "GAMMA": 7.0, "ALPHA": 2.5}
    trainer = quick("TIMOS", tiny_biomedclip, btmri_root, tmp_path / "a", BETA=5, **settings)
    trainer.train()
    (views, labels), prompts = views_of(trainer), llm_features(trainer, 3)
    q = timo_scores(views, labels, prompts)
    check_timo(trainer, timo_text(q, prompts, 7.0), *timo_gaussian(views, labels, q, prompts, 5), 2.5)
    whole = quick("TIMOS", tiny_biomedclip, btmri_root, tmp_path / "b", **settings)  # BETA 0: all prompts, as TIMO
    plain = quick("TIMO", tiny_biomedclip, btmri_root, tmp_path / "c", **settings)
    whole.train()
    plain.train()
    assert torch.equal(whole.prompt_learner.weight, plain.prompt_learner.weight)
    assert not torch.equal(whole.prompt_learner.weight, trainer.prompt_learner.weight)


# -- SS-Text ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [0, 2])
def test_ss_text_by_loops(views: int, tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick("SSText", tiny_biomedclip, btmri_root, tmp_path, AUGMENT_EPOCH=views, N_PROMPTS=5)
    trainer.train()
    s, (parts, labels) = float(trainer.backbone.logit_scale.exp()), views_of(trainer)
    prototypes = []
    for c, prompts in enumerate(llm_features(trainer, 5)):
        total = unit(sum(prompts) / 5)
        for part in parts:
            for v, label in zip(part, labels, strict=True):
                total = total + s * unit(v) if label == c else total
        prototypes.append(unit(total))
    new = drawn(5, WIDTH, seed=7)
    want = [[s * float(v @ w) for w in prototypes] for v in new]
    np.testing.assert_allclose(trainer.scores(torch.from_numpy(new).float()), want, rtol=1e-4, atol=1e-4)


def test_ss_text_weighs_text_by_one_and_images_by_the_scale() -> None:
    text, images = torch.eye(3)[:2], torch.tensor([[0.0, 0.0, 1.0]])
    found = ss_text.prototypes(text, images, torch.tensor([1]), 3.0)
    torch.testing.assert_close(found, torch.tensor([[1.0, 0, 0], [0, 1 / math.sqrt(10), 3 / math.sqrt(10)]]))


def test_ss_text_needs_no_validation_images(tiny_biomedclip, btmri_root, tmp_path, monkeypatch) -> None:
    trainer = quick("SSText", tiny_biomedclip, btmri_root, tmp_path)
    monkeypatch.setattr(trainer, "validation", lambda instead: pytest.fail("it read validation images"))
    trainer.train()


# -- all of them ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", RIVALS)
def test_a_checkpoint_predicts_the_same_without_images_and_prompts(method, tiny_biomedclip, btmri_root, tmp_path) -> None:
    trained = quick(method, tiny_biomedclip, btmri_root, tmp_path / "run", shots=3)
    trained.train()
    bare = type(trained)(trained.cfg, facts=trained.facts)
    bare.load_model(str(tmp_path / "run"))
    new = torch.from_numpy(drawn(6, WIDTH, seed=8)).float()
    assert torch.equal(bare.model_inference(new), trained.model_inference(new))
    assert len({tuple(row) for row in trained.model_inference(new).tolist()}) == 6


VARIANTS = [
    ("TIMO", {}, "views10_K50_gamma50"),
    ("TIMO", {"SEARCH": False, "ALPHA": 10.0}, "views10_K50_gamma50_alpha10"),
    ("TIMOS", {}, "views10_K50"),
    ("TIMOS", {"SEARCH": False, "BETA": 7}, "views10_K50_gamma50_alpha100_beta7"),
    ("ProKeR", {}, "views10_loo"),
    ("ProKeR", {"SELECT": "fixed", "FORM": "exact"}, "views10_fixed_beta3_lambda0.05_exact"),
    ("ProKeR", {"BETA": 2.0, "PROMPTS": "ensemble"}, "views10_loo_beta2_lambda0.05_K50"),
    ("SSText", {}, "views0_K50"),
]


@pytest.mark.parametrize("method, own, folder", VARIANTS)
def test_settings_have_folders_of_their_own(method, own, folder) -> None:
    cfg, cls = default_config(), methods()[method]
    merge_file(cfg, str(config_file(method, "all", "btmri")))
    for key, value in own.items():
        cfg.TRAINER[cls.section][key] = value
    assert cls.variant(cfg) == folder
    assert cls.uses_prompts(cfg) == (method != "ProKeR" or own.get("PROMPTS") == "ensemble")
    assert cls.departures(cfg) == (["SELECT loo (released code: val)"] if method == "ProKeR" and "SELECT" not in own
                                   else ["SELECT fixed (released code: val)"] if method == "ProKeR" else [])  # fmt: skip


REFUSED = [
    ("TIMO", {"GAMMA": -1.0}, "TRAINER.TIMO.GAMMA is -1.0, must be 0 or more"),
    ("TIMO", {"N_PROMPTS": 0}, "TRAINER.TIMO.N_PROMPTS is 0, must be 1 or more"),
    ("TIMOS", {"BETA": 7, "N_PROMPTS": 3}, r"TRAINER.TIMOS.BETA is 7, must be 0 to 2 N_PROMPTS \(6\)"),
    ("TIMOS", {"BETA_STEP": 0}, "TRAINER.TIMOS.BETA_STEP is 0, must be 1 or more"),
    ("ProKeR", {"SELECT": "lo"}, "TRAINER.PROKER.SELECT is \"lo\", must be one of loo, val, fixed. Did you mean"),
    ("ProKeR", {"FORM": "paper"}, "must be one of released, exact"),
    ("ProKeR", {"PROMPTS": "both"}, "must be one of template, ensemble"),
    ("ProKeR", {"LAMBDA": 0.0}, "TRAINER.PROKER.LAMBDA is 0.0, must be above 0"),
    ("ProKeR", {"BETA": -1.0}, "TRAINER.PROKER.BETA is -1.0, must be 0 or more"),
    ("ProKeR", {"LAMBDA_SEARCH": "[0, 1, 5]"}, "LAMBDA_SEARCH is .*, must be .* from above 0 up"),
    ("ProKeR", {"BETA_SEARCH": "[2.0, 1.0, 5]"}, "BETA_SEARCH is .*, must be"),
    ("ProKeR", {"BETA_SEARCH": "[1.0, 2.0, 0]"}, "BETA_SEARCH is .*, must be"),
    ("ProKeR", {"BETA_SEARCH": "[1.0, 2.0]"}, "BETA_SEARCH is .*, must be"),
    ("SSText", {"N_PROMPTS": 0}, "TRAINER.SSTEXT.N_PROMPTS is 0, must be 1 or more"),
    ("SSText", {"AUGMENT_EPOCH": -1}, "TRAINER.SSTEXT.AUGMENT_EPOCH is -1, must be 0 or more"),
]  # fmt: skip


@pytest.mark.parametrize("method, own, said", REFUSED)
def test_a_wrong_value_is_one_line(method, own, said, tmp_path) -> None:
    cls = methods()[method]
    trainer = cls.__new__(cls)
    trainer.has_images = True
    with pytest.raises(UserError, match=said) as told:
        trainer.check_cfg(
            train.setup_cfg(train.parse_arguments(arguments(method, None, tmp_path, tmp_path, split="all", **own)))
        )
    assert "\n" not in str(told.value)


def test_a_kernel_of_too_many_samples_is_refused(tiny_biomedclip, btmri_root, tmp_path) -> None:
    with pytest.raises(UserError, match="32000 samples .8 images.* too many for ProKeR's kernel, 12000 at most"):
        build("ProKeR", tiny_biomedclip, btmri_root, tmp_path, split="all", AUGMENT_EPOCH=4000)


@pytest.mark.parametrize("method", ["ProKeR", "SSText"])
def test_a_class_without_images_is_known_by_its_text(method, tiny_biomedclip, btmri_root, tmp_path) -> None:
    trainer = quick(method, tiny_biomedclip, btmri_root, tmp_path, shots=3)
    whole = trainer.store.images("train")
    kept = whole.labels != 2
    part = type(whole)(whole.features[kept], whole.labels[kept])
    if method == "ProKeR":
        views = trainer.own.AUGMENT_EPOCH
        trainer.prompt_learner.keys, trainer.prompt_learner.values = torch.zeros(9 * views, WIDTH), torch.zeros(9 * views, 4)
    trainer.training_sets = lambda: [part] * max(trainer.own.AUGMENT_EPOCH, 1)
    trainer.set_model_mode("eval")
    trainer.fit()
    if method == "SSText":
        torch.testing.assert_close(trainer.prompt_learner.weight[2], trainer.class_texts[2])
    assert torch.isfinite(trainer.scores(torch.from_numpy(drawn(3, WIDTH)).float())).all()


def test_the_command_trains_tests_and_says_what_was_fixed(btmri_root: Path, tmp_path: Path, capfd) -> None:
    words = ["--root", str(btmri_root), "--output-root", str(tmp_path), "--backbone", "PhantomCLIP", "--seed", "1",
             "--dataset-config-file", str(REPO / "configs/datasets/btmri.yaml")]  # fmt: skip
    for method in RIVALS:
        for shots in ("1", "2"):
            assert train.main([*words, "--task", "few_shot", "--shots", shots, "--trainer", method]) == 0
            (path,) = (tmp_path / f"few_shot/btmri/shots_{shots}").glob(f"{method}_PhantomCLIP/*/seed1/results.json")
            record = json.loads(path.read_text())
            fixed = any("are fixed: with one image per class" in said for said in record["departures"])
            assert fixed == (method == "ProKeR" and shots == "1")
        notes = pack(path.parent, tmp_path / f"packed_{method}", "mit").notes
        assert any("what ProKeR keeps are the features of its training images" in said for said in notes) == (
            method == "ProKeR"
        )
        capfd.readouterr()
        assert train.main([*words, "--task", "base2new", "--trainer", method]) == 2
        told = capfd.readouterr().err.strip().splitlines()[-1]
        assert method in told and "new" in told
