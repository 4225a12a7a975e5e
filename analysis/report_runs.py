"""What the report shows of a single run: settings, end of the log, metrics per class, calibration, hardest images."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from analysis.curves import read_curves
from analysis.files import read_text
from analysis.metrics import METRICS
from analysis.plots_runs import reliability
from analysis.predictions import Predictions, read_predictions
from analysis.results import CONFIG, LOG, PREDICTIONS, DamagedRun, Defect, Run, read_record

CHUNK = 50  # runs that are packed together
LOG_LINES, HARDEST, CURVE_POINTS = 12, 8, 40
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's reads a config ten times as fast
THUMBNAIL, QUALITY = 96, 72  # pixels of the longer side; of JPEG
FACTS = ("method", "backbone", "dataset", "modality", "split", "num_shots", "seed", "variant", "num_test", "device")
MORE_FACTS = ("config_hash", "departures", "warnings", "notes", "metric_notes")


@dataclass
class Lines:
    """Lines of text, each kept once: configs and logs of different runs are alike."""

    texts: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def put(self, text: str) -> list[int]:
        """The numbers of the lines of ``text``."""
        found = []
        for line in text.splitlines():
            if line not in self.numbers:
                self.numbers[line] = len(self.texts)
                self.texts.append(line)
            found.append(self.numbers[line])
        return found


def details(runs: Sequence[Run], defects: Sequence[Defect], thumbnails: int, images: Path | None = None) -> dict[str, Any]:
    """The data of the page's drill-down, fit for JSON.

    Args:
        runs: finished ones.
        defects: the others; what can be read of them is shown.
        thumbnails: how many images at most are put into the page.
        images: folder that the paths of the predictions start from; by default found from each run's config.

    Returns:
        ``chunks`` of :data:`CHUNK` runs, finished ones first, each with ``lines`` (texts) and ``runs`` ("config" and "log" are
        numbers of lines, the last entry of a hardest image is the number of its thumbnail or -1); ``thumbnails`` (data URIs).
    """
    chunks, sources = [], []
    everything: list[Run | Defect] = [*runs, *defects]
    steps = tqdm(range(0, len(everything), CHUNK), desc="runs", unit=f"{CHUNK} runs", disable=None)
    for start in steps:
        lines, found = Lines(), []
        for item in everything[start : start + CHUNK]:
            if isinstance(item, Defect):
                found.append({"folder": str(item.folder), "state": item.why, "facts": [], **_texts(item.folder, lines)})
                sources.append((found[-1], []))
                continue
            entry, hard = _of_run(item, lines)
            folder = images or (image_folder(item.folder) if thumbnails and hard else None)
            found.append(entry)
            sources.append((entry, [image_file(folder, row[0]) for row in hard]))
        chunks.append({"lines": lines.texts, "runs": found})
    numbers, uris = _thumbnails([paths for _, paths in sources], thumbnails)
    for entry, paths in sources:
        for row, path in zip(entry.get("hardest", ()), paths, strict=True):
            row.append(numbers.get(path, -1))
    return {"chunks": chunks, "thumbnails": uris}


def _texts(folder: Path, lines: Lines) -> dict[str, list[int]]:
    """Config and the end of the log; empty where there is none."""
    config = _read(folder / CONFIG)
    logs = [path for path in (folder / LOG, *sorted(folder.glob(f"{LOG}-*"), reverse=True)) if path.is_file()]
    tail = _read(logs[0]).splitlines()[-LOG_LINES:] if logs else []
    return {"config": lines.put(config), "log": lines.put("\n".join(tail))}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _of_run(run: Run, lines: Lines) -> tuple[dict[str, Any], list[list[Any]]]:
    try:
        record: Mapping[str, Any] = read_record(run.folder)
    except DamagedRun:  # it was whole a moment ago
        record = {}
    facts = [[key, _shown(record[key])] for key in FACTS + MORE_FACTS if record.get(key) not in (None, "", [])]
    git = record.get("git") or {}
    facts.append(["git", f"{git.get('revision')}{' (changed since)' if git.get('dirty') else ''}"])
    facts += [["changed", f"{key}: {before} -> {used}"] for key, (before, used) in run.changes.items()]
    metrics = [
        [METRICS[name].title, None if value is None else round(value, 4), METRICS[name].unit, METRICS[name].digits]
        for name, value in run.metrics.items()
        if name in METRICS
    ]
    classes = [str(name) for name in record.get("classnames", [])]
    hard, bins = _of_predictions(run.folder, classes)
    entry = {
        "folder": str(run.folder), "state": "done", "facts": facts, "metrics": metrics, "classes": classes,
        "confusion": record.get("confusion_matrix", []), "per_class": _per_class(record), "bins": bins, "hardest": hard,
        "curve": _curve(run.folder), "rehearsal": run.rehearsal, **_texts(run.folder, lines),
    }  # fmt: skip
    return entry, hard


def _shown(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def _per_class(record: Mapping[str, Any]) -> list[list[Any]]:
    """Class name, images, precision, recall, F1, AUROC (in %, ``None`` where not defined)."""
    rows = [row for row in record.get("per_class", []) if "support" in row]
    keys = ("precision", "recall", "f1", "auroc")
    return [[str(r["classname"]), r["support"], *(None if r.get(k) is None else round(r[k], 2) for k in keys)] for r in rows]


def _of_predictions(folder: Path, classes: Sequence[str]) -> tuple[list[list[Any]], list[list[float]]]:
    try:
        kept = read_predictions(folder / PREDICTIONS)
    except DamagedRun:
        return [], []
    if kept.probabilities.shape[1] != len(classes) or not 0 <= kept.labels.min() <= kept.labels.max() < len(classes):
        return [], []
    chosen = kept.probabilities.argmax(axis=1)
    bins = reliability(kept.probabilities.max(axis=1), chosen == kept.labels)
    return hardest(kept, classes), [[n, round(conf, 4), round(acc, 4)] for n, conf, acc in bins]


def hardest(kept: Predictions, classes: Sequence[str], count: int = HARDEST) -> list[list[Any]]:
    """Path, true class, predicted class and their probabilities, of the images whose true class is least probable."""
    rows = np.arange(len(kept.labels))
    true = kept.probabilities[rows, kept.labels]
    chosen = kept.probabilities.argmax(axis=1)
    return [
        [_printable(kept.paths[i]), classes[kept.labels[i]], classes[chosen[i]], round(float(true[i]), 4),
         round(float(kept.probabilities[i, chosen[i]]), 4)]
        for i in np.argsort(true, kind="stable")[:count]
    ]  # fmt: skip


def _printable(path: str) -> str:
    """A path that is no UTF-8 can be written into the page."""
    return path.encode("utf-8", "replace").decode()


def _curve(folder: Path) -> list[list[float]]:
    """Epochs and mean losses, at most :data:`CURVE_POINTS`."""
    curves = read_curves(folder)
    points = [
        [e, float(f"{v:.3g}")] for e, v in zip(curves.epochs, curves.meters.get("loss", ()), strict=False) if math.isfinite(v)
    ]
    return points[:: max(1, math.ceil(len(points) / CURVE_POINTS))]


# -- images -----------------------------------------------------------------------------------------------


def image_folder(run: Path) -> Path | None:
    """The folder that a run's image paths start from, from its config; ``None`` where it is not on this machine.

    ``<root>/<NAME>/<NAME>`` where NAME is the dataset's folder, which begins with DATASET.NAME, or DATASET.FOLDER.
    """
    try:
        own = yaml.load(read_text(run / CONFIG), LOADER)["DATASET"]
        root, name, given = Path(own["ROOT"]).expanduser(), str(own["NAME"]), str(own.get("FOLDER") or "")
        if not given and own.get("CSV"):  # whose paths start beside it
            given = str(Path(own["CSV"]).parent)
        if given.endswith(".npz"):  # whose images are kept as files beside it
            given = str(Path(given).with_name(f".{Path(given).name}.images"))
        inside = sorted(root.iterdir()) if root.is_dir() else []
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError):
        return None
    if given:
        return next((folder for folder in (root / given, Path(given).expanduser()) if folder.is_dir()), None)
    alike = [folder for folder in inside if _plain(folder.name) == _plain(name)]
    alike += [folder for folder in inside if _plain(folder.name).startswith(_plain(name)) and folder not in alike]
    return next((folder / folder.name for folder in alike if (folder / folder.name).is_dir()), None)


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def image_file(folder: Path | None, path: str) -> Path | None:
    """The file of an image; ``None`` where it is not there, or the path leads out of the dataset's folder."""
    if folder is None:
        return None
    full = Path(os.path.normpath(folder / path))
    return full if full.is_relative_to(folder.parent) and full.is_file() else None


