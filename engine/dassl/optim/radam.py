"""Where upstream keeps its RAdam; PyTorch has one now."""

from torch.optim import RAdam

__all__ = ["RAdam"]
