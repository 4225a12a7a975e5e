"""Image and text features of a run in the plane: t-SNE or PCA."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.figure_style import styled
from dassl.utils import UserError, atomic

METHODS = ("tsne", "pca")
UNLABELLED = -1
LEAST = 5  # points, below which no neighbourhood means anything
# Okabe and Ito: told apart by the colour-blind; markers tell further classes apart
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "v")


def class_of(path: Path, classnames: Sequence[str]) -> int:
    """The label of an image that lies in a folder named as one of the classes; :data:`UNLABELLED` otherwise."""
    plain = {name.replace("_", " ").lower(): label for label, name in enumerate(classnames)}
    return plain.get(path.resolve().parent.name.replace("_", " ").lower(), UNLABELLED)


def centred(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, D) less their mean, each of unit length again; a row that is the mean stays zero."""
    moved = features - features.mean(axis=0)
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    return moved / np.where(length > 0, length, 1)


def in_the_plane(features: NDArray[np.float32], method: str) -> NDArray[np.float32]:
    """(N, D) features -> (N, 2); seeded, so that equal features give equal pictures.

    Raises:
        UserError: an unknown method, or fewer than five points.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if method not in METHODS:
        raise UserError(f'the embedding is "{method}", must be one of {", ".join(METHODS)}')
    if len(features) < LEAST:
        raise UserError(f"{len(features)} images and class features are too few for a picture: {LEAST} are needed")
    if method == "pca":
        return PCA(n_components=2, random_state=0).fit_transform(features)
    perplexity = min(30.0, (len(features) - 1) / 3)
    return TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=0).fit_transform(features)


@styled
def draw_embedding(
    path: Path,
    image_features: NDArray[np.float32],
    text_features: NDArray[np.float32],
    labels: Sequence[int],
    classnames: Sequence[str],
    method: str,
    title: str,
) -> None:
    """Write a PNG: images (N, D) as small marks in their class's colour, class features (C, D) as large ones.

    Features of the two towers lie apart in the joint space, in two narrow cones (the modality gap: Liang et al., NeurIPS
    2022). Each set is centred on its own mean first: otherwise the gap is all that one sees.
    """
    places = in_the_plane(np.concatenate([centred(image_features), centred(text_features)]), method)
    images, texts = places[: len(image_features)], places[len(image_features) :]
    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    numbers = np.asarray(labels)
    for label in [*range(len(classnames)), UNLABELLED]:
        chosen = images[numbers == label]
        look = {"marker": "x", "c": "#999999"} if label == UNLABELLED else _look(label)
        if len(chosen):
            axes.scatter(*chosen.T, s=22, alpha=0.75, linewidths=0.6, **look)
        if label != UNLABELLED:
            large = {"s": 170, "edgecolors": "black", "linewidths": 1.4, "label": f"{classnames[label]} ({len(chosen)})"}
            axes.scatter(*texts[label : label + 1].T, zorder=3, **_look(label), **large)
        elif len(chosen):
            axes.scatter([], [], label=f"no class folder ({len(chosen)})", **look)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(f"{method} 1")
    axes.set_ylabel(f"{method} 2")
    figure.legend(title="class (images); large: its text", loc="outside right upper", fontsize=8, title_fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def _look(label: int) -> dict[str, str]:
    return {"c": PALETTE[label % len(PALETTE)], "marker": MARKERS[label // len(PALETTE) % len(MARKERS)]}
