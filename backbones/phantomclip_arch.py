"""The image tower of PhantomCLIP, under a name that timm (and so open_clip) can build."""

from typing import Any

from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer


@register_model
def vit_phantom_patch16_128(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """ViT for 128 x 128 images: patches of 16, width 192, 6 blocks, 3 heads (2.8 M parameters)."""
    for key in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        kwargs.pop(key, None)
    settings: dict[str, Any] = {"img_size": 128, "patch_size": 16, "embed_dim": 192, "depth": 6, "num_heads": 3}
    tower = VisionTransformer(**(settings | kwargs))
    tower.default_cfg = tower.pretrained_cfg = {}  # open_clip asks it for a pooling size
    return tower
