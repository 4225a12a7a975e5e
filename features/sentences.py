"""Features of whole sentences: what one run encoded with a text tower, every other run reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from features.disk import Space, digest


def sentence_features(
    texts: Sequence[str],
    encode: Callable[[Sequence[str]], Tensor],
    root: Path | None,
    about: Callable[[], Mapping[str, Any]],
) -> Tensor:
    """(N, D) float32 features of ``texts``, not normalised.

    Args:
        encode: sentences -> (n, D), on any device.
        root: folder of the spaces on disk; ``None`` encodes all of them and keeps nothing.
        about: what decides the features besides the sentences; called only with a ``root``.
    """
    if root is None:
        return encode(texts).float()
    keys = [digest(text) for text in texts]
    return Space(root, about()).fetch(keys, lambda absent: encode([texts[place] for place in absent]).float().cpu())
