"""What sweep.tune tries next, how trials are ranked, and which images they see: without a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from dassl.utils import UserError
from datasets.splits import tuning_fold
from sweep.study import Score, Study, Trial, best_of

needs_optuna = pytest.mark.skipif(find_spec("optuna") is None, reason="optuna is not installed: it is in requirements-dev.txt")
KEYS = ("TRAINER.BIOMEDDPT.L1_LAMBDA", "TRAINER.BIOMEDDPT.KL_LAMBDA")


def by_values(cfg: object, values: Mapping[str, float], folds: object, place: object) -> Score:
    """In place of a training: a score that follows from the settings."""
    l1, kl = (values[key] for key in KEYS)
    return Score(round(10 - abs(math.log(l1 / 40))), 10, abs(math.log(kl)))


RANGES = dict(zip(KEYS, ((1.0, 100.0), (0.05, 25.0)), strict=True))
START = dict(zip(KEYS, (12.5, 0.25), strict=True))


def tried(path: Path, number: int, seed: int = 1, reopened: bool = False) -> list[Trial]:
    study = Study(path, "s", RANGES, START, seed)
    for _ in range(number):
        study = Study(path, "s", RANGES, START, seed) if reopened else study
        values = study.propose()
        study.add(values, by_values(None, values, (1,), path))
    return study.trials(99)


@needs_optuna
def test_a_study_that_is_opened_anew_for_every_trial_proposes_the_same(tmp_path: Path) -> None:
    """Beyond the ten random trials with which TPE begins."""
    once, anew, other = (tried(tmp_path / name, 14, seed, again) for name, seed, again in
                         (("a.db", 1, False), ("b.db", 1, True), ("c.db", 2, False)))  # fmt: skip
    assert once == anew and len(once) == 14 and once[0].values == START
    assert once[1:] != other[1:] and len({tuple(one.values.values()) for one in once}) == 14
    for one in once:
        assert all(RANGES[key][0] <= value <= RANGES[key][1] for key, value in one.values.items())
        assert all(float(f"{value:.4g}") == value for value in one.values.values())


@needs_optuna
def test_what_is_proposed_follows_from_the_scores(tmp_path: Path) -> None:
    """After the ten random trials: two searches that differ in the scores alone part ways."""
    studies = [Study(tmp_path / f"{name}.db", "s", RANGES, START, 1) for name in "ab"]
    for number in range(10):
        values, others = (study.propose() for study in studies)
        assert values == others
        for study, right in zip(studies, (number, 10 - number), strict=True):
            study.add(values, Score(right, 11, 0.5))
    assert studies[0].propose() != studies[1].propose()


def test_accuracy_comes_first_then_the_likelihood_then_the_order() -> None:
    scores = [Score(5, 9, 0.1), Score(6, 9, 4.0), Score(6, 9, 3.0), Score(6, 9, 3.0)]
    trials = [Trial(number, {}, score) for number, score in enumerate(scores, 1)]
    assert best_of(trials).number == 3
    assert trials[0].score.value < trials[1].score.value < trials[2].score.value
    assert Score(0, 9, math.inf).value == 0 and Score(5, 9, 0.0).value <= Score(6, 9, 1e9).value
    assert Score(3, 4, 0.5).told == "75.00 % (3 of 4), NLL 0.5000"


@needs_optuna
def test_a_start_outside_the_range_widens_it_and_one_of_zero_is_refused(tmp_path: Path) -> None:
    study = Study(tmp_path / "a.db", "s", RANGES, START | {KEYS[0]: 130.0}, 1)
    study.add(study.propose(), Score(1, 2, 0.5))
    assert study.trials(1)[0].values[KEYS[0]] == 130
    with pytest.raises(UserError, match="L1_LAMBDA is 0: what is off"):
        Study(tmp_path / "a.db", "t", RANGES, START | {KEYS[0]: 0.0}, 1)


# -- the folds ----------------------------------------------------------------------------------------------


def test_the_two_folds_of_a_shot_change_places_and_hold_no_test_image() -> None:
    split = {"train": [("a", 0, "x"), ("b", 1, "y")], "val": [("c", 0, "x"), ("d", 1, "y")], "test": [("e", 0, "x")]}
    first, second = tuning_fold(split, 1, "here"), tuning_fold(split, 2, "here")
    assert (first["train"], first["val"], first["test"]) == (split["train"], [], split["val"])
    assert (second["train"], second["val"], second["test"]) == (split["val"], [], split["train"])
    with pytest.raises(UserError, match="here: no validation images of y"):
        tuning_fold(split | {"val": split["val"][:1]}, 2, "here")
    with pytest.raises(UserError, match="no validation images, on which settings are chosen"):
        tuning_fold(split | {"val": []}, 1, "here")
