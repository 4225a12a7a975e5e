"""Which package Python takes for ``dassl``: entry points ask before they import anything that needs it."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

ENGINE = Path(__file__).resolve().parents[1] / "engine"
MARK = Path("utils") / "errors.py"  # no other dassl has it


def require_own_dassl() -> None:
    """End the program with exit status 2, and one line on standard error, unless ``dassl`` is this project's."""
    said = other_dassl()
    if said:
        print(f"error: {said}", file=sys.stderr)
        sys.exit(2)


def other_dassl() -> str:
    """Why ``dassl`` is not this project's, and what to do; empty where it is.

    The package is found and not imported: another one may fail in its own way.
    """
    spec = find_spec("dassl")
    places = list(spec.submodule_search_locations or ()) if spec else []
    if any((Path(place) / MARK).is_file() for place in places):
        return ""
    if spec is None:
        return f"no package dassl is installed: pip install {ENGINE}"
    found = spec.origin or places[0]  # a folder without __init__.py has no origin
    return (
        f"Python finds another package named dassl, {found}. Remove it (pip uninstall dassl) and install this "
        f"project's (pip install {ENGINE}), or put {ENGINE} first in PYTHONPATH"
    )
