"""Frozen features: what was encoded once is not encoded again. Knows loaders and tensors, no method and no backbone."""

from features.disk import Space, default_root, digest
from features.encoder import Encoder, FeatureSet
from features.loader import FeatureLoader, StoredLoader
from features.sentences import sentence_features
from features.store import FeatureStore, build_store

__all__ = [
    "Encoder",
    "FeatureLoader",
    "FeatureSet",
    "FeatureStore",
    "Space",
    "StoredLoader",
    "build_store",
    "default_root",
    "digest",
    "sentence_features",
]
