"""Bring prompts of other authors into the JSON form that runs read, word for word.

    python -m datasets.prompts.convert prompt_templates.py --dataset btmri -o paper_btmri.json
    python -m datasets.prompts.convert prompts.csv --dataset configs/datasets/mine.yaml -o mine.json

FILE is one of
* a Python file of dictionaries class name -> list of sentences. It is parsed, never executed: a file that holds anything
  but assignments of literals is refused;
* a CSV file with the columns ``class`` and ``text``, and perhaps ``attribute``;
* a JSON file {class name: [sentence, …]}, perhaps below "prompts" or the dataset's name.
"""

from __future__ import annotations

import argparse
import ast
import csv
import hashlib
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dassl.utils import UserError, nearest
from datasets.facts import DatasetFacts
from datasets.prompts import rules
from datasets.prompts.check import check_record
from datasets.prompts.files import facts_for, new_record, unique, write_record
from entry import program

MAX_BYTES = 20_000_000
COLUMNS = {"class": ("class", "classname", "class_name"), "text": ("text", "prompt", "sentence"), "attribute": ("attribute",)}
PLAIN_TYPE = (ast.Name, ast.Attribute, ast.Subscript, ast.Tuple, ast.Constant, ast.expr_context)  # dict[str, list[str]]
Entry = str | dict[str, str]


def read_python(source: str, path: Path) -> Iterator[tuple[str, Any]]:
    """The dictionaries of a Python file, ``name, value``, without executing a line of it.

    Raises:
        UserError: no Python, or anything in it but assignments of literals, docstrings and ``pass``.
    """
    try:
        module = ast.parse(source)
        for node in module.body:
            if isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
                continue
            name = _assigned_name(node)
            if name is None:
                raise _refusal(path, node)
            try:
                value = ast.literal_eval(node.value)
            except (ValueError, TypeError) as error:
                raise _refusal(path, node) from error
            for part in ast.walk(node.value):
                if isinstance(part, ast.Dict):
                    unique([(ast.unparse(key), None) for key in part.keys if key is not None])
            if isinstance(value, dict):
                yield name, value
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{path} cannot be parsed as a Python file of dictionaries: {error}") from error


