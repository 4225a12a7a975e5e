"""Have a language model write the prompts of a dataset, by any OpenAI-compatible endpoint.

    OPENAI_API_KEY=… python -m datasets.prompts.generate --dataset btmri --model NAME -o mine.json
    OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_API_KEY=none python -m datasets.prompts.generate …

What the rules of the library refuse is dropped and asked for again. The file is written after every answer, whole or not
at all; the same command goes on where an interrupted one was. Sentences that keep the rules are never overwritten.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dassl.utils import UserError
from datasets import by_key
from datasets.facts import DatasetFacts
from datasets.prompts import rules
from datasets.prompts.check import check_record
from datasets.prompts.endpoint import BadAnswer, Endpoint
from datasets.prompts.files import FOLDER, facts_for, new_record, read_record, write_record
from entry import program

FORM = (
    'Answer with JSON alone: {"prompts": [{"text": "…", "attribute": "…"}, …]}. The attribute is one of '
    + ", ".join(rules.ATTRIBUTES)
    + f"; at least {rules.PER_ATTRIBUTE} sentences on each. Spell the class name exactly as given, end each sentence with "
    f"a full stop, and begin at most {rules.SAME_OPENING} with the same two words."
)


class Draft:
    """The accepted sentences of a dataset; takes in what keeps the rules, and nothing else.

    Args:
        facts: what the sentences are about.
    """

    def __init__(self, facts: DatasetFacts) -> None:
        self.facts = facts
        self.prompts: dict[str, list[dict[str, str]]] = {name: [] for name in facts.classnames}
        self._bags: list[frozenset[str]] = []

    def missing(self, classname: str) -> int:
        """Sentences that the class still needs."""
        return rules.PER_CLASS - len(self.prompts[classname])

    def wanted(self, classname: str) -> dict[str, int]:
        """Sentences that the class still needs on an attribute, where it needs any."""
        have = Counter(entry["attribute"] for entry in self.prompts[classname])
        return {a: rules.PER_ATTRIBUTE - have[a] for a in rules.ATTRIBUTES if have[a] < rules.PER_ATTRIBUTE}

    def take(self, classname: str, entry: dict[str, str]) -> str:
        """Accept a sentence; why it was not accepted, or nothing."""
        text, attribute = entry["text"], entry["attribute"]
        kept, wanted = self.prompts[classname], self.wanted(classname)
        faults = rules.sentence_faults(text, classname, self.facts.modality)
        if faults:
            return faults[0]
        if attribute not in rules.ATTRIBUTES:
            return f'unknown attribute "{attribute}"'
        if self.missing(classname) - (attribute not in wanted) < sum(wanted.values()):
            return "no room: other attributes are needed"
        if sum(rules.opening(other["text"]) == rules.opening(text) for other in kept) >= rules.SAME_OPENING:
            return "begins like too many others"
        bag = rules.content_words(text, classname, self.facts.modality)
        if any(rules.overlap(bag, other) >= rules.OVERLAP for other in self._bags):
            return "a duplicate or near-duplicate"
        kept.append({"text": text, "attribute": attribute})
        self._bags.append(bag)
        return ""

    def question(self, classname: str) -> str:
        """What to ask the model for this class now."""
        parts = [rules.instruction_for(self.facts, classname), FORM]
        kept, missing, wanted = self.prompts[classname], self.missing(classname), self.wanted(classname)
        if kept:
            needed = ", ".join(f"{count} on {attribute}" for attribute, count in wanted.items())
            parts.append(
                f"Of the {rules.PER_CLASS} sentences {len(kept)} are written. Write the other {missing}"
                + (f", among them {needed}" if needed else "")
                + ", and none like these:\n"
                + "\n".join(entry["text"] for entry in kept)
            )
        return "\n\n".join(parts)


def resume(path: Path, draft: Draft, model: str) -> dict[str, Any]:
    """Take the good sentences of an earlier file into the draft; the file's record, or a new one.

    Raises:
        UserError: the file is no prompt file, of another dataset, or unfinished and by another model.
    """
    facts = draft.facts
    fresh = new_record(facts, {}, language_model=model, instruction=rules.INSTRUCTION, licence="")
    if not path.exists():
        return fresh
    record, _ = read_record(path)
    if record.get("dataset") != facts.name:
        raise UserError(f'{path} is about "{record.get("dataset")}", not {facts.name}: choose another file with -o')
    if not check_record(record, facts):
        draft.prompts = record["prompts"]
        return record
    if record.get("language_model") != model:
        raise UserError(
            f"{path} holds unfinished prompts by {record.get('language_model')}: choose another file with -o, or that model"
        )
    unknown = set(record["prompts"]) - set(facts.classnames)
    if unknown:
        raise UserError(f"{path} has prompts for {', '.join(sorted(unknown))}, no class of {facts.name}")
    for name, entries in record["prompts"].items():
        for entry in entries:
            plain = {"text": rules.entry_text(entry), "attribute": "" if isinstance(entry, str) else entry.get("attribute", "")}
            reason = draft.take(name, plain)
            if reason:
                print(f"{path}: {name}: to be written anew ({reason}): {plain['text']}", file=sys.stderr)
    return fresh | {key: record[key] for key in ("date", "licence") if record.get(key)}


def fill_class(draft: Draft, classname: str, endpoint: Endpoint, patience: int, save: Callable[[], None], bar: tqdm) -> None:
    """Ask until the class is complete; every answer's good sentences are saved at once.

    Raises:
        UserError: ``patience`` answers in a row without one usable sentence.
    """
    fruitless = 0
    while draft.missing(classname):
        refused: Counter[str] = Counter()
        before = draft.missing(classname)
        try:
            for entry in endpoint.ask(draft.question(classname)):
                if draft.missing(classname):
                    refused[draft.take(classname, entry)] += 1
        except BadAnswer as error:
            refused[str(error)] += 1
        taken = before - draft.missing(classname)
        bar.update(taken)
        if taken:
            save()
        del refused[""]
        said = "; ".join(f"{count} x {reason}" for reason, count in refused.most_common(3)) or "too few sentences"
        if draft.missing(classname):
            bar.write(f"{classname}: {taken} accepted, {draft.missing(classname)} to go ({said})", file=sys.stderr)
        fruitless = 0 if taken else fruitless + 1
        if fruitless >= patience:
            raise UserError(
                f'{endpoint.model} gave nothing usable for "{classname}" {patience} times in a row ({said}); what was '
                "accepted so far is kept: run the same command again, or try another model"
            )


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="key or name of a dataset, or its YAML file")
    parser.add_argument("--model", required=True, help="the model's name at the endpoint")
    parser.add_argument("-o", "--output", type=Path, help="JSON file; datasets/prompts/<key>.json by default")
    parser.add_argument("--licence", default="not stated", help="licence of the sentences, for the file's head")
    parser.add_argument("--retries", type=int, default=6, help="of a request that fails, with back-off")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for one request")
    parser.add_argument("--patience", type=int, default=3, help="fruitless answers in a row before giving up")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    draft = Draft(facts_for(args.dataset))
    names = draft.facts.classnames
    path = args.output or library_file(draft.facts)
    record = resume(path, draft, args.model)
    total = rules.PER_CLASS * len(names)
    done = total - sum(map(draft.missing, names))
    if done == total:
        print(f"complete already, nothing asked: {path}")
        return 0
    endpoint = Endpoint(args.model, retries=args.retries, timeout=args.timeout)
    record["licence"] = record["licence"] or args.licence
    record["prompts"] = draft.prompts
    with tqdm(total=total, initial=done, desc=draft.facts.name, disable=None) as bar:
        for name in names:
            fill_class(draft, name, endpoint, args.patience, lambda: write_record(record, path), bar)
    print(f"written: {path}, {len(names)} classes, {total} prompts")
    return 0


def library_file(facts: DatasetFacts) -> Path:
    """The library's file of a published dataset.

    Raises:
        UserError: another dataset, whose file must be named.
    """
    cls = by_key().get(facts.key)
    if cls is None or cls.__name__ != facts.name:
        raise UserError(f"{facts.name} is none of the published datasets: name the file to write with -o")
    return FOLDER / f"{facts.key}.json"


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 complete, 2 a user's mistake or an endpoint that fails, 130 interrupted."""
    args = arguments(argv)
    return run(args)


if __name__ == "__main__":
    sys.exit(main())
