"""Labelled images from anywhere, for a run that is trained already: class folders, a table, or a dataset's YAML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UserError, nearest
from datasets import tables
from datasets.base import BiomedDataset
from datasets.class_names import plain
from datasets.config import data_config
from datasets.image_folder import ImageFolderSplit
from datasets.layouts import folder_samples
from datasets.made_splits import Sample, part_of
from datasets.never_data import LeftOut, data_folders
from datasets.splits import PARTS, read_split

YAMLS = (".yaml", ".yml")
ROOT = "data"  # of a YAML file's dataset, where nothing says otherwise


@dataclass(frozen=True)
class Labelled:
    """Images, the number of each one's class in the run, and what is to be said of how they were read."""

    paths: list[Path]
    labels: list[int]
    notes: list[str]


def labelled_images(
    source: Path,
    classnames: Sequence[str],
    opts: Sequence[str] = (),
    part: str = "",
    mapping: Mapping[str, str] | None = None,
) -> Labelled:
    """The images of ``source`` with their labels.

    Args:
        source: a folder of class folders, a CSV as DATASET.CSV is, or a dataset's YAML file.
        classnames: of the run, in label order.
        opts: ``KEY VALUE`` pairs of DATASET and INPUT that say how to read it.
        part: of a split ("train", "val", "test"), where the source is divided into such.
        mapping: folders (or labels) with other names than their classes, as the run's own dataset had them.

    Raises:
        UserError: no such source, one that cannot be read, classes that the run does not have, or no part where one is needed.
    """
    if not source.exists():
        raise UserError(f"no such file or folder: {source}")
    found = (_of_dataset if source.suffix.lower() in YAMLS else _of_images)(source, opts, part)
    given = {str(key): str(name) for key, name in (mapping or {}).items()} | found.mapping
    keys = list(dict.fromkeys(sample.key for sample in found.samples))
    if not keys:
        raise UserError(f"{source} has no labelled images" + (f" in its part {part}" if part else ""))
    labels, notes = _labels(keys, classnames, given, str(source), found.what)
    absent = [name for label, name in enumerate(classnames) if label not in set(labels.values())]
    if absent:
        notes.append(f"no images of {', '.join(absent)}")
    notes = [*found.notes, *notes]
    return Labelled([found.folder / s.path for s in found.samples], [labels[s.key] for s in found.samples], notes)


@dataclass(frozen=True)
class _Found:
    folder: Path
    samples: list[Sample]
    what: str  # a key is: "folder", "label" or "class"
    notes: list[str]
    mapping: Mapping[str, str]


def _of_dataset(source: Path, opts: Sequence[str], part: str) -> _Found:
    cfg = data_config(str(source), opts)
    cfg.DATASET.ROOT = cfg.DATASET.ROOT or ROOT
    if not cfg.DATASET.NAME:
        raise UserError(f"{source} names no dataset (DATASET.NAME)")
    cls = DATASET_REGISTRY.get(cfg.DATASET.NAME)
    if not (isinstance(cls, type) and issubclass(cls, BiomedDataset)):
        raise UserError(f"{cfg.DATASET.NAME} is a dataset of another project: name a folder of class folders, or a CSV")
    if not part:
        raise UserError(f"{source} has the parts {', '.join(PARTS)}: say which, --part test")
    dataset, split = cls.opened(cfg)
    return _Found(dataset.image_folder, [Sample(path, name) for path, _, name in split[part]], "class", list(dataset.notes), {})


def _of_images(source: Path, opts: Sequence[str], part: str) -> _Found:
    for key in opts[::2]:
        if key in ("DATASET.NAME", "DATASET.FOLDER", "DATASET.CSV"):
            raise UserError(f"{key} is told by {source} already: leave it out, or name a dataset's YAML file")
    cfg = data_config("", ["DATASET.NAME", ImageFolderSplit.__name__, *opts])
    own, table = cfg.DATASET, _table(source)
    folder = source.resolve() if source.is_dir() else source.resolve().parent
    mapping = {str(key): str(name) for key, name in zip(own.CLASS_FOLDERS, own.CLASSNAMES, strict=False)}
    kept = folder / "split.json"
    if table is None and kept.is_file():
        if not part:
            raise UserError(f"{kept} divides the images into {', '.join(PARTS)}: say which, --part test")
        samples = [Sample(path, name) for path, _, name in read_split(kept)[part]]
        return _Found(folder, samples, "class", [], mapping)
    if table is not None:
        samples, notes = tables.table_samples(table.resolve(), folder, own)
        return _Found(folder, _chosen(samples, part, table), "label", notes, mapping)
    left_out = LeftOut()
    _refuse_parts(folder, own, part)
    samples, notes = folder_samples(folder, own, left_out)
    notes += [str(left_out)] if str(left_out) else []
    return _Found(folder, _chosen(samples, part, source), "folder", notes, mapping)


