"""Where a file or folder lies that a config names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dassl.utils import UserError


def existing(given: str, root: Path, key: str, beside: Sequence[Path] = (), what: str = "") -> Path:
    """The file or folder that a config names: from the working folder, from ``root``, or from a place ``beside``.

    Args:
        key: of the config, for the message; ``what`` it names, a file or a folder.

    Raises:
        UserError: there is none.
    """
    path = Path(given).expanduser()
    for place in (path, root / path, *(place / path for place in beside)):
        if place.exists():
            return place.resolve()
    what = what or ("file" if key == "DATASET.CSV" else "folder")
    raise UserError(f"{key} {path}: no such {what}, neither here nor in {root}")
