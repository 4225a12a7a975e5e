"""A registry: names to classes or functions."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any


class UserError(Exception):
    """A mistake of the user's: one line that says what was wrong, where, what to do. Entry points print it alone."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """``' Did you mean "x"?'`` for the choice most like ``name``; empty when none is alike."""
    by_lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return f' Did you mean "{by_lower[close[0]]}"?' if close else ""


class Registry:
    """Maps names to objects.

    >>> fruits = Registry("FRUIT")
    >>> @fruits.register()
    ... class Apple: ...
    >>> fruits.get("Apple").__name__
    'Apple'
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._obj_map: dict[str, Any] = {}

    def register(self, obj: Any = None, force: bool = False) -> Any:
        """Register ``obj`` under its ``__name__``; without ``obj``, a decorator that does so.

        Raises:
            KeyError: the name is taken and ``force`` is not set.
        """
        if obj is None:

            def decorate(target: Any) -> Any:
                self._add(target.__name__, target, force)
                return target

            return decorate
        self._add(obj.__name__, obj, force)
        return obj

    def _add(self, name: str, obj: Any, force: bool) -> None:
        if name in self._obj_map and not force:
            raise KeyError(f'An object named "{name}" was already registered in "{self._name}" registry')
        self._obj_map[name] = obj

    def get(self, name: str) -> Callable[..., Any]:
        """The object registered as ``name``.

        Raises:
            UserError: unknown name, with the nearest registered one.
        """
        if name not in self._obj_map:
            raise UserError(
                f'"{name}" is not in the {self._name} registry.{nearest(name, self._obj_map)} '
                f"Valid: {', '.join(sorted(self._obj_map)) or 'none'}"
            )
        return self._obj_map[name]

    def registered_names(self) -> list[str]:
        return list(self._obj_map)


def check_availability(requested: str, available: Iterable[str]) -> None:
    """Raise a :class:`UserError` when ``requested`` is not among ``available``."""
    available = list(available)
    if requested not in available:
        raise UserError(f'"{requested}" is unknown.{nearest(requested, available)} Valid: {", ".join(available)}')
