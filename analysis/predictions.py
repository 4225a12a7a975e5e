"""``predictions.csv.gz``: path, label and class probabilities of every test image, so that a metric needs no model.

Knows arrays and files only; the trainers write through it, ``analysis`` reads through it.
"""

from __future__ import annotations

import csv
import errno
import gzip
import io
import os
import stat
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.results import DamagedRun


@dataclass(frozen=True)
class Predictions:
    """Paths relative to the dataset's image folder (N), labels (N,), probabilities (N, C) float64."""

    paths: Sequence[str]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def write_predictions(path: str | Path, predictions: Predictions) -> None:
    """Columns ``path``, ``label``, ``prob_0`` … ``prob_<C-1>``; numbers in full, so that reading gives the same bits.

    Equal predictions give equal bytes: no name and no time go into the compressed file.

    Raises:
        ValueError: paths, labels and probabilities differ in number.
    """
    header = ["path", "label", *(f"prob_{index}" for index in range(predictions.probabilities.shape[1]))]
    rows = zip(predictions.paths, predictions.labels.tolist(), predictions.probabilities.tolist(), strict=True)
    with (
        open(path, "wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", errors="surrogateescape", newline="") as text,
    ):
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([name, label, *(repr(value) for value in row)] for name, label, row in rows)


def read_predictions(path: str | Path) -> Predictions:
    """The file of :func:`write_predictions`.

    Raises:
        DamagedRun: it is missing, cut short, or no such file.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        with gzip.open(path, "rt", encoding="utf-8", errors="surrogateescape", newline="") as text:
            header, *rows = csv.reader(text)
        classes = len(header) - 2
        if header[:2] != ["path", "label"] or classes < 1 or not rows:
            raise ValueError("no columns path, label, prob_0 …, or no rows")
        probabilities = np.array([[float(value) for value in row[2:]] for row in rows], dtype=np.float64)
        if probabilities.shape != (len(rows), classes):
            raise ValueError("rows of different length")
        return Predictions([row[0] for row in rows], np.array([int(row[1]) for row in rows], dtype=np.int64), probabilities)
    except FileNotFoundError as error:
        raise DamagedRun(f"no {path}: test the run again with --eval-only") from error
    except (OSError, EOFError, zlib.error, ValueError, csv.Error, IndexError, OverflowError) as error:
        raise DamagedRun(f"{path} is damaged ({error}): test the run again with --eval-only") from error