def _thumbnails(sources: Sequence[Sequence[Path | None]], most: int) -> tuple[dict[Path | None, int], list[str]]:
    """Thumbnails of the images that are hard for many runs: a number per path, and the data URIs by number."""
    weights: dict[Path, float] = {}
    for paths in sources:
        for rank, path in enumerate(paths):
            if path is not None:
                weights[path] = weights.get(path, 0.0) + 1 / (1 + rank)
    numbers: dict[Path | None, int] = {}
    uris: list[str] = []
    for path in sorted(weights, key=lambda p: (-weights[p], p))[: max(0, most)]:
        uri = thumbnail(path)
        if uri:
            numbers[path] = len(uris)
            uris.append(uri)
    return numbers, uris


def thumbnail(path: Path) -> str:
    """A small JPEG as data URI; empty for a file that is no readable image."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * THUMBNAIL, 2 * THUMBNAIL))
            small = _eight_bits(image).convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _eight_bits(image: Image.Image) -> Image.Image:
    """More than 8 bits by the image's own range, which Pillow would clip at 255."""
    if image.mode[0] not in "IF":
        return image
    values = np.asarray(image, np.float32)
    low, high = (
        np.min(values, where=np.isfinite(values), initial=np.inf),
        np.max(values, where=np.isfinite(values), initial=-np.inf),
    )
    share = (values - low) / (high - low) if low < high else np.zeros_like(values)
    return Image.fromarray((np.nan_to_num(np.clip(share, 0, 1)) * 255).astype(np.uint8))
