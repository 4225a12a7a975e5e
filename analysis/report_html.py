"""Parts of the report as HTML text. Whatever comes from a run goes through :func:`html.escape` here."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from analysis.cast import Cast
from analysis.figure_style import INK, Plot, svg
from analysis.method_looks import Look, outline
from analysis.render import KEYS, Cell, Table
from analysis.report_coverage import BROKEN, DONE, PROTOCOL_NAMES, Coverage, Mark
from analysis.report_pack import packed
from analysis.results import Defect
from analysis.summaries import Series

SHOWN = 1.6  # figures are this much larger on the page than in print
Numbers = Mapping[Path, int]  # a run's folder -> its number in the drill-down data


# -- methods ----------------------------------------------------------------------------------------------


def symbols_html(cast: Cast) -> str:
    """The outlines of all markers, once."""
    markers = sorted({look.marker for look in cast.looks.values()})
    shapes = "".join(f'<symbol id="{_shape(m)}" viewBox="-1.2 -1.2 2.4 2.4"><path d="{outline(m)}"/></symbol>' for m in markers)
    return f'<svg class="symbols" aria-hidden="true">{shapes}</svg>'


def _shape(marker: str) -> str:
    return f"shape-{ord(marker)}"


def glyph(look: Look | None) -> str:
    """A method's marker in its colour."""
    if look is None:
        return ""
    color = "currentColor" if look.color == INK else look.color
    size = f' style="transform:scale({look.size(1):g})"' if look.size(1) > 1 else ""
    return f'<svg class="glyph" fill="{color}"{size} aria-hidden="true"><use href="#{_shape(look.marker)}"/></svg>'


def glyphs_of(cast: Cast) -> dict[tuple[str, str, str], Look]:
    """The look of a table's row, by its method, backbone and what is not as in the config files."""
    return {(series[0], series[1], cast.settings[series]): look for series, look in cast.looks.items()}


def method_html(series: Series, cast: Cast) -> str:
    return f"{glyph(cast.looks.get(series))}{escape(cast.labels.get(series, series[0]))}"


# -- tables -----------------------------------------------------------------------------------------------


def heads(words: Iterable[str], numbers: Iterable[str]) -> str:
    """Column headings that sort when pressed, of columns of words and of numbers."""
    kinds = [("", name) for name in words] + [(' class="n"', name) for name in numbers]
    return "".join(
        f'<th scope="col" aria-sort="none"{kind}><button type="button">{escape(name)}</button></th>' for kind, name in kinds
    )


def value_cell(cell: Cell, best: bool = False) -> str:
    """A number that sorts by all its digits; its interval, and what it lacks, beside and below it."""
    if cell.value is None:
        return f'<td class="n gap" data-v="">{escape(cell.empty)}</td>'
    inner = f"<b>{cell.number}</b>" if best else cell.number
    rest = f'<span class="ci">{escape(cell.beside)}</span>' if cell.beside else ""
    note = f"<small>{escape(cell.note)}</small>" if cell.note else ""
    return f'<td class="n" data-v="{cell.value!r}">{inner}{rest}{note}</td>'


def table_html(table: Table, metric: str, looks: Mapping[tuple[str, str, str], Look]) -> str:
    """A table of results: sortable, the method's column first and always in sight, with its notes."""
    best, short = table.best_cells(), table.short
    signs = ["" for _ in table.rows]
    if table.keys == KEYS and len(table.settings) == len(table.rows):
        keyed = [(names[0], names[1], differs) for (names, _), differs in zip(table.rows, table.settings, strict=True)]
        signs = [glyph(looks.get(key)) for key in keyed]
    lines = []
    for row, (names, cells) in enumerate(short.rows):
        keys = "".join(
            f'<th scope="row" data-v="{escape(name)}">{signs[row] if place == 0 else ""}{escape(name)}</th>'
            for place, name in enumerate(names)
        )
        values = "".join(value_cell(cell, (row, column) in best) for column, cell in enumerate(cells))
        lines.append(f"<tr>{keys}{values}</tr>")
    notes = "".join(f"<p class=note>{escape(note)}</p>" for note in short.notes)
    return (
        f'<figure class="table" data-metric="{escape(metric)}"><figcaption>{escape(table.title)}</figcaption>'
        f'<div class="wide" tabindex="0"><table class="sortable"><thead><tr>{heads(short.keys, short.columns)}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>{notes}</figure>"
    )


