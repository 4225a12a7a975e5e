"""Check prompt files against the rules of the library.

    python -m datasets.prompts.check                              # the files of all datasets
    python -m datasets.prompts.check btmri my_prompts.json        # these
    python -m datasets.prompts.check paper.json --loadable        # only what a run needs, for prompts of other authors

With a model at hand ``python -m explain.prompts`` does the same, counts the tokens of its text tower, and tells how well the
classes stand apart. One line per fault on standard error. Exit status: 0 no fault, 1 faults, 2 a mistake in the call.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dassl.utils import UserError, nearest
from datasets import by_key, splits
from datasets.facts import DatasetFacts
from datasets.prompts import rules
from datasets.prompts.files import FOLDER, facts_for, read_record
from entry import program

MOVED = ("--backbone", "--backbone-path", "--separability")
Record = dict[str, Any]


def check_record(record: dict[str, Any], facts: DatasetFacts, *, library: bool = True) -> list[str]:
    """The faults of a prompt file's content, in words.

    Args:
        library: all rules; else only what a run needs: the form, every class, no sentence twice, none too long.
    """
    faults = rules.form_faults(record, library=library)
    if faults:
        return faults
    faults += _class_name_faults(record, facts)
    texts = {name: [rules.entry_text(entry) for entry in entries] for name, entries in record["prompts"].items()}
    if library:
        about = {"dataset": facts.name, "modality": facts.modality, "organ": facts.organ, "template": facts.template}
        faults += [f'"{k}" is "{record[k]}", the dataset has "{said}"' for k, said in about.items() if record[k] != said]
        for name, entries in record["prompts"].items():
            faults += [f"{name}: {fault}" for fault in rules.class_faults(entries, name, facts.modality)]
        for one, other, shared in rules.near_duplicates(texts, facts.modality):
            faults.append(f"{one} and {other} are near-duplicates ({shared:.2f} of their words are the same)")
    else:
        faults += _loadable_faults(texts)
    return faults


def _class_name_faults(record: dict[str, Any], facts: DatasetFacts) -> Iterator[str]:
    written = list(record["prompts"])
    for name in facts.classnames:
        if name not in written:
            yield f'no prompts for the class "{name}"'
    for name in written:
        if name not in facts.classnames:
            yield f'"{name}" is no class of {facts.name}.{nearest(name, facts.classnames)}'
    if set(written) == set(facts.classnames) and written != list(facts.classnames):
        yield f"the classes stand in another order than {', '.join(facts.classnames)}"


def _loadable_faults(texts: dict[str, list[str]]) -> Iterator[str]:
    for name, sentences in texts.items():
        first: dict[str, int] = {}
        for number, text in enumerate(sentences, start=1):
            before = first.setdefault(text, number)
            if before != number:
                yield f"{name}: sentence {number} repeats sentence {before}"
            if rules.longest_tokens(text) > rules.CONTEXT:
                yield f"{name}: sentence {number} may exceed the {rules.CONTEXT} tokens of the text tower"


def split_faults(facts: DatasetFacts, root: Path) -> list[str]:
    """Classes of a dataset's split file below ``root`` that are spelt otherwise than the dataset's class names."""
    path = root / facts.name / f"split_{facts.name}.json"
    split = splits.read_split(path)
    names = {name for part in splits.PARTS for _, _, name in split[part]}
    return [
        f'{path} has the class "{name}", which has no prompts.{nearest(name, facts.classnames)}'
        for name in sorted(names - set(facts.classnames))
    ]


def files_to_check(words: Sequence[str]) -> list[Path]:
    """The file of each argument (a dataset's key or a file); all datasets' files without arguments.

    Raises:
        UserError: a word that is neither, or a prompt file in the library that belongs to no dataset.
    """
    unknown = [word for word in words if not word.endswith(".json") and word not in by_key()]
    if unknown:
        raise UserError(f'"{unknown[0]}" is neither a dataset nor a JSON file.{nearest(unknown[0], by_key())}')
    strays = sorted(path.name for path in FOLDER.glob("*.json") if path.stem not in by_key())
    if strays and not words:
        raise UserError(f"{FOLDER} has prompt files of no dataset: {', '.join(strays)}")
    return [Path(word) if word.endswith(".json") else FOLDER / f"{word}.json" for word in words or by_key()]


def check_file(path: Path, args: argparse.Namespace, more: Callable[[Record], Iterable[str]]) -> Record | None:
    """Check one file, print its faults (standard error) or that it has none; its content when it has none."""
    try:
        record, _ = read_record(path)
    except UserError as error:
        print(f"fault: {error}", file=sys.stderr)
        return None
    facts = facts_for(args.dataset or str(record.get("dataset") or path.stem))
    faults = check_record(record, facts, library=not args.loadable)
    faults += split_faults(facts, args.root) if args.root else []
    faults += more(record)
    for fault in faults:
        print(f"fault: {path}: {fault}", file=sys.stderr)
    if faults:
        return None
    print(f"{path}: {_size([record])}, no faults")
    return record


def _size(records: Sequence[dict[str, Any]]) -> str:
    classes = [entries for record in records for entries in record["prompts"].values()]
    return f"{len(classes)} classes, {sum(map(len, classes))} prompts"


def check_files(
    args: argparse.Namespace, more: Callable[[Record], Iterable[str]] = lambda record: ()
) -> tuple[list[tuple[Path, Record]], int]:
    """Check the files that the arguments name.

    Args:
        args: of :func:`add_arguments`.
        more: further faults of a file's content.

    Returns:
        The files without faults with their content; and the exit status, 1 if there are others.

    Raises:
        UserError: a name that is neither a dataset nor a file.
    """
    paths = files_to_check(args.files)
    checked = [(path, check_file(path, args, more)) for path in paths]
    good = [(path, record) for path, record in checked if record]
    print(f"{len(good)} of {len(paths)} files without faults: {_size([record for _, record in good])}")
    return good, 0 if len(good) == len(paths) else 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which files are checked, and against what."""
    parser.add_argument("files", nargs="*", help="dataset keys or JSON files; all datasets by default")
    parser.add_argument("--dataset", default="", help="what the files are about: key, name or YAML; as they say by default")
    parser.add_argument("--loadable", action="store_true", help="only what a run needs")
    parser.add_argument("--root", type=Path, help="folder of the datasets: also compare with the split files there")


def run(args: argparse.Namespace) -> int:
    if any(getattr(args, option[2:].replace("-", "_")) for option in MOVED):
        raise UserError(f"{', '.join(MOVED)} need a model: they are options of python -m explain.prompts")
    return check_files(args)[1]


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 no fault, 1 faults, 2 a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    for option in MOVED:
        parser.add_argument(option, default="", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    return run(args)


if __name__ == "__main__":
    sys.exit(main())
