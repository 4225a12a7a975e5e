"""PhantomCLIP: the small dual encoder of the rehearsal world, loaded by the very code that loads BiomedCLIP."""

from pathlib import Path

import backbones.phantomclip_arch  # noqa: F401  (registers the image tower with timm)
from backbones.open_clip_tower import OpenClipBackbone, load_open_clip

WEIGHTS = Path(__file__).parent / "weights" / "phantomclip"


def phantomclip(path: str = "", pretrained: bool = True) -> OpenClipBackbone:
    """The committed weights, or others of the same layout at ``path``."""
    return load_open_clip("PhantomCLIP", "", path or str(WEIGHTS), pretrained)
