"""Nothing of a folder or of a hub's repository is executed: weights are tensors, configurations and tokenizers are data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

from backbones.base import VisionLanguageBackbone
from backbones.vocabulary import tells_words, vocabulary
from dassl.utils import UserError

DATA = ("tokenizer.json", "vocab.json", "model.safetensors.index.json")  # large, and read by parsers that execute nothing
# what a folder may set for its tokenizer; all else, where code lies among it, is refused
TOKENIZER_KEYS = {
    "add_prefix_space", "additional_special_tokens", "clean", "do_lower_case", "language", "model_max_length", "padding_side",
    "reduction_mask", "strip_sep_token", "truncation_side", "use_fast",
}  # fmt: skip
FEWEST_WORDS = 50  # of a vocabulary: less is what a tokenizer has that found no file


class ForeignCodeError(UserError):
    """Files of a model that ask for code of theirs to be run."""


def check_folder(folder: Path) -> None:
    """Refuse a folder whose configurations name code of their own, wherever in them.

    Raises:
        ForeignCodeError: with file and key; nothing was executed.
    """
    for path in sorted(folder.glob("*.json")):
        if path.name in DATA or not path.is_file():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue  # whoever needs it says that it cannot be read
        key = _asks(content)
        if key:
            raise ForeignCodeError(
                f"{path} asks for code of its own to be run ({key}): refused, nothing was executed. Take a model that the "
                "libraries know by themselves, or a folder without this key"
            )


def _asks(content: Any, above: str = "") -> str:
    """The first key that asks for code, dotted; empty where none does."""
    if isinstance(content, list):
        return next(filter(None, (_asks(value, above) for value in content)), "")
    if not isinstance(content, dict):
        return ""
    for key, value in content.items():
        name = f"{above}{key}"
        if value and key in ("auto_map", "trust_remote_code", "custom_pipelines"):
            return name
        if key == "tokenizer_kwargs" and isinstance(value, dict):
            unknown = sorted(set(map(str, value)) - TOKENIZER_KEYS)
            if unknown:
                return f"{name}.{unknown[0]}"
        below = _asks(value, f"{name}.")
        if below:
            return below
    return ""


@contextmanager
def no_foreign_code() -> Iterator[None]:
    """While a model is built, the transformers library neither runs a repository's code nor asks on the terminal whether to.

    ``trust_remote_code`` is False whatever a configuration says, and the two functions by which all such code would be
    fetched and imported refuse.
    """
    import transformers
    from transformers import dynamic_module_utils

    def distrusting(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **more: function(*args, **more | {"trust_remote_code": False})

    with ExitStack() as stack:
        for name in ("AutoConfig", "AutoModel", "AutoTokenizer"):
            cls = getattr(transformers, name)
            stack.enter_context(patch.object(cls, "from_pretrained", distrusting(cls.from_pretrained)))
        for name in ("get_cached_module_file", "get_class_in_module"):
            stack.enter_context(patch.object(dynamic_module_utils, name, _refuse))
        yield


def _refuse(*args: Any, **_: Any) -> NoReturn:
    raise ForeignCodeError(f"{' '.join(map(str, args[:2]))}: code of a model's own is never run; nothing was executed")


def check_vocabulary(backbone: VisionLanguageBackbone, source: str) -> None:
    """Refuse a tokenizer that found no vocabulary, or one of another model's.

    Args:
        source: where the files come from, for the message.

    Raises:
        UserError: hardly a word in it, or ids beyond the text tower's embeddings.
    """
    embeddings = getattr(backbone, "word_embeddings", None)
    if embeddings is None or not tells_words(backbone):
        return
    words, rows = vocabulary(backbone), embeddings.weight.shape[0]
    if len(words) < FEWEST_WORDS:
        raise UserError(
            f"{source}: the tokenizer has {len(words)} words: its files (tokenizer.json, or vocab.txt, or vocab.json and "
            "merges.txt) are missing there or empty"
        )
    if max(words) >= rows:
        raise UserError(
            f"{source}: the tokenizer has ids up to {max(words)}, and the text tower embeddings for {rows}: it is another "
            "model's"
        )
