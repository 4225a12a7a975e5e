"""Frozen features: what was encoded once is not encoded again. Knows loaders and tensors, no method and no backbone."""

from features.loader import FeatureLoader
from features.store import FeatureSet, FeatureStore, build_store

__all__ = ["FeatureLoader", "FeatureSet", "FeatureStore", "build_store"]
