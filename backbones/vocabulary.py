"""The words behind a text tower's token ids, and those that it has no pieces for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backbones.base import VisionLanguageBackbone
from dassl.utils import UserError


def tells_words(backbone: VisionLanguageBackbone) -> bool:
    """Whether :func:`vocabulary` knows this tokenizer."""
    inner = _inner(backbone)
    return hasattr(inner, "get_vocab") or hasattr(inner, "decoder")


def vocabulary(backbone: VisionLanguageBackbone) -> dict[int, str]:
    """Token id -> word-piece, without special and unused tokens.

    Raises:
        UserError: a tokenizer that does not tell its words.
    """
    inner = _inner(backbone)
    if not tells_words(backbone):
        raise UserError(f"the tokenizer of {backbone.name} does not tell its words")
    if hasattr(inner, "get_vocab"):
        special = set(inner.all_special_ids)
        words = {index: word for word, index in inner.get_vocab().items() if index not in special}
    else:  # open_clip's own
        words = {index: word for index, word in inner.decoder.items() if index not in inner.all_special_ids}
    return {index: word for index, word in sorted(words.items()) if not word.startswith("[unused")}


def unknown_words(backbone: VisionLanguageBackbone, text: str) -> list[str]:
    """The words of ``text`` (divided at spaces) of which the tokenizer has a part as its unknown piece alone.

    Empty for vocabularies of bytes, which know everything, and for tokenizers that do not tell their unknown piece.
    """
    inner = _inner(backbone)
    unknown = getattr(inner, "unk_token_id", None)
    if unknown is None or not callable(inner):
        return []
    return [word for word in text.split() if unknown in inner(word, add_special_tokens=False)["input_ids"]]


def unknown_share(backbone: VisionLanguageBackbone, texts: Sequence[str]) -> float:
    """The share (0 to 1) of the tokenizer's unknown piece among all pieces of ``texts``; 0 where it does not tell it."""
    inner = _inner(backbone)
    unknown = getattr(inner, "unk_token_id", None)
    if unknown is None or not callable(inner):
        return 0.0
    pieces = [piece for text in texts for piece in inner(text, add_special_tokens=False)["input_ids"]]
    return pieces.count(unknown) / len(pieces) if pieces else 0.0


def _inner(backbone: VisionLanguageBackbone) -> Any:
    tokenizer: Any = getattr(backbone, "tokenizer", None)
    return getattr(tokenizer, "tokenizer", tokenizer)  # open_clip wraps the one of transformers
