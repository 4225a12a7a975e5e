"""The project from Python: train by a protocol, and read what was run. docs/PYTHON.md has a worked example."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from analysis.choice import SPLITS, Choice, concerns, select
from analysis.results import Run, read_run
from analysis.results import read_runs as read_all
from dassl.utils import UserError, nearest
from runs.config import configured, split_trainer_name
from runs.overrides import OWN_IMAGES
from runs.protocols import run_task
from runs.settings import CONFIGS, config_file
from runs.tasks import TASKS


def train(
    method: str,
    dataset: str | Path,
    *,
    root: str | Path = "data",
    backbone: str = "",
    backbone_path: str | Path = "",
    task: str = "few_shot",
    shots: int | Sequence[int] = 16,
    seeds: int | Sequence[int] = 1,
    output: str | Path = "output",
    config: str | Path = "",
    overrides: Mapping[str, object] | None = None,
    together: bool = False,
    targets: str | Path | Sequence[str | Path] = (),
    verbose: bool = False,
) -> list[Run]:
    """Train and test a method by a protocol; what is done already is read, what was interrupted goes on.

    The same as the scripts do: the same config files, folders and numbers.

    Args:
        method: "CoOp", "BiomedDPT", …, or a published name ("BiomedDPT_BiomedCLIP").
        dataset: a dataset's key ("btmri"), a YAML file of config keys, or a folder with one folder of images per class.
        root: folder of the datasets; a folder of your own images does not need it.
        backbone: "BiomedCLIP" (the default), "PhantomCLIP", "CLIP", "open_clip:MODEL/TAG", …
        backbone_path: local folder with the backbone's weights.
        task: "few_shot" (all classes), "base2new" (train on half of the classes, test on both halves) or "cross_dataset"
            (train on this dataset, test on ``targets``).
        shots: training images per class; several are run one after the other.
        seeds: likewise.
        output: folder of all runs; each run's folder in it follows from its settings.
        config: the method's config file; by default the project's own for method, task and dataset.
        overrides: config keys and values, ``{"OPTIM.MAX_EPOCH": 20}``, over all files.
        together: train the seeds of a setting as one batch, with the methods that can.
        targets: of cross_dataset: datasets' keys or YAML files; by default all published datasets in ``root``.
        verbose: show each run's whole log, and not a line for each epoch.

    Returns:
        One record per run: by shots, then seeds, then the protocol's splits. ``run.metrics["accuracy"]`` is in %,
        ``run.folder`` is what ``load_run`` takes.

    Raises:
        UserError: a name, key, value or folder that does not fit, in one line that says what to do.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    cfg, key = _config(method, dataset, task, backbone, config, overrides or {}, _paths(root, backbone_path))
    several = {"shots": _several(shots), "seeds": _several(seeds), "targets": _several(targets)}
    folders = run_task(cfg, task, Path(output).expanduser(), key, **several, together=together, verbose=verbose)
    return [read_run(folder) for folder in folders]


def read_runs(
    folder: str | Path = "output",
    *,
    task: str = "",
    datasets: str | Sequence[str] = (),
    methods: str | Sequence[str] = (),
    backbones: str | Sequence[str] = (),
    shots: int | Sequence[int] = (),
    seeds: int | Sequence[int] = (),
) -> list[Run]:
    """The finished runs below a folder; ``analysis.overview.built`` makes tables of them.

    Args:
        folder: of all runs, or any folder that holds some.
        task, datasets, methods, backbones, shots, seeds: only this one or these; what is empty leaves all in.

    Returns:
        One record per run. Of each run that is unfinished or damaged a warning tells where it is, and why.

    Raises:
        UserError: no such folder or protocol.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(f"no folder {folder}")
    if task and task not in SPLITS:
        raise UserError(f'no protocol "{task}".{nearest(task, SPLITS)} There are: {", ".join(SPLITS)}')
    choice = Choice(task, *map(_several, (datasets, methods, backbones, shots, seeds)))
    runs, defects = read_all(folder)
    for defect in defects:
        if concerns(defect, choice):
            warnings.warn(f"{defect.folder} is left out: {defect.why}", stacklevel=2)
    return select(runs, choice)


def _config(
    method: str,
    dataset: str | Path,
    task: str,
    backbone: str,
    config: str | Path,
    overrides: Mapping[str, object],
    settings: Mapping[str, object],
) -> tuple[CfgNode, str]:
    """The frozen config, and the dataset's name among the folders."""
    if task not in TASKS:
        raise UserError(f'no protocol "{task}".{nearest(task, TASKS)} There are: {", ".join(TASKS)}')
    name, _ = split_trainer_name(method, backbone)
    files, about, key = _dataset(dataset)
    own = config or config_file(name, TASKS[task][0].split, key)
    if not own:
        raise UserError(f"{name} has no config file in {CONFIGS / 'trainers'}: name one with config=")
    words = [word for pair in overrides.items() for word in pair]
    cfg = configured(method, backbone, files=[*files, own], settings={**settings, **about}, overrides=words)
    if cfg.TEST.NO_TEST:
        raise UserError("TEST.NO_TEST is True: a run that is not tested has no results to return")
    return cfg, key


def _dataset(dataset: str | Path) -> tuple[list[Path], dict[str, object], str]:
    """Config files and settings of a dataset, and its name among the folders."""
    path = Path(dataset).expanduser()
    if path.suffix in (".yaml", ".yml"):
        return [path], {}, path.stem
    known = {file.stem: file for file in sorted((CONFIGS / "datasets").glob("*.yaml"))}
    if str(dataset) in known:
        return [known[str(dataset)]], {}, str(dataset)
    if path.is_dir():
        path = path.resolve()
        key = path.name.lower()
        return [], {"DATASET.NAME": OWN_IMAGES, "DATASET.FOLDER": str(path), "DATASET.TITLE": key}, key
    near = nearest(str(dataset), known)
    raise UserError(f'"{dataset}" is no dataset, no YAML file and no folder of class folders.{near}')


def _paths(root: str | Path, backbone_path: str | Path) -> dict[str, object]:
    paths = {"DATASET.ROOT": root, "MODEL.BACKBONE.PATH": backbone_path}
    return {key: str(path) for key, path in paths.items() if str(path)}


def _several(given: Any) -> list[Any]:
    """One value as a list of one."""
    return [given] if isinstance(given, (int, str, Path)) else list(given)
