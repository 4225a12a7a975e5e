"""Sentences made of the class names alone, for a dataset for which no language model has written any."""

from __future__ import annotations

from collections.abc import Sequence

from dassl.utils import UserError
from datasets.names import spelled

OPENINGS = (
    "a {kind}", "one {kind}", "a clear {kind}", "a typical {kind}", "a cropped {kind}", "a close {kind}", "a dark {kind}",
    "a bright {kind}", "a blurred {kind}", "an example of a {kind}",
)  # fmt: skip
FORMS = (
    "{opening} of {{}}{place}.",
    "{opening} showing {{}}{place}.",
    "{opening} with {{}}{place}.",
    "{opening}{place} that is read as {{}}.",
    "{{}}{place} in {opening}.",
)
MOST = len(OPENINGS) * len(FORMS)


def template_sentences(classname: str, template: str, modality: str, organ: str, count: int) -> list[str]:
    """``count`` sentences for a class, the dataset's own template first; the same wording for every class.

    Args:
        modality, organ: may be empty.
        count: 1 to :data:`MOST`.

    Raises:
        UserError: more are asked for.
    """
    if not 1 <= count <= MOST:
        raise UserError(f"N_PROMPTS is {count}: DATASET.PROMPTS template has 1 to {MOST} sentences per class")
    kind, place = f"{modality} image" if modality else "medical image", f" of the {organ}" if organ else ""
    made = [form.format(opening=opening.format(kind=kind), place=place) for form in FORMS for opening in OPENINGS]
    templates = [template, *(sentence for sentence in made if sentence != template)]
    return [sentence.format(spelled(classname)) for sentence in templates[:count]]


def template_prompts(classnames: Sequence[str], template: str, modality: str, organ: str, count: int) -> dict[str, list[str]]:
    """:func:`template_sentences` of every class."""
    return {name: template_sentences(name, template, modality, organ, count) for name in classnames}
