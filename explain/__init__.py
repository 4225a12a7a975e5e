"""What a model looked at and what it learned, made visible: maps over images, words near learned contexts, embeddings.

``analysis`` reads files and knows no model; so what touches models is here, on top of ``trainers`` and ``backbones``.
``python -m analysis.explain`` is its command.
"""

from explain.figures import OverlayWriter
from explain.saliency import MAPS, Saliency, saliency

__all__ = ["MAPS", "OverlayWriter", "Saliency", "saliency"]
