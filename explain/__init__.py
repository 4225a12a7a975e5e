"""What a model looked at and what it learned, made visible: maps over images, words near learned contexts, embeddings.

Here belongs what looks into a model: ``python -m explain`` is the command, ``predict.py --explain`` draws with it, and
``python -m explain.prompts`` reads prompt files through a text tower. It stands on ``runs``, which loads a trained run, and on
the methods and towers below. Numbers and figures that need only a run's files are in ``analysis``.
"""

from explain.figures import OverlayWriter
from explain.saliency import MAPS, Saliency, saliency

__all__ = ["MAPS", "OverlayWriter", "Saliency", "saliency"]
