"""Which tables and figures the report shows, and where: the paper's, those of one dataset, all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from analysis.cast import Cast
from analysis.counted import PAIR, apart_notes, counted
from analysis.cross import cross_tables
from analysis.curves import read_curves
from analysis.figure_style import Plot
from analysis.figures import PER_SETTING, most_shots, paper_plots, plots
from analysis.paired import paired_tables
from analysis.published import comparisons
from analysis.render import Table
from analysis.results import Run
from analysis.stats import mean
from analysis.summaries import Scope, by_series, split_of
from analysis.tables import ablation_tables, base2new_table, few_shot_table, modality_tables
from analysis.words import shots_of

DRAWN = 6  # most methods in a figure of one dataset
Found = list[tuple[str, Table]]  # with their metrics


def having(runs: Sequence[Run], metric: str) -> list[Run]:
    """The runs that were measured by the metric."""
    return [run for run in runs if metric in run.metrics]


def paper_tables(runs: Sequence[Run], metrics: Sequence[str]) -> Found:
    """Few-shot and base-to-new: the average over the datasets that count, or the only dataset."""
    found: Found = []
    for metric in metrics:
        for part in (split_of(runs, "all"), [run for run in runs if run.split in PAIR]):
            found += [(metric, table) for table in _protocol(having(part, metric), metric, runs)]
    return found


def dataset_tables(runs: Sequence[Run], dataset: str, metrics: Sequence[str]) -> Found:
    """The same of one dataset alone."""
    return paper_tables([run for run in runs if run.dataset == dataset], metrics)


def _protocol(runs: Sequence[Run], metric: str, everyone: Sequence[Run]) -> list[Table]:
    part = counted(runs) or list(runs)
    names = tuple(sorted({run.dataset for run in part}))
    if not names:
        return []
    what = names[0] if len(names) == 1 else f"average over {len(names)} datasets"
    scope = Scope(metric, names, tuple(sorted({run.seed for run in everyone if not run.source})))
    if part[0].split == "all":
        return [few_shot_table(part, what, scope)]
    tables = []
    for k in sorted({run.shots for run in part}):
        of_k = [run for run in part if run.shots == k]
        table = base2new_table(of_k, f"{what}, {shots_of(k)}", scope, hms=("of-averages",))
        tables.append(replace(table, notes=tuple(dict.fromkeys([*table.notes, *apart_notes(runs)]))))
    return tables


def other_tables(runs: Sequence[Run], metrics: Sequence[str], pairs: Sequence[tuple[str, str]]) -> Found:
    """Tests on other datasets, averages per modality, published averages, ablations, and the tests that were asked for.

    Raises:
        AmbiguousMethod: a pair names no or several series.
    """
    found: Found = []
    own = [run for run in runs if not run.source]
    for metric in metrics:
        found += [(metric, table) for table in cross_tables(having(runs, metric), metric)]
        for part in (split_of(own, "all"), [run for run in own if run.split in PAIR]):
            part = having(part, metric)
            if len({run.modality for run in part}) > 1:
                found += [(metric, table) for table in modality_tables(part, _scope(part, metric))]
        found += [(metric, table) for table in comparisons(having(own, metric), metric)]
    found += [("accuracy", table) for table in _ablations(own)]
    for first, second in pairs:
        found += [("accuracy", table) for table in paired_tables(runs, first, second)]
    return found


def _ablations(runs: Sequence[Run]) -> list[Table]:
    """The accuracy of methods that were run with more than one setting, on the datasets that they were trained on."""
    settings: dict[str, set[tuple[str, str]]] = {}
    for method, backbone, setting in by_series(runs):
        settings.setdefault(method, set()).add((backbone, setting))
    several = [m for m, own in settings.items() if len(own) > len({backbone for backbone, _ in own})]
    return [table for method in several for table in ablation_tables(runs, method, _scope(runs, "accuracy"))]


def _scope(runs: Sequence[Run], metric: str) -> Scope:
    return Scope(metric, tuple(sorted({run.dataset for run in runs})), tuple(sorted({run.seed for run in runs})))


# -- figures ----------------------------------------------------------------------------------------------


def _protocols(runs: Sequence[Run]) -> Iterator[list[Run]]:
    few, pairs = split_of(runs, "all"), [run for run in runs if run.split in PAIR]
    if few:
        yield few
    for k in sorted({run.shots for run in pairs}):
        yield [run for run in pairs if run.shots == k]


def first_plots(runs: Sequence[Run], cast: Cast) -> list[Plot]:
    """The paper's figures of accuracy: per protocol the average with every method named."""
    return [next(paper_plots(part, "accuracy", cast)) for part in _protocols(runs)]


def more_plots(runs: Sequence[Run], cast: Cast) -> Iterator[Plot]:
    """A panel per dataset, and comparisons per modality."""
    for part in _protocols(runs):
        yield from list(paper_plots(part, "accuracy", cast))[1:]
    yield from plots(runs, "accuracy", ("bars", "radar"), cast.highlight)


def dataset_plots(runs: Sequence[Run], dataset: str, cast: Cast, several: bool) -> Iterator[Plot]:
    """Figures of one dataset: its own numbers where there are several datasets; of at most six methods confusion, calibration
    and training (of those that train), those of the highlighted one and of the best.
    """
    own = [run for run in runs if run.dataset == dataset]
    if several:
        for part in _protocols(own):
            yield next(paper_plots(part, "accuracy", cast))
    split = next((split for split in ("all", "base", "new") if split_of(own, split)), "")
    at = [run for run in split_of(own, split) if run.shots == most_shots(split_of(own, split))] if split else []
    groups = by_series(at)
    known = {s: [v for run in of if (v := run.metrics["accuracy"]) is not None] for s, of in groups.items()}
    order = sorted(groups, key=lambda s: (s[0] != cast.highlight, -mean(known[s]) if known[s] else 0, s))
    if not at:
        return
    what = shots_of(at[0].shots) if split == "all" else f"{split} classes, {shots_of(at[0].shots)}"
    for kind, draw in PER_SETTING.items():
        # of those that train, as a figure of losses would else name methods that it cannot draw
        fit = (s for s in order if kind != "training" or any(read_curves(run.folder).epochs for run in groups[s]))
        drawn = list(islice(fit, DRAWN))  # no more logs are read than it takes
        told = f", {len(drawn)} of {len(groups)} methods" if len(drawn) < len(groups) else ""
        part = [run for run in at if run.series in drawn]
        name = f"{at[0].dataset_key}_{split}_{at[0].shots}shots"
        plot = draw(part, cast, f"{dataset}, {what}{told}", name) if part else None
        if plot:
            yield plot