def _table(source: Path) -> Path | None:
    """The table that ``source`` is, or that lies alone among loose images; ``None`` for a folder of folders."""
    if source.is_file():
        if source.suffix.lower() not in (".csv", ".tsv", ".txt"):
            raise UserError(f"{source} is no folder of class folders, no CSV and no dataset's YAML file")
        return source
    csvs = sorted(source.glob("*.csv"))
    return csvs[0] if len(csvs) == 1 and not data_folders(source) else None


def _refuse_parts(folder: Path, own: CfgNode, part: str) -> None:
    """Folders of parts, of which the reader of training data asks that train be among them."""
    tops = [top.name for top in data_folders(folder)]
    found = {top: part_of(top) for top in tops if part_of(top)}
    if not found or len(found) < len(tops) or {plain(top) for top in tops} & {plain(str(name)) for name in own.CLASSNAMES}:
        return
    wanted = next((top for top, of in found.items() if of == part), next(iter(found)))
    if not part or "train" not in found.values():
        raise UserError(f"{folder} holds parts of a split ({', '.join(found)}): name one of them, {folder / wanted}")


def _chosen(samples: Iterable[Sample], part: str, where: Path) -> list[Sample]:
    samples = list(samples)
    there = [name for name in PARTS if any(sample.part == name for sample in samples)]
    if not there and part:
        raise UserError(f"{where} is not divided into parts: leave out --part {part}")
    if len(there) > 1 and not part:
        counts = ", ".join(f"{name} {sum(sample.part == name for sample in samples)}" for name in there)
        raise UserError(f"{where} has parts of a split ({counts}): say which, --part {there[-1]}")
    return [sample for sample in samples if not part or sample.part == part]


def _labels(
    keys: Sequence[str], classnames: Sequence[str], mapping: Mapping[str, str], where: str, what: str
) -> tuple[dict[str, int], list[str]]:
    """The run's label of each key, and what is to be said.

    Raises:
        UserError: a key that stands for no class of the run.
    """
    by_name = {plain(name): label for label, name in enumerate(classnames)}
    names = {plain(key): name for key, name in mapping.items()}
    labels, unknown = {}, []
    for key in keys:
        label = by_name.get(plain(names.get(plain(key), key)))
        if label is None:
            unknown.append(key)
        else:
            labels[key] = label
    numbers = all(key.isdecimal() and int(key) < len(classnames) for key in keys)
    if unknown == list(keys) and numbers:
        shown = ", ".join(f"{key} = {classnames[int(key)]}" for key in sorted(keys, key=int))
        return {key: int(key) for key in keys}, [f"{what}s to classes by their number: {shown}"]
    if unknown:
        leave = f", or leave it out, --data DATASET.EXCLUDE '[\"{unknown[0]}\"]'" if what == "folder" else ""
        raise UserError(
            f"{where}: the {what} {', '.join(unknown[:6])} is no class of the run ({', '.join(classnames)})."
            f"{nearest(unknown[0], classnames)} Map it, --data DATASET.CLASS_FOLDERS '[\"{unknown[0]}\"]' DATASET.CLASSNAMES "
            f"'[\"{classnames[0]}\"]'{leave}"
        )
    return labels, []


def mapping_of(cfg: CfgNode) -> dict[str, str]:
    """Folder (or label) to class name of the run's own images, where its config has it."""
    own = cfg.DATASET
    return {str(key): str(name) for key, name in zip(own.CLASS_FOLDERS, own.CLASSNAMES, strict=False)}
