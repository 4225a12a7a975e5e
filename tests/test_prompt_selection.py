"""Selection of LLM prompts: each choice re-computed by naive loops over feature vectors, and what a run makes of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import train
from dassl.utils import UserError
from tests.helpers import arguments, build
from trainers import prompt_selection as ps
from trainers.biomed_dpt import prompt_ensemble

SCALE = 9.0


def problem(shots: int, seed: int, classes: int = 3, prompts: int = 5, width: int = 6):
    """Images (N, D) that lean to their class's direction, labels (N,), prompts (C, K, D) of different worth."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=draw, dtype=torch.float64)
    labels = torch.arange(classes).repeat(shots)
    images = centres[labels] + 0.9 * torch.randn(len(labels), width, generator=draw, dtype=torch.float64)
    noise = torch.rand(classes, prompts, 1, generator=draw, dtype=torch.float64) * 3
    return images, labels, centres[:, None] + noise * torch.randn(classes, prompts, width, generator=draw, dtype=torch.float64)


class Naive:
    """The same by hand: lists of chosen prompts per class, one image at a time."""

    def __init__(self, images, labels, prompts) -> None:
        self.images, self.labels = [v / v.norm() for v in images], labels.tolist()
        self.prompts = [[f / f.norm() for f in of_class] for of_class in prompts]
        self.all = [list(range(len(of_class))) for of_class in prompts]

    def loss(self, chosen: list[list[int]], rows: list[int]) -> float:
        """Mean cross-entropy over the images ``rows`` with the ensembles of ``chosen``."""
        total = 0.0
        for n in rows:
            logits = []
            for c, mine in enumerate(chosen):
                mean = sum(self.prompts[c][k] for k in mine) / len(mine)
                logits.append(SCALE * float(self.images[n] @ (mean / mean.norm())))
            total += math.log(sum(math.exp(z) for z in logits)) - logits[self.labels[n]]
        return total / len(rows)

    def ranking(self, c: int, rows: list[int]) -> list[int]:
        alone = [self.loss([[k] if i == c else ks for i, ks in enumerate(self.all)], rows) for k in self.all[c]]
        return sorted(self.all[c], key=lambda k: alone[k])

    def path(self, rows: list[int]) -> list[list[list[int]]]:
        steps = [[[self.ranking(c, rows)[0]] for c in range(len(self.all))]]
        while True:
            now = steps[-1]
            options = [
                [ks + [k] if i == c else ks for i, ks in enumerate(now)]
                for c in range(len(self.all))
                for k in self.all[c]
                if k not in now[c]
            ]
            best = min(options, key=lambda option: self.loss(option, rows), default=None)
            if best is None or self.loss(best, rows) > self.loss(now, rows) - 1e-6:
                return steps
            steps.append(best)

    def greedy(self) -> list[list[int]]:
        rows, path = range(len(self.labels)), self.path(list(range(len(self.labels))))
        shots = [[n for n in rows if self.labels[n] == c] for c in range(len(self.all))]
        if len(shots[0]) == 1:
            return path[-1]
        held_out = [0.0] * len(path)
        for j in range(len(shots[0])):
            out = [mine[j] for mine in shots]
            grown = self.path([n for n in rows if n not in out])
            for length in range(len(path)):
                held_out[length] += self.loss(grown[min(length, len(grown) - 1)], out) * len(out)
        return path[held_out.index(min(held_out))]


def as_lists(weights: torch.Tensor) -> list[list[int]]:
    return [[k for k, w in enumerate(row) if w > 0] for row in weights.tolist()]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("top", [1, 2, 5])
