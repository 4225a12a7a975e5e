"""Reading runs: ``results.json`` files, and the ``log.txt`` that Dassl leaves. What is not whole is named, never used."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.files import read_text
from analysis.layout import LAYOUT_SPLITS, pair_key, place_of
from analysis.record_form import check_form

RESULTS, CONFIG, LOG, PREDICTIONS = "results.json", "config.yaml", "log.txt", "predictions.csv.gz"
OWN_IMAGES = "ImageFolderSplit"  # DATASET.NAME of a user's own images, whose name is their title
OWN_SPLIT = "own"  # split_kind of the split that a dataset has: its file's, its folders' or table's, or one drawn by class
SUBFOLDERS = ("prompt_learner", "tensorboard")
TUNED, TUNED_HOW = "TUNED.KEYS", "TUNED.HOW"  # settings of a run whose others python -m sweep.tune chose
RESULT_LINE = re.compile(r"^\W*(accuracy|error|macro_f1): ([0-9.]+)%")


class DamagedRun(ValueError):
    """A run's file is missing, cut short, or not what it should be; the message names it."""

    told = True  # to the user, in a line (entry.py)


@dataclass(frozen=True)
class Run:
    """One finished run: what identifies it, its metrics, and whether its data were generated.

    ``dataset`` is the title of own images (``own_images``), a published dataset's name else. ``changed`` holds the settings
    that differ from the project's config files for this method, task and dataset (key -> value of the config file, value
    used), and ``split`` where it is not the dataset's own (``split_kind``); ``None`` where that is not known. A metric that is
    not defined is ``None``. ``warnings`` stand below every table that the run is in. ``split_hash`` is of the paths,
    labels and class names of the whole dataset by part; empty where that is not known.

    A test on another dataset than the one that was trained on has the split "target", ``dataset`` "source → target", and the
    two names in ``source`` and ``target``, which are empty for all other runs; what was changed is that of the training.

    ``classes`` is how many there were to choose from, 0 where that is not known. Of one class no metric is defined: any method
    classifies all of it right.
    """

    method: str
    backbone: str
    dataset: str
    split: str
    shots: int
    seed: int
    variant: str
    metrics: Mapping[str, float | None]
    rehearsal: bool
    folder: Path
    modality: str = ""
    changed: Mapping[str, tuple[Any, Any]] | None = None
    departures: tuple[str, ...] = ()
    config_hash: str = ""
    git: Mapping[str, Any] = field(default_factory=dict)
    own_images: bool = False
    warnings: tuple[str, ...] = ()
    split_kind: str = OWN_SPLIT
    split_hash: str = ""
    source: str = ""
    target: str = ""
    classes: int = 0

    @property
    def changes(self) -> Mapping[str, tuple[Any, Any]]:
        """``changed``, empty where it is not known."""
        return self.changed or {}

    @property
    def used(self) -> dict[str, Any]:
        """The changed settings with the values used."""
        return {key: value for key, (_, value) in self.changes.items()}

    @property
    def setting(self) -> str:
        """What makes runs of one method comparable: "" as in the config files, else what was changed, in words.

        Not the variant, which names dataset-dependent settings too (N_CTX); that stands in where changes are not known.
        """
        if self.changed is None:
            return self.variant
        return ", ".join(f"{short_key(key)}={value}" for key, value in sorted(self.used.items()))

    @property
    def differs(self) -> str:
        """What is not as in the config files, for a legend; "" where nothing is."""
        return f"{self.variant}, settings not recorded" if self.changed is None else self.setting

    @property
    def series(self) -> tuple[str, str, str]:
        """Method, backbone, setting: a row of a table."""
        return self.method, self.backbone, self.setting

    @property
    def cell(self) -> tuple[Any, ...]:
        """What only one run may have: two runs with the same are a copy of each other, or one of them is a mistake."""
        return (*self.series, self.dataset, self.split, self.shots, self.seed)

    @property
    def dataset_key(self) -> str:
        """The dataset's folder name in the layout of runs (its config file's name); of a target ``source_to_target``."""
        parts = self.folder.parts
        if self.source and len(parts) >= 6:
            return pair_key(parts[-6], parts[-5])
        return parts[-5] if len(parts) >= 5 else self.dataset.lower()

    @property
    def names(self) -> set[str]:
        """All by which its dataset, or its datasets, may be asked for."""
        names = {self.dataset_key, self.dataset, self.source, self.target}
        return (names | set(self.folder.parts[-6:-4] if self.source else ())) - {""}

    @property
    def source_names(self) -> set[str]:
        """Likewise the dataset that was trained on."""
        return {self.source, *self.folder.parts[-6:-5]} if self.source else self.names


@dataclass(frozen=True)
class Defect:
    """A run that counts as missing, and why."""

    folder: Path
    why: str


def folder_name(title: str) -> str:
    """A dataset's title as the name of its runs' folder."""
    return re.sub(r"[/\\\x00-\x1f]", "_", title).lstrip(".") or "_"


def short_key(key: str) -> str:
    """``TRAINER.COOP.N_CTX`` -> ``N_CTX``; other keys as they are."""
    return key.split(".", 2)[2] if key.startswith("TRAINER.") and key.count(".") >= 2 else key


# -- whole or not -----------------------------------------------------------------------------------------


def files_of(folder: str | Path) -> dict[str, int]:
    """Size in bytes of every file that a run leaves, results file excepted: what ``results.json`` keeps as ``files``."""
    folder = Path(folder)
    paths = [folder / name for name in (CONFIG, LOG, PREDICTIONS)]
    paths += [path for part in SUBFOLDERS for path in sorted((folder / part).glob("*"))]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths if path.is_file()}


