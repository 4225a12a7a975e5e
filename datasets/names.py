"""How class names are written."""

from __future__ import annotations


def spelled(name: str) -> str:
    """A class name (or other words) as prompts write it and as its word-pieces are counted: spaces for underscores."""
    return name.replace("_", " ")
