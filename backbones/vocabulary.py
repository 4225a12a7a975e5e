"""The words behind a text tower's token ids."""

from __future__ import annotations

from typing import Any

from backbones.base import VisionLanguageBackbone
from dassl.utils import UserError


def vocabulary(backbone: VisionLanguageBackbone) -> dict[int, str]:
    """Token id -> word-piece, without special and unused tokens.

    Raises:
        UserError: a tokenizer that does not tell its words.
    """
    tokenizer: Any = getattr(backbone, "tokenizer", None)
    inner = getattr(tokenizer, "tokenizer", tokenizer)  # open_clip wraps the one of transformers
    if hasattr(inner, "get_vocab"):
        special = set(inner.all_special_ids)
        words = {index: word for word, index in inner.get_vocab().items() if index not in special}
    elif hasattr(inner, "decoder"):  # open_clip's own
        words = {index: word for index, word in inner.decoder.items() if index not in inner.all_special_ids}
    else:
        raise UserError(f"the tokenizer of {backbone.name} does not tell its words")
    return {index: word for index, word in sorted(words.items()) if not word.startswith("[unused")}
