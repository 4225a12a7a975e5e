"""What building by name has in common, whatever is built."""

from __future__ import annotations

import logging
from typing import Any

from dassl.utils import Registry

log = logging.getLogger(__name__)


def build(registry: Registry, kind: str, name: str, verbose: bool, **kwargs: Any) -> Any:
    """What ``registry`` holds as ``name``, called with ``kwargs``; with ``verbose`` the log says its kind and name.

    Raises:
        UnknownNameError: nothing is registered so.
    """
    maker = registry.get(name)
    if verbose:
        log.info("%s: %s", kind, name)
    return maker(**kwargs)
