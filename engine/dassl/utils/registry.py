"""A registry: names to classes or functions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from dassl.utils.errors import UnknownNameError, nearest

log = logging.getLogger(__name__)


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
            return lambda target: self.register(target, force)
        name = obj.__name__
        if name in self._obj_map and not force:
            raise KeyError(f'An object named "{name}" was already registered in "{self._name}" registry')
        self._obj_map[name] = obj
        return obj

    def get(self, name: str) -> Callable[..., Any]:
        """The object registered as ``name``.

        Raises:
            UnknownNameError: unknown name, with the nearest registered one.
        """
        if name not in self._obj_map:
            raise UnknownNameError(
                f'"{name}" is not in the {self._name} registry.{nearest(name, self._obj_map)} '
                f"Valid: {', '.join(sorted(self._obj_map)) or 'none'}"
            )
        return self._obj_map[name]

    def registered_names(self) -> list[str]:
        return list(self._obj_map)


def build_from(registry: Registry, told: str, name: str, verbose: bool, *args: Any, **kwargs: Any) -> Any:
    """What ``registry`` holds as ``name``, called with the rest; with ``verbose`` the log says "<told>: <name>".

    Raises:
        UnknownNameError: nothing is registered so.
    """
    maker = registry.get(name)
    if verbose:
        log.info("%s: %s", told, name)
    return maker(*args, **kwargs)
