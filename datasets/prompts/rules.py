"""What a prompt library must be: the instruction that it was written to, and the rules that a machine can check."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from datasets.facts import DatasetFacts
from datasets.names import spelled

INSTRUCTION = (
    "Write 50 different single sentences of 12 to 30 words that describe what is visible in a {modality} image of the "
    'class "{class}" of the {organ}, as a specialist would: location, margin, intensity (signal, echo, density, colour), '
    "texture, shape, distribution, associated findings, and what tells it from the other classes ({others}). Name the "
    "class and the modality in each sentence. No treatment, no history, no hedging, no duplicates. Label each sentence "
    "with its attribute."
)
ATTRIBUTES = (
    "location", "margin", "intensity", "texture", "shape", "distribution", "associated finding", "differential",
)  # fmt: skip
META = ("dataset", "modality", "organ", "template", "language_model", "instruction", "date", "licence")

PER_CLASS = 50
WORDS = (12, 30)
PER_ATTRIBUTE = 4  # at least so many sentences of a class on each attribute
SAME_OPENING = 8  # at most so many sentences of a class with the same first two words
OVERLAP = 0.75  # Jaccard index of two sentences' words from which on they count as the same
CONTEXT = 256  # tokens of BiomedCLIP's text tower

# how a sentence may name its modality; another modality is looked for as it is written
MODALITY_WORDS = {
    "MRI": r"mri?|magnetic resonance",
    "CT": r"ct|computed tomograph\w*",
    "OCT": r"oct|optical coherence tomograph\w*",
    "X-ray": r"x-rays?|radiograph\w*",
    "ultrasound": r"ultrasound|ultrasonic|ultrasonograph\w*|sonogra\w*",
    "histopathology": r"h&e|histolog\w*|histopatholog\w*",
    "dermatoscopy": r"dermatoscop\w*|dermoscop\w*",
    "endoscopy": r"endoscop\w*|colonoscop\w*|gastroscop\w*",
    "fundus photography": r"fundus",
}
HEDGES = (
    r"may|might|can|could|would|should|possibl[ey]|probabl[ey]|perhaps|likely|often|sometimes|typical(?:ly)?|usual(?:ly)?|"
    r"occasional(?:ly)?|frequent(?:ly)?|common(?:ly)?|generally|suggest\w*|suspicious|suspected|consistent with|seems?"
)
UNSEEN = (
    r"treat(?:ed|ment|ments|ing)?|therap(?:y|ies|eutic)|medication|antibiotics?|chemotherapy|radiotherapy|prognosis|"
    r"survival|patients?|years?[- ]old|histor(?:y|ies)|symptoms?|complain\w*|presenting with"
)


def instruction_for(facts: DatasetFacts, classname: str) -> str:
    """:data:`INSTRUCTION` for one class of a dataset."""
    others = ", ".join(name for name in facts.classnames if name != classname)
    filled = {"modality": facts.modality, "class": classname, "organ": facts.organ, "others": others}
    return INSTRUCTION.format(**filled)


def whole_words(pattern: str, text: str) -> re.Match[str] | None:
    """The first place where ``pattern`` stands as whole words, whatever the case."""
    return re.search(rf"(?<![\w-])(?:{pattern})(?![\w-])", text, re.IGNORECASE)


def names_class(text: str, classname: str) -> bool:
    """Whether the class name stands in the sentence as it is spelt, whatever the case."""
    return whole_words(re.escape(spelled(classname)), text) is not None


def _modality_pattern(modality: str) -> str:
    return MODALITY_WORDS.get(modality) or re.escape(modality)


def is_unicode(text: str) -> bool:
    """Whether it can be written as UTF-8: a broken escape in JSON leaves half of a character."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def sentence_faults(text: str, classname: str, modality: str) -> list[str]:
    """What is wrong with one sentence by itself, in words; empty when nothing is."""
    if not is_unicode(text):
        return ["has half of a character (a lone surrogate)"]
    faults = []
    count = len(text.split())
    if not WORDS[0] <= count <= WORDS[1]:
        faults.append(f"{count} words instead of {WORDS[0]} to {WORDS[1]}")
    if text != text.strip() or "\n" in text or not text.endswith(".") or re.search(r"[.!?]\s", text):
        faults.append("not one single sentence that ends with a full stop")
    if not names_class(text, classname):
        faults.append("does not name the class")
    if not whole_words(_modality_pattern(modality), text):
        faults.append(f"does not name the modality ({modality})")
    hedge, unseen = whole_words(HEDGES, text), whole_words(UNSEEN, text)
    if hedge:
        faults.append(f'hedges ("{hedge.group()}")')
    if unseen:
        faults.append(f'speaks of what no image shows ("{unseen.group()}")')
    if longest_tokens(text) > CONTEXT:
        faults.append(f"may exceed the {CONTEXT} tokens of the text tower")
    return faults


