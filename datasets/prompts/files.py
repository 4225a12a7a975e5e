"""Prompt files: what a dataset's file is about, reading, writing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from dassl.utils import UserError, atomic, nearest
from datasets import by_key
from datasets.prompts import rules
from datasets.prompts.rules import Subject

FOLDER = Path(__file__).parent


def subject_of(dataset: str) -> Subject:
    """What the prompts of a dataset speak of.

    Args:
        dataset: a published dataset's key or name ("btmri", "BTMRI"), or a dataset's YAML file.

    Raises:
        UserError: no such dataset or file, or a YAML without modality or class names.
    """
    if dataset.endswith((".yaml", ".yml")):
        return _from_yaml(Path(dataset))
    known = {name.lower(): cls for key, cls in by_key().items() for name in (key, cls.__name__, cls.dataset_dir)}
    cls = known.get(dataset.lower())
    if cls is None:
        raise UserError(
            f'unknown dataset "{dataset}".{nearest(dataset, known)} Valid: {", ".join(by_key())}, or a dataset\'s YAML file'
        )
    return Subject(cls.__name__, cls.modality, cls.organ, cls.template, cls.published_classnames)


def _from_yaml(path: Path) -> Subject:
    try:
        own = dict(yaml.safe_load(path.read_text(encoding="utf-8"))["DATASET"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        raise UserError(f"{path} is no readable dataset file with a section DATASET: {error!r}") from error
    known = {cls.__name__: key for key, cls in by_key().items()}
    name = str(own.get("NAME", ""))
    if name in known:
        return subject_of(known[name])
    folder = Path(str(own.get("FOLDER") or "/nowhere")).expanduser()
    names = own.get("CLASSNAMES") or [
        entry.name.replace("_", " ")
        for entry in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if entry.is_dir() and not entry.name.startswith(".")
    ]
    if not own.get("MODALITY") or not names:
        raise UserError(f"{path} needs DATASET.MODALITY, and DATASET.CLASSNAMES or a DATASET.FOLDER that is there")
    modality = str(own["MODALITY"])
    template = own.get("TEMPLATE") or f"a {modality} photo of a {{}}."
    return Subject(folder.name, modality, str(own.get("ORGAN") or "body"), str(template), tuple(map(str, names)))


def new_record(
    subject: Subject, prompts: Mapping[str, Sequence[Any]], *, language_model: str, instruction: str, licence: str
) -> dict[str, Any]:
    """A prompt file's content, dated today, keys in the order in which they are written."""
    return {
        "dataset": subject.dataset,
        "modality": subject.modality,
        "organ": subject.organ,
        "template": subject.template,
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
        record = json.loads(raw, object_pairs_hook=_unique)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a readable JSON file: {' '.join(str(error).split())}") from error
    faults = rules.form_faults(record, library=False)
    if faults:
        raise UserError(f"{path}: {faults[0]}")
    return record, raw


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
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


def exit_status(work: Callable[[], int]) -> int:
    """What ``work`` returns; 2 for a user's mistake, told in one line on standard error."""
    try:
        return work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
