"""The summary on top of the report: what was run, the best of each protocol, what is missing, warnings."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from analysis.cast import Cast
from analysis.render import Cell
from analysis.report_coverage import BROKEN, DONE, MISSING, Coverage
from analysis.report_html import method_html
from analysis.report_summary import Standing, gaps, standings, warnings_of
from analysis.results import Run
from analysis.words import count_of, listed

GAPS, WARNINGS = 4, 4  # lines that are shown without a press
KINDS = {"leak": "Leak or other data", "warning": "Warning", "departure": "Departure"}


def subtitle(runs: Sequence[Run]) -> str:
    """What was run, on what, in a line of text."""
    datasets, seeds = sorted({run.target or run.dataset for run in runs}), sorted({run.seed for run in runs})
    parts = [
        count_of(len(runs), "finished run"),
        count_of(len({run.method for run in runs}), "method"),
        datasets[0] if len(datasets) == 1 else f"{len(datasets)} datasets ({listed(datasets, 11)})",
        listed(sorted({run.backbone for run in runs})),
        f"{'seed' if len(seeds) == 1 else 'seeds'} {listed(map(str, seeds), 8)}",
    ]
    return " · ".join(parts) if runs else "no finished run"


def banner(runs: Sequence[Run]) -> str:
    """Generated data are always told."""
    kinds = {run.rehearsal for run in runs}
    if True not in kinds:
        return ""
    what = "A rehearsal" if kinds == {True} else "Some runs are a rehearsal"
    return f'<p class="banner">{what} on synthetic images: the numbers say nothing about patients.</p>'


def summary_html(runs: Sequence[Run], grid: Coverage, cast: Cast) -> str:
    """Cards: one per protocol, one on what is there, one on warnings."""
    cards = [_standing(standing, cast) for standing in standings(runs)]
    return f'<div class="cards">{"".join(cards)}{_coverage(grid)}{_warnings(runs)}</div>'


def _number(cell: Cell) -> str:
    half = "" if cell.half is None else f'<span class="ci">± {cell.half:.{cell.digits}f}</span>'
    return f"<b>{cell.number}</b> {half}"


def _standing(standing: Standing, cast: Cast) -> str:
    head = f'<article class="card"><h3>{escape(standing.title)}</h3>'
    what = f'<p class="note">{escape(standing.what)}</p>'
    if not standing.ranked:
        lacking = f"no best: each of {standing.others} rows lacks runs, or they are not on the same data"
        return f'{head}<p class="big">–</p>{what}<p>{lacking}</p></article>'
    series, cell = standing.ranked[0]
    first = f'<p class="big">{_number(cell)}</p><p class="who">{method_html(series, cast)}</p>{what}'
    lines = []
    if len(standing.ranked) > 1:
        next_series, next_cell = standing.ranked[1]
        lines.append(f"next: {method_html(next_series, cast)} {_number(next_cell)}")
        lines.append(f"difference: {escape(standing.test)}")
    place = standing.place(cast.highlight)
    if place and place[0] > 2:
        lines.append(f"{escape(cast.highlight)}: {_number(place[1])}, place {place[0]} of {len(standing.ranked)}")
    if standing.others:
        lines.append(f"{count_of(standing.others, 'row')} lacking runs not ranked")
    return first_and(head + first, lines)


def first_and(head: str, lines: Sequence[str]) -> str:
    return head + "".join(f"<p>{line}</p>" for line in lines) + "</article>"


def _coverage(grid: Coverage) -> str:
    counts = {state: grid.count(state) for state in (DONE, BROKEN, MISSING)}
    whole = sum(counts.values()) or 1
    share = "".join(f'<span class="{state}" style="flex-grow:{n}"></span>' for state, n in counts.items() if n)
    head = (
        f'<article class="card"><h3>Runs</h3><p class="big"><b>{counts[DONE]}</b> <span class="ci">of {whole} done</span></p>'
        f'<p class="share" aria-hidden="true">{share}</p>'
    )
    told = [f"{counts[MISSING]} missing, {counts[BROKEN]} unfinished or damaged"] if counts[DONE] < whole else ["none missing"]
    lines = [escape(line) for line in gaps(grid)]
    return head + "".join(f"<p>{line}</p>" for line in told) + _folded(lines, GAPS) + "</article>"


def _warnings(runs: Sequence[Run]) -> str:
    found = warnings_of(runs)
    if not found:
        return '<article class="card"><h3>Warnings</h3><p>none</p></article>'
    lines = [f'<span class="kind {kind}">{KINDS[kind]}</span> {escape(text)}' for kind, text in found]
    head = count_of(len(found), "warning or departure", "warnings and departures")
    return f'<article class="card"><h3>{head}</h3>{_folded(lines, WARNINGS)}</article>'


def _folded(lines: Sequence[str], most: int) -> str:
    """A list, whose end is folded where it is long."""
    shown, rest = lines[:most], lines[most:]
    more = f"<details><summary>{len(rest)} more</summary><ul>{_items(rest)}</ul></details>" if rest else ""
    return (f"<ul>{_items(shown)}</ul>" if shown else "") + more


def _items(lines: Sequence[str]) -> str:
    return "".join(f"<li>{line}</li>" for line in lines)