def read_record(folder: str | Path) -> dict[str, Any]:
    """The run's results file.

    Raises:
        DamagedRun: it is missing, cut short, or not complete.
    """
    path = Path(folder) / RESULTS
    try:
        record = json.loads(read_text(path))
    except FileNotFoundError as error:
        raise DamagedRun(f"no {RESULTS}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedRun(f"{RESULTS} cannot be read ({error})") from error
    if not isinstance(record, dict) or record.get("complete") is not True:
        raise DamagedRun(f"{RESULTS} is not complete")
    return record


def read_whole_record(folder: str | Path) -> dict[str, Any]:
    """:func:`read_record` of a run whose files are all there, with the size that they had when it ended.

    A log may have grown, or been put aside by a later call as ``log.txt-<time>``.

    Raises:
        DamagedRun: a file is missing or has another size.
    """
    folder = Path(folder)
    record = read_record(folder)
    kept = record.get("files", {})
    if not isinstance(kept, dict) or not all(isinstance(size, int) for size in kept.values()):
        raise DamagedRun(f"{RESULTS} garbles files")
    for name, size in {CONFIG: None, **record.get("files", {})}.items():
        if "\0" in name or ".." in Path(name).parts or Path(name).is_absolute():
            raise DamagedRun(f"{RESULTS} garbles files: {name[:60]!r} is no file of the run")
        candidates = folder.glob(f"{LOG}*") if name == LOG else [folder / name]
        sizes = [path.stat().st_size for path in candidates if path.is_file()]
        if not sizes:
            raise DamagedRun(f"{name} is missing")
        whole = size is None or (max(sizes) >= size if name == LOG else sizes[0] == size)
        if not whole:
            raise DamagedRun(f"{name} has {max(sizes)} bytes, and had {size} when the run ended")
    return record


# -- all runs ---------------------------------------------------------------------------------------------


def run_folders(root: Path) -> Iterator[Path]:
    """Folders that hold a run, whole or not, in order."""
    for folder, below, files in os.walk(root):
        below.sort()
        if {CONFIG, RESULTS, PREDICTIONS} & {*files, *below}:
            yield Path(folder)


def read_runs(root: Path) -> tuple[list[Run], list[Defect]]:
    """Finished runs below ``root``, and those that count as missing: unfinished, damaged, or there twice."""
    runs: dict[tuple[Any, ...], Run] = {}
    defects = []
    for folder in run_folders(root):
        try:
            run = read_run(folder)
        except DamagedRun as error:
            state = "damaged" if os.path.lexists(folder / RESULTS) else "unfinished"
            defects.append(Defect(folder, f"{state}: {error}"))
            continue
        twin = runs.setdefault(run.cell, run)
        if twin is not run:
            defects.append(Defect(folder, f"the same run as {twin.folder}"))
    return list(runs.values()), defects


def read_run(folder: Path) -> Run:
    """The finished run in ``folder``.

    Raises:
        DamagedRun: there is none, or not a whole one.
    """
    record = read_whole_record(folder)
    try:
        check_form(record, tuple(LAYOUT_SPLITS.values()))
        trained = record.get("source") or {}
        changed, kind = record.get("changed"), (trained or record).get("split_kind", OWN_SPLIT)
        target = _dataset_name(record, folder)
        classes = len(record["classnames"]) if isinstance(record.get("classnames"), list) else 0
        changed = _with_tuned(changed)
        if changed is not None and kind != OWN_SPLIT:  # makes another row of every table, whatever the config files say
            changed = changed | {"split": {"config_file": OWN_SPLIT, "run": kind}}
        return Run(
            record["method"],
            record["backbone"],
            f"{trained['dataset']} → {target}" if trained else target,
            record["split"],
            int(record["num_shots"]),
            int(record["seed"]),
            record["variant"],
            {name: None if value is None or classes == 1 else float(value) for name, value in record["metrics"].items()},
            bool(record["rehearsal"]),
            folder,
            record.get("modality") or "unknown",
            None if changed is None else {key: (pair["config_file"], pair["run"]) for key, pair in changed.items()},
            tuple(record.get("departures", ())),
            record.get("config_hash", ""),
            record.get("git") or {},
            OWN_IMAGES in (record.get("dataset_class"), record["dataset"]),
            tuple(map(str, record.get("warnings") or ())),
            kind,
            str((record.get("fingerprints") or {}).get("split") or ""),
            trained.get("dataset", ""),
            target if trained else "",
            classes,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DamagedRun(f"{RESULTS} lacks or garbles {error}") from error


def _with_tuned(changed: Any) -> Any:
    """``tuned`` in place of the settings that a search chose, which differ from dataset to dataset: they share a row."""
    if not changed or TUNED not in changed:
        return changed
    keys = changed[TUNED]["run"]
    left = {key: pair for key, pair in changed.items() if key not in (TUNED, TUNED_HOW, *keys)}
    return left | {"tuned": {"config_file": "", "run": " ".join(sorted(map(short_key, keys)))}}


def _dataset_name(record: Mapping[str, Any], folder: Path) -> str:
    """The dataset's name; of own images that were run before they had one, their name among the folders."""
    place = place_of(folder) if record["dataset"] == OWN_IMAGES else None
    return place.dataset_key if place else record["dataset"]


def read_log(path: Path) -> dict[str, float]:
    """The metrics (%) of the last test in one of Dassl's ``log.txt``; empty when it holds none."""
    if not path.is_file():
        raise DamagedRun(f"{path} is not a regular file")
    metrics: dict[str, float] = {}
    for line in path.read_text(errors="replace").splitlines():
        found = RESULT_LINE.match(line)
        if line.startswith("=> result"):
            metrics = {}
        elif found:
            metrics[found.group(1)] = float(found.group(2))
    return metrics
