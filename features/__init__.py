"""Frozen features: what was encoded once is not encoded again.

Here belong the store on disk, the encoder that fills it, and loaders that give features in place of images. It knows loaders
and tensors; what encodes is handed to it, so it knows no backbone and no method.
"""

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
