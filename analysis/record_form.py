"""What a results file must hold to be counted: types and ranges of the fields that tables are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

SCHEMAS = (1, 2)
TEXTS = ("method", "backbone", "dataset", "split", "variant")
LARGEST = 2**63  # of seeds and shots
PRINTED = 60  # characters of a value in a message
EDGE = 1e-6  # rounding beyond 0 and 100 %


class Garbled(ValueError):
    """A field that is missing or cannot be; the message names it."""


def check_form(record: Mapping[str, Any], splits: tuple[str, ...]) -> None:
    """Refuse a results file whose fields are not what :mod:`runs.records` writes.

    Args:
        splits: that there are.

    Raises:
        Garbled: the first field that cannot be.
    """
    schema = record.get("schema", 1)
    if type(schema) is not int or schema not in SCHEMAS:
        raise Garbled(f"schema {_shown(schema)}, this version reads {' and '.join(map(str, SCHEMAS))}")
    for key in TEXTS:
        _text(key, record.get(key, None))
    if record["split"] not in splits:
        raise Garbled(f"split {_shown(record['split'])}, must be {', '.join(splits)}")
    _check_source(record)
    for key in ("num_shots", "seed"):
        if type(record.get(key)) is not int or abs(record[key]) >= LARGEST:
            raise Garbled(f"{key} {_shown(record.get(key))}, must be a whole number below 2**63")
    if type(record.get("rehearsal")) is not bool:
        raise Garbled(f"rehearsal {_shown(record.get('rehearsal'))}, must be true or false")
    _check_metrics(record.get("metrics"))
    _check_rest(record)


def _check_source(record: Mapping[str, Any]) -> None:
    """A test on another dataset names the one that was trained on, and only such a test does."""
    source = record.get("source")
    if (record["split"] == "target") != (source is not None):
        raise Garbled(f"split {_shown(record['split'])} with source {_shown(source)}: only a test on a target has one")
    if source is not None:
        if not isinstance(source, dict):
            raise Garbled(f"source {_shown(source)}, must be a mapping")
        for key in ("dataset", "folder", "split_kind"):
            _text(f"source.{key}", source.get(key))


def _check_metrics(metrics: Any) -> None:
    if not isinstance(metrics, dict) or "accuracy" not in metrics:
        raise Garbled(f"metrics {_shown(metrics)}, must hold accuracy")
    for name, value in metrics.items():
        if value is None:
            continue
        number = type(value) in (int, float) and abs(value) < LARGEST and math.isfinite(value)
        lowest, highest = (-1, 1) if name == "cohen_kappa" else (0, 100)
        if not number or not lowest - EDGE <= value <= highest + EDGE:
            raise Garbled(f"metrics.{name[:PRINTED]} {_shown(value)}, must be a number from {lowest} to {highest}")


def _check_rest(record: Mapping[str, Any]) -> None:
    """The fields that an older run need not have."""
    for key in ("modality", "organ", "config_hash", "split_kind", "dataset_class"):
        if record.get(key) is not None and record[key] != "":
            _text(key, record[key])
    changed = record.get("changed")
    pairs = changed.values() if isinstance(changed, dict) else () if changed is None else (None,)
    if not all(isinstance(pair, dict) and {"config_file", "run"} <= set(pair) for pair in pairs):
        raise Garbled(f"changed {_shown(changed)}, must hold config_file and run for each setting")
    for key in ("departures", "warnings"):
        said = record.get(key) or []
        if not isinstance(said, list) or not all(isinstance(one, str) for one in said):
            raise Garbled(f"{key} {_shown(said)}, must be a list of texts")
    if not isinstance(record.get("git") or {}, dict):
        raise Garbled(f"git {_shown(record['git'])}, must be a mapping")


def _text(key: str, value: Any) -> None:
    if not isinstance(value, str) or not value or any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in value):
        raise Garbled(f"{key} {_shown(value)}, must be a text")


def _shown(value: Any) -> str:
    if value is None:
        return "is not there"
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "of thousands of digits"
    return text if len(text) <= PRINTED else f"{text[:PRINTED]}…"
