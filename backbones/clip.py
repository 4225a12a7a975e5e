"""CLIP (Radford et al., 2021), ViT-B/16 with OpenAI's weights, and any other model that open_clip knows."""

from backbones.open_clip_tower import OpenClipBackbone, load_open_clip

IDENTIFIER = "ViT-B-16-quickgelu/openai"  # of open_clip; its activation is QuickGELU


def clip(path: str = "", pretrained: bool = True) -> OpenClipBackbone:
    """OpenAI's CLIP ViT-B/16."""
    return load_open_clip("CLIP", IDENTIFIER, path, pretrained)


def any_open_clip(name: str, path: str = "", pretrained: bool = True) -> OpenClipBackbone:
    """``open_clip:MODEL/TAG``, ``hf-hub:ORG/REPO`` or ``local-dir:FOLDER``."""
    schema, _, rest = name.partition(":")
    if schema == "local-dir":
        return load_open_clip(name, "", path or rest, pretrained)
    return load_open_clip(name, name if schema == "hf-hub" else rest, path, pretrained)