def test_topk_keeps_the_prompts_that_classify_best_alone(seed: int, top: int) -> None:
    images, labels, prompts = problem(3, seed)
    naive = Naive(images, labels, prompts)
    got = ps.select("topk", ps.cosines(images, labels, prompts, SCALE), top=top, pull=0.1)
    want = [sorted(naive.ranking(c, list(range(len(labels))))[:top]) for c in range(len(prompts))]
    assert as_lists(got.weights) == want
    torch.testing.assert_close(got.weights[got.weights > 0], torch.full((3 * top,), 1 / top, dtype=torch.float64))
    assert got.train_ce[1] == pytest.approx(naive.loss(want, list(range(len(labels)))), abs=1e-9)
    assert got.train_ce[0] == pytest.approx(naive.loss(naive.all, list(range(len(labels)))), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shots", [1, 2, 4])
def test_greedy_grows_while_it_helps_and_as_far_as_left_out_shots_allow(shots: int, seed: int) -> None:
    images, labels, prompts = problem(shots, seed)
    got = ps.select("greedy", ps.cosines(images, labels, prompts, SCALE), top=1, pull=0.1)
    assert as_lists(got.weights) == [sorted(mine) for mine in Naive(images, labels, prompts).greedy()]


def test_the_left_out_shots_decide_in_some_of_these_cases() -> None:
    shorter = 0
    for seed in range(6):
        given = ps.cosines(*problem(4, seed), SCALE)
        chosen, path = ps.greedy_mask(given), ps.greedy_path(given)
        assert any(torch.equal(chosen, mask) for mask in path)
        shorter += not torch.equal(chosen, path[-1])
    assert shorter


def test_more_shots_than_folds_are_left_out_together() -> None:
    labels = torch.tensor([0, 1] * (ps.MAX_FOLDS + 1))
    folds = ps.shot_folds(labels)
    assert folds.tolist() == [j % ps.MAX_FOLDS for j in range(ps.MAX_FOLDS + 1) for _ in (0, 1)]


@pytest.mark.parametrize("pull", [0.02, 0.5])
def test_learned_weights_are_a_minimum_of_the_objective(pull: float) -> None:
    images, labels, prompts = problem(3, 1)
    unit_images, unit_prompts = (x / x.norm(dim=-1, keepdim=True) for x in (images, prompts))

    def objective(free: torch.Tensor) -> float:
        w = free.exp() / free.exp().sum(dim=1, keepdim=True)
        f = (w[..., None] * unit_prompts).sum(dim=1)
        z = SCALE * unit_images @ (f / f.norm(dim=1, keepdim=True)).T
        ce = sum(math.log(sum(math.exp(x) for x in row)) - float(row[y]) for row, y in zip(z, labels, strict=True)) / len(z)
        kl = sum(float(x) * math.log(float(x) * w.shape[1]) for row in w for x in row) / len(w)
        return ce + pull * kl

    got = ps.select("learned", ps.cosines(images, labels, prompts, SCALE), top=1, pull=pull).weights
    torch.testing.assert_close(got.sum(dim=1), torch.ones(3, dtype=torch.float64))
    here, draw = objective(got.log()), torch.Generator().manual_seed(0)
    assert here < objective(torch.zeros(3, 5, dtype=torch.float64)) - 1e-3
    for _ in range(50):
        step = 1e-2 * torch.randn(3, 5, generator=draw, dtype=torch.float64)
        assert objective(got.log() + step) > here - 1e-7


def test_a_strong_pull_gives_equal_parts_which_are_the_published_ensemble() -> None:
    images, labels, prompts = problem(2, 2)
    given = ps.cosines(images, labels, prompts, SCALE)
    weights = ps.select("learned", given, top=1, pull=1e6).weights
    torch.testing.assert_close(weights, torch.full((3, 5), 0.2, dtype=torch.float64), atol=1e-4, rtol=0)
    even = ps.select("all", given, top=1, pull=0.1).weights
    torch.testing.assert_close(ps.weighted_ensemble(prompts.float(), even), prompt_ensemble(prompts.float()))


SELECTING = {
    "topk": {"PROMPT_SELECTION": "topk", "PROMPT_TOPK": 3},
    "greedy": {"PROMPT_SELECTION": "greedy"},
    "learned": {"PROMPT_SELECTION": "learned", "PROMPT_PULL": 0.05},
}


@pytest.mark.parametrize("how", SELECTING)
def test_only_training_images_are_read_and_no_random_number_is_drawn(
    how, tiny_biomedclip, btmri_root, tmp_path, monkeypatch
) -> None:
    import dassl.data.data_manager as data

    monkeypatch.setenv("BIOMED_DPT_CACHE", str(tmp_path / "cache"))  # nothing is encoded yet
    trainer = build("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path, split="base", shots=3, **SELECTING[how])
    read, before = [], torch.get_rng_state()
    real = data.read_image
    monkeypatch.setattr(data, "read_image", lambda path, *how: read.append(path) or real(path, *how))
    published = trainer.fixed_features
    trainer.select_prompts()
    assert torch.equal(torch.get_rng_state(), before)
    assert sorted(read) == sorted(item.impath for item in trainer.dm.dataset.train_x)
    weights = trainer.selection.weights
    f = trainer.encoded_prompts / trainer.encoded_prompts.norm(dim=2, keepdim=True)
    want = torch.stack([sum(float(w) * x for w, x in zip(*pair, strict=True)) for pair in zip(weights, f, strict=True)])
    torch.testing.assert_close(trainer.fixed_features, want / want.norm(dim=1, keepdim=True), rtol=1e-5, atol=1e-5)
    assert not torch.equal(trainer.fixed_features, published)
    first = weights.clone()
    trainer.select_prompts()
    assert torch.equal(trainer.selection.weights, first)


def run(words: list[str], folder: Path) -> dict:
    assert train.main(words) == 0
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("how", SELECTING)
def test_folder_and_results_tell_what_was_selected(how, tiny_biomedclip, btmri_root, tmp_path) -> None:
    words = arguments("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path, split="base", epochs=1, **SELECTING[how])
    record = run(words, tmp_path)
    assert f"_sel{how}" in record["variant"]
    assert f"PROMPT_SELECTION {how} (published: all)" in record["departures"]
    told = record["prompts"]
    assert told["file"] == "btmri.json" and told["selection"]["how"] == how
    per_class = told["selection"]["weights" if how == "learned" else "indices"]
    assert list(per_class) == record["classnames"]
    if how == "topk":
        assert all(len(set(indices)) == 3 and max(indices) < 50 for indices in per_class.values())
    if how == "learned":
        assert all(len(row) == 50 and sum(row) == pytest.approx(1, abs=1e-4) for row in per_class.values())
    assert told["selection"]["train_ce_selected"] != told["selection"]["train_ce_all"]


def test_the_published_way_selects_nothing(tiny_biomedclip, btmri_root, tmp_path) -> None:
    record = run(arguments("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path, split="base", epochs=1), tmp_path)
    assert record["prompts"] == {"file": "btmri.json", "selection": None} and "sel" not in record["variant"]


def test_an_interrupted_run_that_selects_ends_as_a_whole_one(tiny_biomedclip, btmri_root, tmp_path, monkeypatch) -> None:
    from trainers.biomed_dpt import BiomedDPT

    def call(name: str) -> list[str]:
        return arguments("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path / name, split="base", epochs=3,
                         PROMPT_SELECTION="greedy")  # fmt: skip

    run(call("whole"), tmp_path / "whole")
    epoch = BiomedDPT.run_epoch

    def broken(self) -> None:
        if self.epoch == 2:
            raise KeyboardInterrupt
        epoch(self)

    with monkeypatch.context() as patch:
        patch.setattr(BiomedDPT, "run_epoch", broken)
        assert train.main(call("broken")) == 130
    run(call("broken"), tmp_path / "broken")
    states = [
        torch.load(tmp_path / name / "prompt_learner" / "model.pth.tar-3", weights_only=True)["state_dict"]["ctx"]
        for name in ("whole", "broken")
    ]
    assert torch.equal(*states)


@pytest.mark.parametrize(
    "own, what",
    [
        ({"PROMPT_SELECTION": "gredy"}, 'Did you mean "greedy"'),
        ({"PROMPT_TOPK": 3}, "read only with PROMPT_SELECTION topk"),
        ({"PROMPT_SELECTION": "topk", "PROMPT_PULL": 1.0}, "read only with PROMPT_SELECTION learned"),
        ({"PROMPT_SELECTION": "topk", "PROMPT_TOPK": 51}, "must be 1 to N_PROMPTS"),
        ({"PROMPT_SELECTION": "learned", "PROMPT_PULL": -1.0}, "must be 0 or more"),
    ],
)
def test_a_setting_that_would_do_nothing_is_an_error(own, what, tiny_biomedclip, btmri_root, tmp_path) -> None:
    with pytest.raises(UserError, match=what):
        build("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path, split="base", **own)
