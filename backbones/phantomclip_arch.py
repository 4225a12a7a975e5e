"""The image tower of PhantomCLIP, under a name that timm (and so open_clip) can build."""

from typing import Any

from timm.layers import PatchEmbed
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from torch import nn


class ConvStem(PatchEmbed):
    """Patches of 16 by four strided convolutions: learns from few images (Xiao et al., NeurIPS 2021)."""

    def __init__(self, *args: Any, in_chans: int = 3, embed_dim: int = 192, **kwargs: Any) -> None:
        super().__init__(*args, in_chans=in_chans, embed_dim=embed_dim, **kwargs)
        widths = [in_chans, embed_dim // 6, embed_dim // 3, embed_dim * 2 // 3, embed_dim]
        layers: list[nn.Module] = []
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.GELU()]
        self.proj = nn.Sequential(*layers, nn.Conv2d(embed_dim, embed_dim, 1))


@register_model
def vit_phantom_patch16_128(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """ViT for 128 x 128 images: patches of 16, width 192, 4 blocks, 3 heads."""
    for key in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        kwargs.pop(key, None)
    settings: dict[str, Any] = {"img_size": 128, "patch_size": 16, "embed_dim": 192, "depth": 4, "num_heads": 3}
    tower = VisionTransformer(embed_layer=ConvStem, **(settings | kwargs))
    tower.default_cfg = tower.pretrained_cfg = {}  # open_clip asks it for a pooling size
    return tower