def _assigned_name(node: ast.stmt) -> str | None:
    """X of ``X = …`` and of ``X: type = …``; ``None`` of any other statement."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    annotated = isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name)
    if annotated and all(isinstance(part, PLAIN_TYPE) for part in ast.walk(node.annotation)):
        return node.target.id
    return None


def _refusal(path: Path, node: ast.stmt) -> UserError:
    return UserError(
        f"{path}, line {node.lineno}: refused, nothing was executed: the file may hold only dictionaries of literal "
        f"sentences, here stands code ({type(node).__name__})"
    )


def read_csv(source: str, path: Path) -> dict[str, list[Entry]]:
    """Sentences by class from the columns ``class``, ``text`` and perhaps ``attribute``.

    Raises:
        UserError: no such columns, or a row without class or text.
    """
    try:
        rows = csv.reader(io.StringIO(source, newline=""), strict=True)
        header = [name.strip().lower().lstrip("\ufeff") for name in next(rows, [])]
        places = {key: [header.index(name) for name in names if name in header] for key, names in COLUMNS.items()}
        if not places["class"] or not places["text"]:
            raise UserError(f'{path} needs the columns "class" and "text" in its first line, has: {", ".join(header)}')
        found: dict[str, list[Entry]] = {}
        for row in filter(None, rows):
            cells = {key: row[where[0]] for key, where in places.items() if where and where[0] < len(row)}
            if not cells.get("class", "").strip() or not cells.get("text", "").strip():
                raise UserError(f"{path}, line {rows.line_num}: no class or no text")
            entry: Entry = {"text": cells["text"], "attribute": cells["attribute"]} if cells.get("attribute") else cells["text"]
            found.setdefault(cells["class"].strip(), []).append(entry)
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num} is no CSV: {error}") from error
    return found


def read_any(path: Path) -> tuple[list[tuple[str, Any]], bytes]:
    """The dictionaries in a file, ``(name, value)``, and the file's bytes.

    Raises:
        UserError: unreadable, of another kind, or refused.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than {MAX_BYTES // 1_000_000} MB: that is no file of sentences")
        raw = path.read_bytes()
        source = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable UTF-8 file: {error}") from error
    if path.suffix == ".py":
        return list(read_python(source, path)), raw
    if path.suffix == ".csv":
        return [("rows", read_csv(source, path))], raw
    if path.suffix == ".json":
        try:
            return [("JSON", json.loads(source, object_pairs_hook=unique))], raw
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is no JSON: {error}") from error
    raise UserError(f'{path} ends in "{path.suffix}", must be a .py, .csv or .json file')


def named(dictionaries: Sequence[tuple[str, Any]], name: str, path: Path) -> list[tuple[str, Any]]:
    """The dictionaries that are called ``name``; all of them for "".

    Raises:
        UserError: none is.
    """
    chosen = [(where, value) for where, value in dictionaries if name in ("", where)]
    if not chosen:
        have = [where for where, _ in dictionaries]
        raise UserError(f'{path} has no dictionary "{name}".{nearest(name, have)} It has: {", ".join(have) or "none"}')
    return chosen


def pick(dictionaries: Sequence[tuple[str, Any]], facts: DatasetFacts, path: Path) -> dict[str, list[Entry]]:
    """The sentences of the dataset's classes, in label order, spelt as the dataset spells the classes.

    Raises:
        UserError: a class without sentences, or with different sentences in two places.
    """
    found: dict[str, tuple[str, list[Entry]]] = {}
    spelt = {_plain(name): name for name in facts.classnames}
    for where, mapping in _mappings(dictionaries, facts):
        for key, value in mapping.items():
            name = spelt.get(_plain(key)) if isinstance(key, str) else None
            if name is None or not isinstance(value, (list, tuple)) or not value:
                continue
            before = found.setdefault(name, (where, list(value)))
            if before[1] != list(value):
                raise UserError(
                    f'{path} has two different lists for "{name}": in {before[0]} and in {where}. Choose one: '
                    f"--dictionary {before[0].split('[')[0]}"
                )
    absent = [name for name in facts.classnames if name not in found]
    if absent:
        raise UserError(f"{path} has no list of sentences for {', '.join(absent)} of {facts.name}")
    return {name: found[name][1] for name in facts.classnames}


def _mappings(dictionaries: Sequence[tuple[str, Any]], facts: DatasetFacts) -> Iterator[tuple[str, dict[Any, Any]]]:
    """The dictionaries, and those that stand in them under "prompts" or the dataset's name."""
    for where, value in dictionaries:
        if isinstance(value, dict):
            yield where, value
            inner = [(f"{where}[{key!r}]", value[key]) for key in ("prompts", facts.name) if key in value]
            yield from _mappings(inner, facts)


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").lower().split())


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--dataset", required=True, help="key or name of a dataset, or its YAML file")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file to write; never an existing one")
    parser.add_argument("--dictionary", default="", help="of several in a Python file: the name of the one that is meant")
    parser.add_argument("--language-model", default="not stated", help="who wrote the sentences, for the file's head")
    parser.add_argument("--licence", default="not stated", help="licence of the sentences, for the file's head")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    if args.output.exists():
        raise UserError(f"{args.output} is there already: remove it or choose another file with -o")
    if args.output.suffix != ".json":
        raise UserError(f"{args.output} must end in .json: that is what runs read")
    facts = facts_for(args.dataset)
    dictionaries, raw = read_any(args.file)
    dictionaries = named(dictionaries, args.dictionary, args.file)
    of = f", {args.dictionary}" if args.dictionary else ""
    record = new_record(
        facts,
        pick(dictionaries, facts, args.file),
        language_model=args.language_model,
        instruction=f"not stated; imported from {args.file.name}{of}, SHA-256 {hashlib.sha256(raw).hexdigest()}",
        licence=args.licence,
    )
    broken = rules.form_faults(record, library=False)
    if broken:
        raise UserError(f"{args.file}: {broken[0]}")
    for fault in check_record(record, facts, library=False):
        print(f"note, kept as it is: {fault}", file=sys.stderr)
    try:
        write_record(record, args.output)
    except OSError as error:
        raise UserError(f"{args.output} cannot be written ({error.strerror})") from error
    counts = ", ".join(f"{name} {len(entries)}" for name, entries in record["prompts"].items())
    print(f"written: {args.output} ({counts}). Use it with DATASET.PROMPTS {args.output}")
    return 0


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 written, 2 refused or a user's mistake."""
    args = arguments(argv)
    return run(args)


if __name__ == "__main__":
    sys.exit(main())
