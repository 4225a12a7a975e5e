"""How figures look: colours that colour-blind readers tell apart, markers and line styles that survive grey print."""

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

# Okabe and Ito's palette without its yellow, which is lost on white paper
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX*<>hp"
LINES = ("-", "--", "-.", ":")
FORMATS = ("png", "svg")
PNG_DPI = 200  # three columns of a printed page at full width
RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.markersize": 4.5,
    "lines.linewidth": 1.2,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # text stays text: searchable, and a tenth of the size
    "svg.hashsalt": "biomed-dpt",  # the same numbers give the same bytes
    "text.parse_math": False,  # a class name may hold "$"
}

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Look:
    """How one series is drawn in every panel."""

    color: str
    marker: str
    line: str
    width: float = 1.2


@dataclass(frozen=True)
class Plot:
    """A figure with the numbers behind it.

    Attributes:
        name: file name without ending.
        title: what it shows, in words.
        figure: ready to be saved.
        header, rows: the numbers, as a table.
    """

    name: str
    title: str
    figure: Figure
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def styled(function: Function) -> Function:
    """Run a drawing function under :data:`RC`, and leave matplotlib's global settings as they were."""

    @wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with matplotlib.rc_context(RC):
            return function(*args, **kwargs)

    return inside  # type: ignore[return-value]


def looks(names: Sequence[Any], highlighted: Sequence[bool]) -> dict[Any, Look]:
    """A look per series; colour, marker and line style repeat with different periods, so that 84 differ.

    Args:
        names: of the series, in order.
        highlighted: which of them are drawn thicker.
    """
    return {
        name: Look(
            PALETTE[number % len(PALETTE)],
            MARKERS[number % len(MARKERS)],
            LINES[number // len(PALETTE) % len(LINES)],
            2.4 if thick else 1.2,
        )
        for number, (name, thick) in enumerate(zip(names, highlighted, strict=True))
    }


def panels(count: int, title: str, size: tuple[float, float], columns: int, legend_lines: int = 0) -> tuple[Figure, list[Axes]]:
    """A grid of ``count`` axes below a title, with room for a legend of so many lines at the bottom.

    Args:
        count: of axes.
        title: wrapped to the figure's width.
        size: width and height of one panel in inches.
        columns: at most.
        legend_lines: room to leave.
    """
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    width = max(columns * size[0], 4.6)
    words = wrapped(title, int(width * 13))
    head, foot = 0.2 + 0.18 * (words.count("\n") + 1), 0.1 + 0.18 * legend_lines
    height = rows * size[1] + head + foot
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.08, rect=(0, foot / height, 1, 1 - (foot + head) / height))
    figure.text(0.5, 1 - 0.1 / height, words, ha="center", va="top", fontsize=10)
    axes = [figure.add_subplot(rows, columns, number + 1) for number in range(count)]
    return figure, axes


def outer_labels(axes: Sequence[Axes], ticks: bool) -> None:
    """Keep the axis labels at the grid's left and bottom; with ``ticks`` also the tick labels, which all panels share."""
    columns = axes[0].get_subplotspec().get_gridspec().ncols
    last_row = (len(axes) - 1) // columns * columns
    for number, axis in enumerate(axes):
        if number % columns:
            axis.set_ylabel("")
            axis.tick_params(labelleft=not ticks)
        if number < last_row:
            axis.set_xlabel("" if ticks or number + columns < len(axes) else axis.get_xlabel())
            axis.tick_params(labelbottom=not ticks)


def wrapped(text: str, width: int) -> str:
    """``text`` in lines of at most ``width`` characters; words that are longer are cut."""
    lines = [""]
    for word in text.split():
        word = shortened(word, width)
        fits = len(lines[-1]) + 1 + len(word) <= width
        lines[-1:] = [f"{lines[-1]} {word}".strip()] if fits or not lines[-1] else [lines[-1], word]
    return "\n".join(lines)


def shortened(text: str, width: int) -> str:
    """``text``, its end cut to "…" beyond ``width`` characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str], columns: int) -> None:
    """One legend for all panels, at the bottom."""
    figure.legend(handles, labels, loc="lower center", ncols=columns, fontsize=8, handlelength=3.2)


def legend_shape(labels: Sequence[str], width: float) -> tuple[int, int]:
    """Columns and lines of a legend whose longest label fits a figure of ``width`` inches."""
    longest = max((len(label) for label in labels), default=1)
    columns = max(1, min(len(labels), int((width - 0.2) / (0.6 + 0.068 * longest))))
    return columns, math.ceil(len(labels) / columns)


def settled(figure: Figure) -> Figure:
    """Lay the figure out once: each format would do it again, which takes longer than drawing."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


@styled
def svg(plot: Plot) -> str:
    """The figure as SVG text without a date: equal figures are equal texts."""
    out = io.StringIO()
    settled(plot.figure).savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


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
