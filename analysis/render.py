"""Tables of numbers as terminal text, Markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

import csv
import io
import os
import re
import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from tabulate import tabulate

from analysis.files import harmless
from analysis.words import legend_lines, short_labels

STYLES = ("terminal", "markdown", "latex", "csv")
MISSING, UNDEFINED, DASH = "missing", "not defined", "–"
Key = TypeVar("Key", bound=Hashable)
KEYS = ("method", "backbone", "variant")  # of a table with a row per method
LATEX_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "–": "--", "→": r"$\rightarrow$",
    "Δ": r"$\Delta$",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A number of a table.

    Attributes:
        value: ``None`` where there is none.
        half: half width of its 95 % t-interval.
        note: why it does not stand for the whole ("2 of 3 runs"), or why there is none; such a cell is never the best.
        published: the number to stand beside it.
        digits: behind the point.
        covers: on which data it was measured; cells on other data are never compared.
        signed: a difference: its sign is shown, and it is never the best.
    """

    value: float | None = None
    half: float | None = None
    note: str = ""
    published: float | None = None
    digits: int = 2
    covers: Hashable = None
    signed: bool = False

    @property
    def number(self) -> str:
        if self.value is None:
            return ""
        # no "-0.00"
        return f"{round(self.value, self.digits) + 0.0:+.{self.digits}f}" if self.signed else f"{self.value:.{self.digits}f}"

    @property
    def rest(self) -> str:
        """What stands behind the number."""
        return self.beside + (f" [{self.note}]" if self.note and self.value is not None else "")

    @property
    def beside(self) -> str:
        """Its interval, and the published number with the difference."""
        half = "" if self.half is None else f" ± {self.half:.{self.digits}f}"
        beside = ""
        if self.published is not None:
            difference = "" if self.value is None else f" ({self.value - self.published:+.{self.digits}f})"
            beside = f" / {self.published:.{self.digits}f}{difference}"
        return half + beside

    @property
    def empty(self) -> str:
        """What stands for a number that is not there."""
        return DASH if self.note == UNDEFINED else self.note or MISSING


@dataclass(frozen=True)
class Table:
    """Rows of cells under a title.

    Attributes:
        keys: headings of the columns that name a row.
        rows: per row its names, one per key, and its cells, one per column.
        notes: lines below the table.
        best: "max" or "min": which cell of a column is set in bold; "" for none.
        settings: per row of a table with :data:`KEYS` what is not as in the config files, in words; empty where not known.
    """

    title: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Cell, ...]], ...]
    notes: tuple[str, ...] = ()
    best: str = "max"
    settings: tuple[str, ...] = ()

    def best_cells(self) -> set[tuple[int, int]]:
        """(row, column) of the best of each column, to the digits shown; none where there is nothing to compare.

        Only cells that lack no run count, and of them those on the same data: as most rows have, or none.
        """
        found = set()
        for column in range(len(self.columns)):
            own = {row: cells[column] for row, (_, cells) in enumerate(self.rows)}
            whole = {row: cell for row, cell in own.items() if not cell.note and not cell.signed}
            shown = {
                row: round(cell.value, cell.digits) for row, cell in on_the_same_data(whole).items() if cell.value is not None
            }
            if self.best and len(shown) > 1:
                top = (max if self.best == "max" else min)(shown.values())
                found |= {(row, column) for row, value in shown.items() if value == top}
        return found

    @property
    def short(self) -> Table:
        """The table for people: rows named by the method alone, and below it what is not as in the config files."""
        if self.keys != KEYS or len(self.settings) != len(self.rows):
            return self
        backbones = list(dict.fromkeys(names[1] for names, _ in self.rows))
        many = len(backbones) > 1
        named = [f"{names[0]}, {names[1]}" if many else names[0] for names, _ in self.rows]
        labels = short_labels(list(zip(named, self.settings, strict=True)))
        rows = tuple(((label,), cells) for label, (_, cells) in zip(labels, self.rows, strict=True))
        told = [] if many or not backbones else [f"Backbone: {backbones[0]}."]
        return replace(
            self, keys=KEYS[:1], rows=rows, notes=(*told, *legend_lines(labels, self.settings), *self.notes), settings=()
        )


def on_the_same_data(cells: dict[Key, Cell]) -> dict[Key, Cell]:
    """The cells with the most common ``covers``; none where two are as common."""
    groups: dict[Hashable, dict[Key, Cell]] = {}
    for row, cell in cells.items():
        if cell.value is not None:
            groups.setdefault(cell.covers, {})[row] = cell
    largest = sorted(groups.values(), key=len)[-2:]
    return largest[-1] if largest and (len(largest) == 1 or len(largest[0]) < len(largest[1])) else {}


