"""The LLM-written prompts of each dataset: ``<key>.json`` with 50 sentences per class and where they come from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dassl.utils import UserError, nearest
from datasets.prompts.files import FOLDER, read_record
from datasets.prompts.rules import entry_text
from datasets.prompts.templates import template_prompts

CONVERTIBLE = (".py", ".csv")
TEMPLATE_ENSEMBLE = "template"  # the value of DATASET.PROMPTS that asks for sentences made of the class names


@dataclass(frozen=True)
class PromptSet:
    """Sentences by class name, the file's SHA-256, and the file; of made sentences their own SHA-256, and "template"."""

    texts: dict[str, list[str]]
    sha256: str
    path: Path


def prompts_for(
    given: str, key: str, classnames: Sequence[str], n_prompts: int, *, template: str, modality: str, organ: str
) -> PromptSet:
    """What a method that reads LLM prompts reads on a dataset.

    Args:
        given: DATASET.PROMPTS: a file, "template" for sentences made of the class names, or "" for the library's of ``key``.
        template, modality, organ: the dataset's, for made sentences.

    Raises:
        UserError: as :func:`load_prompts`.
    """
    if given != TEMPLATE_ENSEMBLE:
        return load_prompts(given or key, classnames, n_prompts)
    texts = template_prompts(classnames, template, modality, organ, n_prompts)
    return PromptSet(texts, hashlib.sha256(json.dumps(texts).encode()).hexdigest(), Path(TEMPLATE_ENSEMBLE))


def load_prompts(path_or_key: str | Path, classnames: Sequence[str], n_prompts: int) -> PromptSet:
    """The first ``n_prompts`` sentences of each class.

    Args:
        path_or_key: a dataset's key, or a JSON file ``{"prompts": {classname: [{"text": …}, …]}}``; plain strings
            instead of objects are understood. Other forms are for ``python -m datasets.prompts.convert``.

    Raises:
        UserError: no such file, another form, a class without prompts, or fewer than ``n_prompts`` of them.
    """
    path = Path(path_or_key).expanduser()
    if path.suffix in CONVERTIBLE:
        raise UserError(
            f"DATASET.PROMPTS {path} is no JSON file. Convert it once: "
            f"python -m datasets.prompts.convert {path} --dataset NAME -o {path.stem}.json"
        )
    if path.suffix != ".json":
        path = FOLDER / f"{path_or_key}.json"
    if not path.is_file():
        have = ", ".join(sorted(p.stem for p in FOLDER.glob("*.json")))
        raise UserError(
            f"no LLM prompts for this dataset: {path} is not there (prompts exist for: {have}). Three ways: have them written, "
            "python -m datasets.prompts.generate --dataset YOUR.yaml --model MODEL -o mine.json; name a file of your own, "
            f"{n_prompts} sentences per class, DATASET.PROMPTS mine.json (docs/PROMPTS.md); or sentences made of the class "
            "names alone, DATASET.PROMPTS template, which results and tables then say"
        )
    record, raw = read_record(path)
    by_name = {name: [entry_text(entry) for entry in entries] for name, entries in record["prompts"].items()}
    texts = {}
    for name in classnames:
        if name not in by_name:
            raise UserError(f'{path} has no prompts for the class "{name}".{nearest(name, list(by_name))}')
        if len(by_name[name]) < n_prompts:
            raise UserError(f'{path} has {len(by_name[name])} prompts for "{name}", {n_prompts} are needed (N_PROMPTS)')
        texts[name] = by_name[name][:n_prompts]
    return PromptSet(texts, hashlib.sha256(raw).hexdigest(), path)
