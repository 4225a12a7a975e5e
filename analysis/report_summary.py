"""What the report says first: the best method of each protocol, tested against the next; what is missing; warnings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.cast import averaged, chance_of
from analysis.counted import PAIR, counted
from analysis.paired import image_accuracies
from analysis.render import Cell, on_the_same_data
from analysis.report_coverage import BROKEN, MISSING, Coverage
from analysis.results import DamagedRun, Run
from analysis.stats import mean, paired_bootstrap, wilcoxon
from analysis.summaries import Scope, Series, average_cell, by_series, hm_cell, split_of
from analysis.tables import unequal_data
from analysis.words import count_of, listed, shots_of

METRIC = "accuracy"
LEAKS = ("training and test", "under two labels", "more than one part", "NOT COMPARABLE")  # in warnings that come first


@dataclass(frozen=True)
class Standing:
    """Who is best in one protocol.

    Attributes:
        title: protocol and shots.
        what: the number, on which data, and what guessing gives.
        ranked: series that lack no run, on the same data, best first, with their numbers.
        others: how many series lack runs.
        test: the best against the next, in words; "" where there is no next.
    """

    title: str
    what: str
    ranked: tuple[tuple[Series, Cell], ...]
    others: int
    test: str = ""

    def place(self, method: str) -> tuple[int, Cell] | None:
        """The best place (from 1) of a method, and its number."""
        return next(((n, cell) for n, (series, cell) in enumerate(self.ranked, 1) if series[0] == method), None)


def standings(runs: Sequence[Run]) -> list[Standing]:
    """One per protocol: few-shot at the most shots, base-to-new at each number of shots."""
    few, pairs, found = split_of(runs, "all"), [run for run in runs if run.split in PAIR], []
    if few:
        most = max((run.shots for run in few), key=lambda k: float("inf") if k < 0 else k)
        found.append(_few_shot([run for run in few if run.shots == most]))
    for k in sorted({run.shots for run in pairs}):
        found.append(_base_to_new([run for run in pairs if run.shots == k]))
    return found


def _scope(runs: Sequence[Run]) -> tuple[str, Scope]:
    names = tuple(sorted({run.dataset for run in counted(runs) or runs}))
    return averaged(Scope(METRIC, names, tuple(sorted({run.seed for run in runs}))), runs)


def _few_shot(runs: Sequence[Run]) -> Standing:
    what, scope = _scope(runs)
    chance = chance_of(runs, scope)
    told = f"accuracy in %, {what}" + (f"; chance {chance:.1f}" if chance is not None else "")
    standing = _ranked(runs, f"Few-shot, {shots_of(runs[0].shots)}", told, lambda own: average_cell(own, runs, scope))
    return replace(standing, test=_against_next(standing, runs, scope))


def _base_to_new(runs: Sequence[Run]) -> Standing:
    what, scope = _scope(runs)
    told = f"harmonic mean of base and new accuracy in %, {what}"
    title = f"Base-to-new, {shots_of(runs[0].shots)}"
    standing = _ranked(runs, title, told, lambda own: hm_cell(own, runs, scope, "of-averages"))
    return replace(standing, test=_against_next(standing, runs, scope))


def _ranked(runs: Sequence[Run], title: str, what: str, cell_of: Callable[[Sequence[Run]], Cell]) -> Standing:
    cells = {series: cell_of(own) for series, own in by_series(runs).items()}
    whole = {series: cell for series, cell in cells.items() if cell.value is not None and not cell.note}
    alike = on_the_same_data(whole)
    ranked = sorted(alike.items(), key=lambda pair: (-(pair[1].value or 0), pair[0]))
    return Standing(title, what, tuple(ranked), len(cells) - len(alike))


# -- the test ---------------------------------------------------------------------------------------------


def _against_next(standing: Standing, runs: Sequence[Run], scope: Scope) -> str:
    """The best against the next one: by images on one dataset, by datasets on several."""
    if len(standing.ranked) < 2:
        return ""
    sides = [[run for run in runs if run.series == series] for series, _ in standing.ranked[:2]]
    several = len(scope.datasets) > 1
    said = _by_datasets(sides, runs, scope) if several else _by_images(sides, scope.datasets[0])
    return f"{said}; picked as the best two of {len(standing.ranked)}, so p is too small"


def _by_datasets(sides: Sequence[Sequence[Run]], runs: Sequence[Run], scope: Scope) -> str:
    pairs = []
    for name in scope.datasets:
        single = replace(scope, datasets=(name,))
        everyone = [run for run in runs if run.dataset == name]
        part = [[run for run in side if run.dataset == name] for side in sides]
        if runs[0].split == "all":
            pairs.append([average_cell(own, everyone, single).value for own in part])
        else:
            pairs.append([hm_cell(own, everyone, single, "of-averages").value for own in part])
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    p = wilcoxon([a for a, _ in known], [b for _, b in known]) if known else None
    if p is None:
        return "no test: fewer than two datasets"
    better = sum(a > b for a, b in known)
    difference = mean([a - b for a, b in known])
    # the row above is the HM of averages, this the average of HMs: the two differ
    of = "on average" if runs[0].split == "all" else "on average of the datasets' own harmonic means"
    return f"{difference:+.2f} {of}, better on {better} of {len(known)} datasets, p = {p:.3g} (Wilcoxon over datasets)"


def _by_images(sides: Sequence[Sequence[Run]], dataset: str) -> str:
    """Few-shot by all images; base-to-new by those of the new classes, or of the base classes where these are one class."""
    words = {"all": "", "new": "new classes: ", "base": "base classes: "}
    for split, said in words.items():
        own = [[run for run in split_of(side, split) if run.dataset == dataset and run.classes != 1] for side in sides]
        seeds = set.intersection(*({run.seed for run in side} for side in own))
        if not seeds:
            continue
        try:
            images = [image_accuracies([run for run in side if run.seed in seeds]) for side in own]
        except DamagedRun as error:
            return f"no test: {error}"
        if images[0].keys() != images[1].keys():
            return "no test: the two were not tested on the same images"
        found = paired_bootstrap(np.array([images[0][key] - images[1][key] for key in images[0]]))
        interval = f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
        return f"{said}{interval}, p = {found.p:.3g} (paired bootstrap over {count_of(len(images[0]), 'image')})"
    return "no test: no seed that both have"


# -- what is missing, and warnings ------------------------------------------------------------------------


def gaps(grid: Coverage) -> list[str]:
    """What is missing or broken, a line per row of the grid, those that lack most first."""
    lacking: dict[str, list[tuple[str, str]]] = {}
    for (row, (dataset, split, _)), marks in grid.marks.items():
        lost = [mark for mark in marks if mark.state in (MISSING, BROKEN)]
        lacking.setdefault(grid.label(row), []).extend([(dataset, split)] * len(lost))
    lines = []
    for label, places in sorted(lacking.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        if places:
            lines.append(f"{label}: {count_of(len(places), 'run')} on {listed(dict.fromkeys(d for d, _ in places), 4)}")
    return lines


def warnings_of(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Kind ("leak", "warning", "departure") and text, each once with how many runs say it; leaks first."""
    said: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        for text in run.warnings:
            kind = "leak" if any(word in text for word in LEAKS) else "warning"
            said.setdefault((kind, f"{run.dataset}: {text}"), []).append(run)
        for text in run.departures:
            said.setdefault(("departure", f"not the published setting: {text}"), []).append(run)
    found = [("leak", text) for text in unequal_data(runs)]
    for (kind, text), own in sorted(said.items(), key=lambda pair: ("leak", "warning", "departure").index(pair[0][0])):
        methods = listed(sorted({run.method for run in own}), 4)
        found.append((kind, f"{text} ({count_of(len(own), 'run')}: {methods})"))
    return found