def render_tables(tables: Sequence[Table], style: str, colour: bool | None = None, long: bool = False) -> str:
    """All tables as one text. CSV is one sheet with a line per cell; the others are one table after another.

    Args:
        tables: in order.
        style: one of :data:`STYLES`.
        long: backbone and variant in columns of their own, as CSV always has them; else :attr:`Table.short`.
        colour: bold by terminal codes; by default on a terminal, unless NO_COLOR is set. Otherwise "*" marks the best.
    """
    if style == "csv":
        return _csv(tables)
    if colour is None:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    show = {"terminal": lambda table: _terminal(table, bool(colour)), "markdown": _markdown, "latex": _latex}[style]
    return "\n\n".join(show(table if long else table.short) for table in tables)


def render(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], style: str) -> str:
    """A table of ready texts in one of the styles."""
    if style == "csv":
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(
            harmless(cells) for cells in (["table", *header], *([title, *row] for row in rows))
        )
        return out.getvalue().rstrip()
    if style == "latex":
        return _tabular(title, [tex(h) for h in header], [[tex(c) for c in row] for row in rows], len(header))
    escape, form = (_plain_markdown, "github") if style == "markdown" else (str, "simple")
    shown = [[escape(text) for text in row] for row in rows]
    return f"{title}\n\n{tabulate(shown, [escape(text) for text in header], tablefmt=form, disable_numparse=True)}"


def tex(text: str) -> str:
    """``text`` with what LaTeX would take as its own escaped."""
    return "".join(LATEX_ESCAPES.get(character, character) for character in text)


def _plain_markdown(text: str) -> str:
    return re.sub(r"([\\|*`\[\]])", r"\\\1", text).replace("<", "&lt;").replace("\n", " ")


def _body(table: Table, escape, bold) -> list[list[str]]:  # noqa: ANN001  (str -> str)
    best = table.best_cells()
    lines = []
    for row, (names, cells) in enumerate(table.rows):
        line = [escape(name) for name in names]
        for column, cell in enumerate(cells):
            if cell.value is None:
                line.append(escape(cell.empty + cell.rest))
            else:
                number = bold(cell.number) if (row, column) in best else cell.number
                line.append(number + escape(cell.rest))
        lines.append(line)
    return lines


def _terminal(table: Table, colour: bool) -> str:
    body = _body(table, str, (lambda text: f"\033[1m{text}\033[0m") if colour else (lambda text: f"{text}*"))
    title = table.title + ("" if colour or not table.best_cells() else " (* best)")
    text = tabulate(body, [*table.keys, *table.columns], tablefmt="simple", disable_numparse=True)
    return "\n".join([title, "", text, *table.notes])


def _markdown(table: Table) -> str:
    header = [_plain_markdown(text) for text in (*table.keys, *table.columns)]
    body = _body(table, _plain_markdown, lambda text: f"**{text}**")
    text = tabulate(body, header, tablefmt="github", disable_numparse=True)
    return "\n".join([f"**{_plain_markdown(table.title)}**", "", text, *(f"\n{_plain_markdown(note)}" for note in table.notes)])


def _latex(table: Table) -> str:
    header = [tex(text) for text in (*table.keys, *table.columns)]
    body = _body(table, tex, lambda text: rf"\textbf{{{text}}}")
    return _tabular(" ".join([table.title, *table.notes]), header, body, len(table.keys))


def _tabular(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    lines = [" & ".join(row) + r" \\" for row in rows]
    columns = "l" * left + "r" * (len(header) - left)
    return "\n".join([
        r"\begin{table}", rf"\caption{{{tex(caption)}}}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule",
        " & ".join(header) + r" \\", r"\midrule", *lines, r"\bottomrule", r"\end{tabular}", r"\end{table}",
    ])  # fmt: skip


def _csv(tables: Sequence[Table]) -> str:
    keys = list(dict.fromkeys(key for table in tables for key in table.keys))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(harmless(["table", *keys, "column", "value", "ci95", "note", "published", "difference", "best"]))
    for table in tables:
        best = table.best_cells()
        for row, (names, cells) in enumerate(table.rows):
            named = dict(zip(table.keys, names, strict=True))
            for column, cell in enumerate(cells):
                both = cell.value is not None and cell.published is not None
                writer.writerow(harmless([
                    table.title, *(named.get(key, "") for key in keys), table.columns[column],
                    *("" if number is None else repr(number) for number in (cell.value, cell.half)),
                    cell.note or (MISSING if cell.value is None else ""),
                    "" if cell.published is None else repr(cell.published),
                    repr(cell.value - cell.published) if both else "", int((row, column) in best),
                ]))  # fmt: skip
    return out.getvalue().rstrip()