def longest_tokens(text: str) -> int:
    """An upper bound of a sentence's tokens for every WordPiece vocabulary: one per character, and start and end."""
    return len("".join(text.split())) + 2


def content_words(text: str, classname: str, modality: str) -> frozenset[str]:
    """The lower-cased words of a sentence, without class name and modality."""
    bare = text.lower().replace(spelled(classname).lower(), " ")
    bare = re.sub(rf"(?<![\w-])(?:{_modality_pattern(modality)})(?![\w-])", " ", bare, flags=re.IGNORECASE)
    return frozenset(re.findall(r"[^\W_]+", bare))


def overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard index of two sets of words; 1 for two empty ones."""
    union = len(one | other)
    return len(one & other) / union if union else 1.0


def class_faults(entries: Sequence[Mapping[str, str]], classname: str, modality: str) -> Iterator[str]:
    """What is wrong with the sentences of one class together: count, attributes, openings, single sentences."""
    if len(entries) != PER_CLASS:
        yield f"{len(entries)} sentences instead of {PER_CLASS}"
    counted = Counter(entry.get("attribute", "") for entry in entries)
    for attribute in sorted(set(counted) - set(ATTRIBUTES)):
        yield f'{counted[attribute]} sentences with the attribute "{attribute}", must be one of {", ".join(ATTRIBUTES)}'
    for attribute in ATTRIBUTES:
        if counted[attribute] < PER_ATTRIBUTE:
            yield f'{counted[attribute]} sentences on "{attribute}", at least {PER_ATTRIBUTE} are needed'
    openings = Counter(opening(entry["text"]) for entry in entries)
    for words, count in openings.items():
        if count > SAME_OPENING:
            yield f'{count} sentences begin with "{words}", at most {SAME_OPENING} may'
    for number, entry in enumerate(entries, start=1):
        for fault in sentence_faults(entry["text"], classname, modality):
            yield f"sentence {number}: {fault}: {entry['text']}"


def opening(text: str) -> str:
    """The first two words, lower-cased."""
    return " ".join(text.lower().split()[:2])


def entry_text(entry: str | Mapping[str, str]) -> str:
    """The sentence of an entry, which may be the bare sentence."""
    return entry if isinstance(entry, str) else entry["text"]


def near_duplicates(prompts: Mapping[str, Sequence[str]], modality: str) -> Iterator[tuple[str, str, float]]:
    """Pairs of sentences of one dataset, ``class [number]``, whose words overlap by :data:`OVERLAP` or more."""
    bags = [
        (f"{name} [{number}]", content_words(text, name, modality))
        for name, texts in prompts.items()
        for number, text in enumerate(texts, start=1)
    ]
    for (one, words), (other, more) in combinations(bags, 2):
        shared = overlap(words, more)
        if shared >= OVERLAP:
            yield one, other, shared


def form_faults(record: Any, *, library: bool = True) -> list[str]:
    """Where a loaded JSON file departs from the form of a prompt file; the rest is not worth checking then.

    Args:
        record: what ``json.load`` gave.
        library: also ask for the fields of :data:`META` and an attribute per sentence.
    """
    if not isinstance(record, dict) or not isinstance(record.get("prompts"), dict) or not record["prompts"]:
        return ['must hold {"prompts": {class name: [sentence, …]}}']
    faults = []
    if library:
        faults += [f'"{key}" is missing or empty' for key in META if not isinstance(record.get(key), str) or not record[key]]
    for name, entries in record["prompts"].items():
        if not isinstance(entries, list):
            faults.append(f"{name}: must be a list of sentences")
            continue
        for number, entry in enumerate(entries, start=1):
            plain = entry if isinstance(entry, str) else entry.get("text") if isinstance(entry, dict) else None
            labelled = isinstance(entry, dict) and isinstance(entry.get("attribute"), str)
            if not isinstance(plain, str) or not plain.strip():
                faults.append(f"{name}: sentence {number} is not a text")
            elif not is_unicode(plain):
                faults.append(f"{name}: sentence {number} has half of a character (a lone surrogate)")
            elif library and not labelled:
                faults.append(f"{name}: sentence {number} has no attribute")
    return faults
