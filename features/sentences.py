"""Features of whole sentences: what one run encoded with a text tower, every other run reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from features.disk import Space, digest


class TextTower(Protocol):
    """Sentences -> (n, D) features, and -> ``ids`` and ``mask`` (n, L)."""

    def encode_text(self, texts: Sequence[str]) -> Tensor: ...

    def tokenize(self, texts: Sequence[str]) -> Any: ...


def sentence_features(
    texts: Sequence[str],
    tower: TextTower,
    root: Path | None,
    about: Callable[[], Mapping[str, Any]],
) -> Tensor:
    """(N, D) float32 features of ``texts``, not normalised.

    Args:
        tower: encodes them, on any device. A sentence is known by its tokens: another tokenizer reads another one.
        root: folder of the spaces on disk; ``None`` encodes all of them and keeps nothing.
        about: what decides the features besides the sentences; called only with a ``root``.
    """
    if root is None:
        return tower.encode_text(texts).float()
    tokens = tower.tokenize(texts)
    keys = [digest(ids[mask.bool()].numpy().tobytes()) for ids, mask in zip(tokens.ids, tokens.mask, strict=True)]
    return Space(root, about()).fetch(keys, lambda absent: tower.encode_text([texts[place] for place in absent]).float().cpu())
