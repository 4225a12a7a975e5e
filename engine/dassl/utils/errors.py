"""A user's mistakes, each also of the built-in type that upstream Dassl raises in its place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's: one line that says what was wrong, where, what to do. Entry points print it alone."""

    told = True  # to the user, in that line

    def __str__(self) -> str:
        text = str(self.args[0]) if self.args else ""
        # One that comes out of a loader's worker has the worker's traceback in front of it
        return text.strip().rpartition("\n")[2].partition("Error: ")[2] if text.startswith("Caught ") else text


class UnknownNameError(UserError, KeyError, ValueError):
    """A name that is in no registry or list of choices."""


class SettingError(UserError, ValueError):
    """A config value that cannot be used."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that is not there."""


class MisfitError(UserError, RuntimeError):
    """Weights of another model than the one they were to be loaded into."""


class BadImageError(UserError, OSError):
    """An image of a dataset that cannot be read."""


class NotFiniteError(UserError, FloatingPointError):
    """A loss that is infinite or NaN."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """``' Did you mean "x"?'`` for the choice most like ``name``; empty when none is alike."""
    by_lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return f' Did you mean "{by_lower[close[0]]}"?' if close else ""
