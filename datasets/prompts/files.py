"""Prompt files: what a dataset's file is about, reading, writing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.utils import UserError, atomic
from datasets import by_key, of_name
from datasets.config import read_yaml
from datasets.facts import DatasetFacts, facts_without_images
from datasets.made_splits import part_of
from datasets.names import spelled
from datasets.never_data import data_folders
from datasets.prompts import rules

FOLDER = Path(__file__).parent
# what is read of a YAML
OWN_KEYS = {"NAME": "", "TITLE": "", "FOLDER": "", "CSV": "", "MODALITY": "", "ORGAN": "", "TEMPLATE": "", "CLASSNAMES": []}


def facts_for(dataset: str) -> DatasetFacts:
    """What the prompts of a dataset speak of: its name, words and class names in label order, without its images.

    Args:
        dataset: a published dataset's key or name ("btmri", "BTMRI"), or a dataset's YAML file.

    Raises:
        UserError: no such dataset or file, or a YAML without modality or class names.
    """
    if dataset.endswith((".yaml", ".yml")):
        return _from_yaml(Path(dataset))
    cls = of_name(dataset)
    return DatasetFacts(cls.__name__, cls.key, cls.modality, cls.organ, cls.template, cls.published_classnames)


def _from_yaml(path: Path) -> DatasetFacts:
    try:
        own = OWN_KEYS | read_yaml(path)["DATASET"]
    except (UserError, TypeError, KeyError) as error:
        raise UserError(f"{path} is no readable dataset file with a section DATASET: {error!r}") from error
    published = {cls.__name__: key for key, cls in by_key().items()}
    if own["NAME"] in published:
        return facts_for(published[own["NAME"]])
    folder = Path(own["FOLDER"] or "/nowhere").expanduser()
    elsewhere = next((key for key in ("CSV", "INCLUDE", "EXCLUDE") if own.get(key)), "")
    if (folder / "split.json").is_file() and not elsewhere:
        elsewhere = "a split.json"
    if elsewhere and not own["CLASSNAMES"]:
        raise UserError(f"{path}: with {elsewhere} the folders are not all of the classes: name them in DATASET.CLASSNAMES")
    names = own["CLASSNAMES"] or ([spelled(entry.name) for entry in data_folders(folder)] if folder.is_dir() else [])
    names = list(names.values()) if isinstance(names, dict) else names  # a mapping from folders
    if any(part_of(str(name)) for name in names):
        raise UserError(f"{path}: {folder} has parts of a split for folders: name the classes in DATASET.CLASSNAMES")
    own["TITLE"] = str(own["TITLE"]).strip() or path.stem
    if not own["MODALITY"] or not names:
        raise UserError(f"{path} needs DATASET.MODALITY, and DATASET.CLASSNAMES or a DATASET.FOLDER that is there")
    found = facts_without_images(CfgNode({"DATASET": own}), [str(name) for name in names])
    return replace(found, organ=found.organ or "body")


def new_record(
    facts: DatasetFacts, prompts: Mapping[str, Sequence[Any]], *, language_model: str, instruction: str, licence: str
) -> dict[str, Any]:
    """A prompt file's content, dated today, keys in the order in which they are written."""
    return {
        "dataset": facts.name,
        "modality": facts.modality,
        "organ": facts.organ,
        "template": facts.template,
        "language_model": language_model,
        "instruction": instruction,
        "date": date.today().isoformat(),
        "licence": licence,
        "prompts": dict(prompts),
    }


def read_record(path: Path) -> tuple[dict[str, Any], bytes]:
    """A prompt file's content and its bytes.

    Raises:
        UserError: not there, no JSON, a key given twice, or not ``{"prompts": {class name: [sentence, …]}}``.
    """
    if not path.is_file():
        raise UserError(f"no prompt file {path}")
    try:
        raw = path.read_bytes()
        record = json.loads(raw, object_pairs_hook=unique)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a readable JSON file: {' '.join(str(error).split())}") from error
    faults = rules.form_faults(record, library=False)
    if faults:
        raise UserError(f"{path}: {faults[0]}")
    return record, raw


def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ: of two equal ones JSON would keep the last without a word."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f'"{key}" stands there twice')
        found[key] = value
    return found


def write_record(record: Mapping[str, Any], path: Path) -> None:
    """Write a prompt file whole or not at all."""
    with atomic(path) as temporary:
        Path(temporary).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
