"""How figures look: as wide as a printed page, texts and axes in one ink that a dark page turns light."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.files import harmless
from analysis.method_looks import INK
from analysis.words import shortened

FORMATS = ("png", "svg")
PNG_DPI = 300  # of print
PAGE_WIDTH, COLUMN_WIDTH = 7.2, 4.7  # inches: a page's text, and what a phone can still read
PAPER, SOFT, GRID = "#ffffff", "#5b6570", "#dfe3e8"
DARK = {PAPER: "#161b22", INK: "#e6eaee", SOFT: "#a6b0ba", GRID: "#2f3843"}  # what these become on a dark page
RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 8,
    "text.color": INK,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.markersize": 3.6,
    "lines.linewidth": 1.1,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",  # text stays text: searchable, and a tenth of the size
    "svg.hashsalt": "biomed-dpt",  # the same numbers give the same bytes
    "text.parse_math": False,  # a class name may hold "$"
}

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Plot:
    """A figure with the numbers behind it.

    Attributes:
        name: file name without ending.
        title: what it shows, in words.
        figure: ready to be saved.
        header, rows: the numbers, as a table.
        dataset: that it is of; "" for several.
    """

    name: str
    title: str
    figure: Figure
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    dataset: str = ""

    @property
    def caption(self) -> str:
        """The title's first part: what is shown, without how."""
        return self.title.split(";")[0].replace("rehearsal (synthetic), ", "")


def styled(function: Function) -> Function:
    """Run a drawing function under :data:`RC`, and leave matplotlib's global settings as they were."""

    @wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with matplotlib.rc_context(RC):
            return function(*args, **kwargs)

    return inside  # type: ignore[return-value]


def panels(
    count: int, title: str, height: float, columns: int, legend_lines: int = 0, width: float = PAGE_WIDTH
) -> tuple[Figure, list[Axes]]:
    """A grid of ``count`` axes below a title, with room for a legend of so many lines at the bottom.

    Args:
        count: of axes.
        title: wrapped to the figure's width.
        height: of one panel in inches.
        columns: at most.
        legend_lines: room to leave.
        width: of the figure with all its columns; fewer panels than columns make it narrower.
    """
    width = max(min(COLUMN_WIDTH, width), width * min(columns, count) / columns)
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    words = balanced(title, int(width * 13.5))
    head, foot = 0.16 + 0.16 * (words.count("\n") + 1), 0.08 + 0.15 * legend_lines
    whole = rows * height + head + foot
    figure = Figure(figsize=(width, whole), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.05, rect=(0, foot / whole, 1, 1 - (foot + head) / whole))
    figure.text(0.5, 1 - 0.08 / whole, words, ha="center", va="top", fontsize=9)
    axes = [figure.add_subplot(rows, columns, number + 1) for number in range(count)]
    return figure, axes


def outer_labels(axes: Sequence[Axes], x_ticks: bool, y_ticks: bool) -> None:
    """Keep the axis labels at the grid's left and bottom, and of an axis that all panels share the tick labels too."""
    columns = axes[0].get_subplotspec().get_gridspec().ncols
    for number, axis in enumerate(axes):
        if number % columns:
            axis.set_ylabel("")
            axis.tick_params(labelleft=not y_ticks)
        if number + columns < len(axes):
            axis.set_xlabel("")
            axis.tick_params(labelbottom=not x_ticks)


def wrapped(text: str, width: int) -> str:
    """``text`` in lines of at most ``width`` characters; words that are longer are cut."""
    lines = [""]
    for word in text.split():
        word = shortened(word, width)
        fits = len(lines[-1]) + 1 + len(word) <= width
        lines[-1:] = [f"{lines[-1]} {word}".strip()] if fits or not lines[-1] else [lines[-1], word]
    return "\n".join(lines)


def balanced(text: str, width: int) -> str:
    """:func:`wrapped` into as few lines, all about as long: no last line of one word."""
    lines = wrapped(text, width).count("\n")
    narrow = next(w for w in range(max(1, width // 2), width + 1) if w == width or wrapped(text, w).count("\n") == lines)
    return wrapped(text, narrow) if max(map(len, text.split()), default=0) <= narrow else wrapped(text, width)


def legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str], columns: int) -> None:
    """One legend for all panels, at the bottom."""
    figure.legend(handles, labels, loc="lower center", ncols=columns, fontsize=7, handlelength=2.8, columnspacing=1.4)


def legend_shape(labels: Sequence[str], width: float = PAGE_WIDTH) -> tuple[int, int]:
    """Columns and lines of a legend whose longest label fits a figure of ``width`` inches."""
    longest = max((len(label) for label in labels), default=1)
    columns = max(1, min(len(labels), int((width - 0.2) / (0.55 + 0.062 * longest))))
    return columns, math.ceil(len(labels) / columns)


def settled(figure: Figure) -> Figure:
    """Lay the figure out once: each format would do it again, which takes longer than drawing."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


@styled
def svg(plot: Plot) -> str:
    """The figure as SVG text without a date: equal figures are equal texts. On a dark page paper and ink change places."""
    out = io.StringIO()
    settled(plot.figure).savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    rules = "".join(
        f'[style*="{what}: {light}"]{{{what}:{dark}!important}}' for light, dark in DARK.items() for what in ("fill", "stroke")
    )
    return out.getvalue().replace("</defs>", f"</defs>\n <style>@media (prefers-color-scheme:dark){{{rules}}}</style>", 1)


@styled
def save(plot: Plot, folder: Path, formats: Iterable[str] = FORMATS) -> list[Path]:
    """Write the figure in each format and its numbers as CSV; what is there under the same name is replaced whole."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for ending in formats:
        path = folder / f"{plot.name}.{ending}"
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        if ending == "svg":
            temporary.write_text(svg(plot), encoding="utf-8")
        else:
            settled(plot.figure).savefig(temporary, format=ending, dpi=PNG_DPI)
        os.replace(temporary, path)
        written.append(path)
    table = folder / f"{plot.name}.csv"
    with open(table, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(harmless(row) for row in (plot.header, *plot.rows))
    return [*written, table]
