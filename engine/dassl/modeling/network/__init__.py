"""Whole networks by name; none comes with this package."""

from dassl.modeling.network.build import NETWORK_REGISTRY, build_network

__all__ = ["NETWORK_REGISTRY", "build_network"]
