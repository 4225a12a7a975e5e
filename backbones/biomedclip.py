"""BiomedCLIP (Zhang et al., 2023): ViT-B/16 and PubMedBERT, contrastively trained on PubMed Central figures."""

from backbones.open_clip_tower import OpenClipBackbone, load_open_clip

HUB = "hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"


def biomedclip(path: str = "", pretrained: bool = True) -> OpenClipBackbone:
    """By hub name, or from a local folder ``path`` in open_clip's local-dir layout."""
    return load_open_clip("BiomedCLIP", HUB, path, pretrained)
