"""How well the text features of classes stand apart: mean cosines, their table and heat map. Knows arrays, not models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.figure_style import styled
from analysis.render import render

INCH_PER_CLASS = 0.75
HEADER = ("dataset", "within", "between", "difference", "closest classes", "their cosine")


def class_cosines(features: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """(C, C) mean cosine between the prompts of two classes; on the diagonal, between different prompts of one.

    Args:
        features: per class (K, D) text features, K >= 2, not necessarily normalised.

    Raises:
        ValueError: a class with fewer than two prompts.
    """
    if min(len(rows) for rows in features) < 2:
        raise ValueError("the cosine within a class needs two prompts of it")
    units = [rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True) for rows in features]
    means = np.array([rows.mean(axis=0) for rows in units])
    matrix = means @ means.T  # the mean of all cosines is the product of the means
    for index, rows in enumerate(units):
        count = len(rows)
        # each prompt's cosine with itself is 1 and does not count
        matrix[index, index] = (matrix[index, index] * count**2 - count) / (count * (count - 1))
    return matrix


def summary(names: Sequence[str], matrix: NDArray[np.float64]) -> tuple[float, float, str, float]:
    """Mean cosine within and between classes, the closest two classes and their cosine; one class has no "between"."""
    within = float(np.diag(matrix).mean())
    pairs = [(float(matrix[i, j]), f"{names[i]} / {names[j]}") for j in range(len(names)) for i in range(j)]
    if not pairs:
        return within, float("nan"), "", float("nan")
    closest, which = max(pairs)
    return within, float(np.mean([value for value, _ in pairs])), which, closest


def separability_table(title: str, cosines: Mapping[str, tuple[Sequence[str], NDArray[np.float64]]], style: str) -> str:
    """One row per dataset: within, between, their difference, and the two classes that lie closest.

    Args:
        cosines: dataset -> (class names, matrix of :func:`class_cosines`).
        style: of :func:`analysis.render.render`.
    """
    rows = []
    for dataset, (names, matrix) in cosines.items():
        within, between, which, closest = summary(names, matrix)
        rows.append([dataset, f"{within:.3f}", f"{between:.3f}", f"{within - between:+.3f}", which, f"{closest:.3f}"])
    return render(title, HEADER, rows, style)


@styled
def heat_map(matrix: NDArray[np.float64], names: Sequence[str], title: str, path: Path) -> None:
    """Write the matrix as a PNG, the value in each cell."""
    size = 3 + INCH_PER_CLASS * len(names)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(matrix, cmap="viridis")
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=45, ha="right")
    axes.set_yticks(ticks, names)
    axes.set_title(title, fontsize=9)
    middle = (matrix.min() + matrix.max()) / 2
    for row in ticks:
        for column in ticks:
            colour = "black" if matrix[row, column] > middle else "white"
            axes.text(column, row, f"{matrix[row, column]:.3f}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=axes, label="mean cosine")
    figure.savefig(path, dpi=120)
