"""Trained on one dataset, tested on others: which targets there are, what fits them, what a test says of its source."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from analysis.layout import CROSS
from analysis.results import DamagedRun, read_record, read_whole_record
from dassl.data.datasets import build_dataset
from dassl.utils import UserError, nearest
from datasets import by_key
from datasets.config import data_config
from datasets.names import spelled
from runs.config import entitle, section_of
from runs.identity import check_same_images, check_same_settings, dataset_key, run_folder, same_place, split_kind, variant_of
from runs.ranges import check_values
from runs.settings import CONFIGS
from runs.tasks import TASKS
from trainers import methods
from trainers.checkpoints import LEARNER, find_checkpoint

OF_THE_RUN = ("ROOT", "NUM_SHOTS")  # keys of DATASET that a target takes from the source's run
HOW_READ = ("WINDOW", "EXIF", "SLICE", "MAX_PIXELS")  # keys of INPUT that belong to a dataset's files


def target_files(targets: Sequence[str | Path], cfg: CfgNode, source: str) -> list[Path]:
    """The datasets' files of these targets; of none, those of all published datasets that are in DATASET.ROOT.

    Args:
        targets: names of files in configs/datasets, or paths of YAML files.
        cfg: of the source.
        source: its name among the folders.

    Raises:
        UserError: an unknown name, no target, or one twice.
    """
    if not targets:
        root = Path(cfg.DATASET.ROOT).expanduser()
        there = [key for key, cls in by_key().items() if (root / cls.dataset_dir / cls.dataset_dir).is_dir()]
        targets = [key for key in there if key != source]
    known = {path.stem: path for path in sorted((CONFIGS / "datasets").glob("*.yaml"))}
    files: dict[str, Path] = {}
    for target in targets:
        path = known.get(str(target), Path(target).expanduser())
        if path.suffix not in (".yaml", ".yml"):
            near = nearest(str(target), known)
            raise UserError(f'target "{target}" is no dataset and no YAML file.{near} Datasets: {", ".join(known)}')
        if path.stem in files and files[path.stem] != path:
            raise UserError(f"two targets are called {path.stem}: rename one of the files {files[path.stem]} and {path}")
        files[path.stem] = path
    if not files:
        raise UserError(
            f"no target: no other published dataset is in {cfg.DATASET.ROOT or 'the root'}; name some with --targets"
        )
    return list(files.values())


def target_config(cfg: CfgNode, file: Path, source: str, root: str | Path) -> CfgNode:
    """The config of a test on a target: the source's run with the target's data, in the folder that follows from both.

    Args:
        cfg: of the source's run, frozen.
        file: of the target.
        source: the source's name among the folders.
        root: folder of all runs.

    Raises:
        UserError: the file is no dataset's, the target is the source, or a folder holds another run.
    """
    data = data_config(str(file))
    if not data.DATASET.NAME:
        raise UserError(f"{file} names no dataset: DATASET.NAME is missing")
    one = cfg.clone()
    one.defrost()
    own = data.DATASET
    for key in OF_THE_RUN:
        own[key] = cfg.DATASET[key]
    one.DATASET = own
    for key in HOW_READ:
        one.INPUT[key] = data.INPUT[key]
    entitle(one, file.stem)
    check_values(one, section_of(one.TRAINER.NAME))
    key = dataset_key(one, file.stem)
    if key == source or _same_data(one, cfg):
        raise UserError(f"{file} is the source itself: its own test is the few_shot run; leave it out of the targets")
    own.SUBSAMPLE_CLASSES, own.TRAINED_ON = "all", source
    kept = run_folder("", "", source, cfg).parts[-4:]  # shots, method, variant and seed are those of the training
    place = Path(root) / CROSS / source / key
    one.OUTPUT_DIR, one.RESUME = str(place.joinpath(*kept)), ""
    one.freeze()
    check_same_images(one, place)
    check_same_settings(one, Path(one.OUTPUT_DIR))
    return one


def _same_data(one: CfgNode, other: CfgNode) -> bool:
    """Whether two datasets are one; parts of a folder that INCLUDE, EXCLUDE or two tables take apart are not."""
    ours, theirs = one.DATASET, other.DATASET
    if any(ours[key] != theirs[key] for key in ("NAME", "INCLUDE", "EXCLUDE")):
        return False
    places = [(ours[key], theirs[key]) for key in ("FOLDER", "CSV")]
    return all(old == new or same_place(old, ours.ROOT, new, theirs.ROOT) for old, new in places)


def require_fitting(source: CfgNode, targets: Sequence[CfgNode]) -> None:
    """Look before training whether what will be learned fits the targets' classes, and whether their images are there.

    A context that is shared by all classes fits any; a classifier, or a context per class, fits the same classes in the same
    order alone.

    Raises:
        UserError: it does not fit, or a target's data are not there.
    """
    per_class = learns_per_class(source)
    ours = list(build_dataset(source).classnames) if per_class else []
    for one in targets:
        theirs = list(build_dataset(one).classnames)
        name = one.DATASET.TITLE or one.DATASET.NAME
        if not per_class or _plain(ours) == _plain(theirs):
            continue
        if sorted(_plain(ours)) == sorted(_plain(theirs)):
            raise UserError(
                f"{name} has the source's classes in another order ({', '.join(theirs)}; source: {', '.join(ours)}), and "
                f"{per_class}: order them as the source's, with DATASET.CLASSNAMES or in the split file"
            )
        raise UserError(
            f"{name} has other classes ({', '.join(theirs)}) than the source ({', '.join(ours)}), and {per_class}: "
            "take a method whose prompts transfer (CoOp, BiomedDPT, …), or a target with the same classes"
        )


def learns_per_class(cfg: CfgNode) -> str:
    """Why what a method learns fits the classes that it saw alone; empty where it fits any."""
    cls = methods()[cfg.TRAINER.NAME]
    if not cls.transfers:
        return f"{cfg.TRAINER.NAME} learns a classifier of the classes that it saw"
    if cls.learns and cfg.TRAINER[cls.section].get("CSC", False):
        return f"{cfg.TRAINER.NAME} with CSC learns a context for each class that it saw"
    return ""


def _plain(names: Sequence[str]) -> list[str]:
    return [spelled(name).casefold() for name in names]


# -- the source of a test ---------------------------------------------------------------------------------


def source_of(cfg: CfgNode, trained: str | Path, key: str, target: str | Path, epoch: int | None = None) -> dict[str, Any]:
    """What the results file of a test on a target says of the run that was trained.

    Args:
        cfg: of the source's run.
        trained: folder of the run that is loaded.
        key: the source's name among the folders.
        target: folder of the test; the source's folder is told from there.
        epoch: of the checkpoint, the last one by default.
    """
    try:
        record: Mapping[str, Any] = read_record(trained)
    except DamagedRun:  # a checkpoint without results may be tested
        record = {}
    learns = methods()[cfg.TRAINER.NAME].learns
    path = find_checkpoint(Path(trained) / LEARNER, epoch, cfg.TEST.FINAL_MODEL == "best_val") if learns else None
    marks = record.get("fingerprints") or {}
    return {
        "dataset": record.get("dataset") or cfg.DATASET.TITLE or cfg.DATASET.NAME,
        "key": key,
        "folder": Path(os.path.relpath(trained, target)).as_posix(),
        "config_hash": record.get("config_hash"),
        "split_kind": record.get("split_kind") or split_kind(cfg),
        "variant": record.get("variant") or variant_of(cfg),
        "changed": record.get("changed"),
        "classnames": record.get("classnames"),
        "data": marks.get("data"),
        "split": marks.get("split"),
        "checkpoint": hashlib.sha256(path.read_bytes()).hexdigest() if path else None,
    }


def is_tested(folder: str | Path, source: Mapping[str, Any]) -> bool:
    """Whether a target's test is done, of what the source's run holds now."""
    try:
        before = read_whole_record(folder).get("source")
    except DamagedRun:
        return False
    alike = isinstance(before, dict) and all(before.get(key) == source[key] for key in ("checkpoint", "config_hash"))
    if not alike:
        print(f"tested again: {folder}: its source was trained anew")
    return alike


def record_of(source: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a results file in which a test on a target differs from a run on its own dataset."""
    about = {key: value for key, value in source.items() if key not in ("variant", "changed")}
    return {
        "task": CROSS,
        "split": TASKS[CROSS][-1].split,
        "variant": source["variant"],
        "changed": source["changed"],
        "source": about,
    }


def trained_folder(folder: Path) -> Path | None:
    """Where the run lies that a test on a target loaded; ``None`` where that is not told."""
    try:
        source = read_record(folder).get("source")
    except DamagedRun:
        return None
    told = source.get("folder") if isinstance(source, dict) else None
    return Path(os.path.normpath(folder.resolve() / told)) if isinstance(told, str) and "\0" not in told else None
