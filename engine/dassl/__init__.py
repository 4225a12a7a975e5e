"""The part of Dassl's public API that plugin trainers use, written afresh for current PyTorch."""

__version__ = "1.0.0"