# -- figures ----------------------------------------------------------------------------------------------


def open_figure_html(plot: Plot) -> str:
    """A figure that is there at once, as an image of its own, so that nothing in it can reach the page."""
    data = base64.b64encode(svg(plot).encode()).decode()
    title, width = escape(plot.title), round(plot.figure.get_figwidth() * 72 * SHOWN)
    return f'<figure class="figure"><img alt="{title}" width="{width}" src="data:image/svg+xml;base64,{data}"></figure>'


def folded_figure_html(plot: Plot) -> str:
    """A figure that is unpacked when it is opened."""
    width = round(plot.figure.get_figwidth() * 72 * SHOWN)
    return (
        f'<details class="figure" data-width="{width}"><summary>{escape(plot.caption)}</summary><div class="wide">'
        f'<script type="text/plain" data-packed="gzip">{packed(svg(plot))}</script></div></details>'
    )


# -- coverage ---------------------------------------------------------------------------------------------


def coverage_html(grid: Coverage, signs: Mapping[tuple[str, str, str], Look]) -> str:
    """Per protocol a table of methods and datasets with how many runs are done; pressed, it lists these runs."""
    parts = []
    for number, protocol in enumerate(PROTOCOL_NAMES):
        datasets, rows = grid.of_protocol(number)
        if not rows:
            continue
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in datasets)
        lines = []
        for row, by_dataset in rows.items():
            look = next((look for key, look in signs.items() if key[0] == row[0]), None)
            cells = "".join(_done(by_dataset.get(name, []), row[0], name, protocol) for name in datasets)
            lines.append(f'<tr><th scope="row">{glyph(look)}{escape(grid.label(row))}</th>{cells}</tr>')
        each = max(len(marks) for by_dataset in rows.values() for marks in by_dataset.values())
        parts.append(
            f'<figure class="table"><figcaption>{protocol}: finished runs, {each} expected in each cell</figcaption>'
            f'<div class="wide" tabindex="0"><table class="coverage"><thead><tr><th>method</th>{head}</tr></thead>'
            f"<tbody>{''.join(lines)}</tbody></table></div></figure>"
        )
    return "".join(parts)


def _done(marks: Sequence[Mark], method: str, dataset: str, protocol: str) -> str:
    if not marks:
        return "<td></td>"
    done, broken = (sum(mark.state == state for mark in marks) for state in (DONE, BROKEN))
    kind = "all" if done == len(marks) else "some" if done else "none"
    shown = "✓" if kind == "all" else f"{done}/{len(marks)}"
    told = f"{method}, {dataset}, {protocol}: {done} of {len(marks)} runs are done, {broken} unfinished or damaged"
    wrong = f'<span class="broken">✗{broken}</span>' if broken else ""
    return (
        f'<td class="{kind}"><button type="button" class="find" data-find="{escape(f"{method} {dataset}")}" '
        f'title="{escape(told)}" aria-label="{escape(told)}">{shown}{wrong}</button></td>'
    )


def defects_html(defects: Sequence[Defect], numbers: Numbers) -> str:
    """Runs that count as missing, with the reason."""
    if not defects:
        return ""
    links = ((f"#run-{numbers[defect.folder]}", escape(str(defect.folder)), escape(defect.why)) for defect in defects)
    items = "".join(f'<li><a href="{link}"><code>{folder}</code></a>: {why}</li>' for link, folder, why in links)
    opened = " open" if len(defects) <= 10 else ""
    return f"<details{opened}><summary>{len(defects)} unfinished, damaged or twice</summary><ul>{items}</ul></details>"


def options_html(values: Iterable[object]) -> str:
    """Entries of a selection list."""
    return "".join(f'<option value="{escape(str(value))}">{escape(str(value))}</option>' for value in values)
