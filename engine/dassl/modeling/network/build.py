"""Networks by name."""

from typing import Any

from torch import nn

from dassl.modeling.build import build
from dassl.utils import Registry

NETWORK_REGISTRY = Registry("NETWORK")


def build_network(name: str, verbose: bool = True, **kwargs: Any) -> nn.Module:
    """The network registered as ``name``, built with ``kwargs``."""
    return build(NETWORK_REGISTRY, "Network", name, verbose, **kwargs)
