"""A search for settings by Optuna, kept in SQLite: what was tried and what it scored, and what is to be tried next."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dassl.utils import UserError

DIGITS = 4  # of a proposed value: a file that people read


def require_optuna() -> None:
    """
    Raises:
        UserError: Optuna is not installed.
    """
    if find_spec("optuna") is None:
        raise UserError("python -m sweep.tune needs the optuna package, which is not installed: pip install optuna")


@dataclass(frozen=True)
class Score:
    """How settings did on images that they were not trained on.

    Attributes:
        correct, total: images.
        nll: mean of -log p of the true class; infinite where the training came to nothing.
    """

    correct: int
    total: int
    nll: float

    @property
    def value(self) -> float:
        """Images right, and below one image the NLL: the larger is the better, ties in accuracy go to the smaller NLL."""
        return self.correct + 1 / (1 + self.nll)

    @property
    def told(self) -> str:
        """``85.00 % (34 of 40), NLL 0.4123``."""
        return f"{100 * self.correct / self.total:.2f} % ({self.correct} of {self.total}), NLL {self.nll:.4f}"


@dataclass(frozen=True)
class Trial:
    """Settings by key that were tried, and their score; ``number`` counts from 1."""

    number: int
    values: Mapping[str, float]
    score: Score


class Study:
    """The trials of one search, in the order in which they were made.

    A trial is stored when it is done, whole. What is proposed next follows from the seed, the number of trials and what they
    scored, and from nothing else: a study that was interrupted goes on as if it had not been.

    Args:
        path: of the SQLite file, made where it is not there.
        name: of this search in it.
        ranges: key -> least and most value, both above 0.
        start: the values that are tried first; where one lies outside its range, this is widened to hold it.
        seed: 0 or more.

    Raises:
        UserError: the file is no study's, or a value to start from is not above 0.
    """

    def __init__(
        self, path: Path, name: str, ranges: Mapping[str, tuple[float, float]], start: Mapping[str, float], seed: int
    ) -> None:
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        for key, value in start.items():
            if not value > 0:
                raise UserError(f"{key} is {value:g}: what is off cannot be tuned on a log scale; leave out the override")
        self._start, self._seed = dict(start), seed
        self._space = {
            key: optuna.distributions.FloatDistribution(min(low, start[key]), max(high, start[key]), log=True)
            for key, (low, high) in ranges.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._kept = optuna.create_study(
                storage=f"sqlite:///{path.resolve()}", study_name=name, direction="maximize", load_if_exists=True
            )
            self._kept.get_trials(deepcopy=False)
        except (SQLAlchemyError, RuntimeError) as error:  # the latter: a file of another version of Optuna
            said = " ".join(str(error).split())[:160]
            raise UserError(f"{path} cannot be read as a study ({said}): put it away, and the search begins anew") from error

    def trials(self, at_most: int) -> list[Trial]:
        """The first ``at_most`` trials."""
        found = self._kept.get_trials(deepcopy=False)[:at_most]
        return [
            Trial(number, {key: one.params[key] for key in self._space}, Score(**one.user_attrs))
            for number, one in enumerate(found, 1)
        ]

    def propose(self) -> dict[str, float]:
        """The settings to try next: first those to start from, then what TPE makes of the trials so far."""
        import optuna

        done = self._kept.get_trials(deepcopy=False)
        if not done:
            return dict(self._start)
        # a sampler of its own for every trial: Optuna keeps no state of the sampler with a study
        seed = int(np.random.SeedSequence([self._seed, len(done)]).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            beside = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
            beside.add_trials(done)
            asked = beside.ask(self._space).params
        return {key: _rounded(asked[key], self._space[key]) for key in self._space}

    def add(self, values: Mapping[str, float], score: Score) -> None:
        """Keep a trial that is done."""
        import optuna

        facts = {"correct": score.correct, "total": score.total, "nll": score.nll}
        self._kept.add_trial(
            optuna.trial.create_trial(params=dict(values), distributions=self._space, value=score.value, user_attrs=facts)
        )


def best_of(trials: list[Trial]) -> Trial:
    """The trial with the most images right, of these the one of the smallest NLL, of these the first."""
    return max(trials, key=lambda one: (one.score.correct, -one.score.nll, -one.number))


def _rounded(value: float, space: Any) -> float:
    return min(max(float(f"{value:.{DIGITS}g}"), space.low), space.high)
