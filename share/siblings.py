"""The other runs of a run's setting that lie beside it: other seeds, and the test on the new classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.layout import TASK_FOLDERS, place_of
from analysis.results import DamagedRun, Run, read_run
from analysis.stats import ci95, harmonic, mean


@dataclass(frozen=True)
class Siblings:
    """Finished runs of one setting, by seed.

    Attributes:
        own: the run itself.
        seeds: it and those of other seeds.
        new: of base-to-new, the tests on the new classes, of the same seeds; empty elsewhere.
    """

    own: Run
    seeds: tuple[Run, ...]
    new: tuple[Run, ...] = ()

    def figures(self, name: str) -> dict[str, list[float]]:
        """The values of a metric over the seeds, by what was tested; ``HM`` where both halves are there for each seed."""
        tested = "base classes" if self.own.split == "base" else "test images"
        found = {tested: _values(self.seeds, name), "new classes": _values(self.new, name)}
        if name == "accuracy" and self.new and [run.seed for run in self.new] == [run.seed for run in self.seeds]:
            pairs = zip(found[tested], found["new classes"], strict=True)
            found["HM of both"] = [harmonic(base, new) for base, new in pairs]
        return {what: values for what, values in found.items() if values}


def _values(runs: Sequence[Run], name: str) -> list[float]:
    return [value for run in runs if (value := run.metrics.get(name)) is not None]


def siblings_of(folder: Path) -> Siblings:
    """
    Args:
        folder: of a whole run.

    Raises:
        DamagedRun: it is not whole.
    """
    folder = folder.resolve()
    own, place = read_run(folder), place_of(folder)
    if place is None:
        return Siblings(own, (own,))
    seeds = _whole(sorted(folder.parent.glob("seed*")), lambda run: run.cell[:-1] == own.cell[:-1])
    new: list[Run] = []
    if own.split == "base":
        base, tests = TASK_FOLDERS["base2new"]["base"], TASK_FOLDERS["base2new"]["new"]
        start, _, end = folder.as_posix().rpartition(f"/{base}/")
        beside = [Path(start) / tests / Path(end).parent / run.folder.name for run in seeds]
        new = _whole(beside, lambda run: run.series == own.series and run.shots == own.shots)
    return Siblings(own, tuple(sorted(seeds, key=lambda run: run.seed)), tuple(sorted(new, key=lambda run: run.seed)))


def _whole(folders: Sequence[Path], fits: Callable[[Run], bool]) -> list[Run]:
    """The whole runs among folders; what is unfinished is not counted."""
    found = []
    for folder in folders:
        try:
            run = read_run(folder)
        except DamagedRun:
            continue
        found += [run] if fits(run) else []
    return found


def in_words(values: Sequence[float], digits: int = 1) -> str:
    """``71.2``, or of several ``71.2 ± 3.4``: their mean and the half width of its 95 % t-interval."""
    half = ci95(values)
    return f"{mean(values):.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")
