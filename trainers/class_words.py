"""What a text tower makes of the class names: two that it cannot tell apart, and words that it does not know."""

from __future__ import annotations

from collections.abc import Sequence

from backbones import VisionLanguageBackbone
from backbones.vocabulary import unknown_share, unknown_words
from dassl.utils import UserError
from datasets.names import spelled
from trainers.prompt_learner import fill

MOST = 0.5  # share of unknown pieces above which class names are no names for a tower


def check_class_words(backbone: VisionLanguageBackbone, classnames: Sequence[str], template: str) -> list[str]:
    """What is to be said of class names that are read by this text tower.

    Args:
        template: that the names are put into, with ``{}``.

    Raises:
        UserError: most pieces of all names are unknown; or two names
            that are the same tokens, in an unknown script or cut at the tower's length: no prompt could
            tell one class from the other. Of numbers that stand in for names it is said, and they are taken.
    """
    numbers = all(name.isdigit() for name in classnames)  # no names at all, but the labels of a table without them
    tokens = backbone.tokenize(fill(template, classnames))
    unknown = {name: unknown_words(backbone, spelled(name)) for name in classnames}
    seen: dict[tuple[int, ...], str] = {}
    for name, ids in zip(classnames, tokens.ids.tolist(), strict=True):
        twin = seen.setdefault(tuple(ids), name)
        if twin is not name and not numbers:
            words = list(dict.fromkeys((*unknown[twin], *unknown[name])))
            why = f"it has no pieces for {_quoted(words)}" if words else f"it reads {backbone.context_length} tokens at most"
            raise UserError(
                f'the classes "{twin}" and "{name}" are the same tokens for {backbone.name} ({why}): name the classes in its '
                "language with DATASET.CLASSNAMES, or take a method that reads no names (LinearProbe)"
            )
    share = unknown_share(backbone, [spelled(name) for name in classnames])
    if share > MOST and not numbers:
        raise UserError(
            f"{backbone.name} has no pieces for {100 * share:.0f} % of the class names {_quoted(classnames[:3])}"
            f"{' …' if len(classnames) > 3 else ''}, which it cannot read: name the classes in its language "
            "with DATASET.CLASSNAMES, or take a method that reads no names (LinearProbe)"
        )
    if numbers and len(seen) < len(classnames):
        return [f"the class names are numbers that {backbone.name} does not tell apart: DATASET.CLASSNAMES gives them words"]
    said = "; ".join(f'"{name}": {_quoted(words)}' for name, words in unknown.items() if words)
    return [f"{backbone.name} does not know words of class names ({said})"] if said else []


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)
