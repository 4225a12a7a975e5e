"""Networks by name."""

from typing import Any

from torch import nn

from dassl.utils import Registry, build_from

NETWORK_REGISTRY = Registry("NETWORK")


def build_network(name: str, verbose: bool = True, **kwargs: Any) -> nn.Module:
    """The network registered as ``name``, built with ``kwargs``."""
    return build_from(NETWORK_REGISTRY, "Network", name, verbose, **kwargs)
