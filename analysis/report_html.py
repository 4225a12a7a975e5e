"""Parts of the report as HTML text. Whatever comes from a run goes through :func:`html.escape` here."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from analysis.figure_style import Plot, svg
from analysis.metrics import METRICS
from analysis.render import Cell, Table
from analysis.report_coverage import BROKEN, DONE, MISSING, Coverage, Mark
from analysis.results import Defect, Run

SIGNS = {DONE: "✓", BROKEN: "✗", MISSING: "–"}
RUN_COLUMNS = ("method", "backbone", "setting", "dataset", "split", "shots", "seed")
SHOWN_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "cohen_kappa", "ece")
Numbers = Mapping[Path, int]  # a run's folder -> its number in the drill-down data


def heads(words: Iterable[str], numbers: Iterable[str]) -> str:
    """Column headings that sort when pressed, of columns of words and of numbers."""
    kinds = [("", name) for name in words] + [(' class="n"', name) for name in numbers]
    return "".join(
        f'<th scope="col" aria-sort="none"{kind}><button type="button">{escape(name)}</button></th>' for kind, name in kinds
    )


def value_cell(value: float | None, text: str, best: bool = False) -> str:
    """A number that sorts by all its digits."""
    sort = "" if value is None else f"{value!r}"
    inner = f"<b>{escape(text)}</b>" if best else escape(text)
    return f'<td class="n{" gap" if value is None else ""}" data-v="{sort}">{inner}</td>'


def table_html(table: Table, metric: str) -> str:
    """A table of results: sortable, with its notes."""
    best = table.best_cells()
    lines = []
    for row, (names, cells) in enumerate(table.rows):
        keys = "".join(f'<th scope="row">{escape(name)}</th>' for name in names)
        values = "".join(value_cell(cell.value, _text(cell), (row, column) in best) for column, cell in enumerate(cells))
        lines.append(f"<tr>{keys}{values}</tr>")
    notes = "".join(f"<p class=note>{escape(note)}</p>" for note in table.notes)
    return (
        f'<figure class="table" data-metric="{escape(metric)}"><figcaption>{escape(table.title)}</figcaption><div class="wide">'
        f'<table class="sortable"><thead><tr>{heads(table.keys, table.columns)}</tr></thead><tbody>{"".join(lines)}'
        f"</tbody></table></div>{notes}</figure>"
    )


def _text(cell: Cell) -> str:
    return cell.number + cell.rest if cell.value is not None else cell.empty + cell.rest


def coverage_html(grid: Coverage, numbers: Numbers) -> str:
    """A mark per run; those that can be looked at are links into the drill-down."""
    head = "".join(
        f'<th scope="col">{escape(dataset)}<br>{escape(split) if split != "all" else "few-shot"}, {shots}</th>'
        for dataset, split, shots in grid.columns
    )
    lines = []
    for row in grid.rows:
        cells = (grid.marks.get((row, column)) for column in grid.columns)
        marks = "".join(f"<td>{''.join(_mark(m, numbers) for m in own)}</td>" if own else "<td></td>" for own in cells)
        names = "".join(f'<th scope="row">{escape(name)}</th>' for name in row)
        lines.append(f"<tr>{names}{marks}</tr>")
    return (
        '<div class="wide"><table class="coverage"><thead><tr><th>method</th><th>backbone</th><th>variant</th>'
        f"{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _mark(mark: Mark, numbers: Numbers) -> str:
    told = escape(f"seed {mark.seed}: {mark.state}{': ' + mark.why if mark.why else ''}")
    number = numbers.get(mark.folder) if mark.folder else None
    sign = SIGNS[mark.state]
    if number is None:
        return f'<span class="mark {mark.state}" title="{told}" aria-label="{told}">{sign}</span>'
    return f'<a class="mark {mark.state}" href="#run-{number}" title="{told}" aria-label="{told}">{sign}</a>'


def defects_html(defects: Sequence[Defect], numbers: Numbers) -> str:
    """Runs that count as missing, with the reason."""
    if not defects:
        return ""
    links = ((f"#run-{numbers[defect.folder]}", escape(str(defect.folder)), escape(defect.why)) for defect in defects)
    items = "".join(f'<li><a href="{link}"><code>{folder}</code></a>: {why}</li>' for link, folder, why in links)
    return f"<details open><summary>{len(defects)} unfinished, damaged or twice</summary><ul>{items}</ul></details>"


def runs_html(runs: Sequence[Run], numbers: Numbers) -> str:
    """One line per finished run."""
    names = [name for name in SHOWN_METRICS if any(name in run.metrics for run in runs)]
    lines = []
    for run in runs:
        words = (run.method, run.backbone, run.setting or run.variant, run.dataset, run.split, run.shots, run.seed)
        keys = "".join(
            f'<td data-v="{escape(str(word))}" class="{"n" if isinstance(word, int) else ""}">{escape(str(word))}</td>'
            for word in words[1:]
        )
        values = "".join(_metric(run.metrics.get(name), name) for name in names)
        first = f'<th scope="row"><a href="#run-{numbers[run.folder]}">{escape(run.method)}</a></th>'
        lines.append(f'<tr data-n="{numbers[run.folder]}">{first}{keys}{values}</tr>')
    titles = [METRICS[n].title + (f" ({METRICS[n].unit})" if METRICS[n].unit else "") for n in names]
    return (
        '<div class="wide"><table class="sortable" id="runs-table"><thead><tr>'
        f"{heads(RUN_COLUMNS, titles)}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _metric(value: float | None, name: str) -> str:
    return value_cell(value, "not defined" if value is None else f"{value:.{METRICS[name].digits}f}")


def figure_html(plot: Plot, opened: bool) -> str:
    """A figure as an image of its own, so that nothing in it can reach the page."""
    data = base64.b64encode(svg(plot).encode()).decode()
    title = escape(plot.title)
    width = round(plot.figure.get_figwidth() * 96)
    return (
        f'<details class="figure"{" open" if opened else ""}><summary>{title}</summary><div class="wide">'
        f'<img alt="{title}" width="{width}" src="data:image/svg+xml;base64,{data}"></div></details>'
    )


def options_html(values: Iterable[object]) -> str:
    """Entries of a selection list."""
    return "".join(f'<option value="{escape(str(value))}">{escape(str(value))}</option>' for value in values)
