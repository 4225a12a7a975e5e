"""Maps of where an image tower looks, with a visual prompt or without: class attention, attention roll-out, Grad-CAM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from backbones import VisionLanguageBackbone, VisualPrompt
from backbones.attention import first_norm, image_attention, num_prefix_tokens, require_patches
from dassl.utils import UserError, nearest
from explain.maps import class_attention, gradient_map, layout_of, rollout
from trainers.base import unit

MAPS = ("gradcam", "rollout", "attention")

Scores = Callable[[Tensor], Tensor]  # normalised image features (B, D) -> class scores (B, C)


@dataclass(frozen=True)
class Saliency:
    """Maps of B images.

    Attributes:
        grid: (B, side, side), not negative, one value per patch.
        prompt_share: (B,) what lies on the visual prompts, of what lies on patches and prompts; 0 without prompts.
    """

    grid: Tensor
    prompt_share: Tensor


def saliency(
    kind: str,
    backbone: VisionLanguageBackbone,
    images: Tensor,
    prompt: VisualPrompt | None = None,
    scores: Scores | None = None,
    classes: Tensor | None = None,
) -> Saliency:
    """Maps of one ``kind`` for ``images`` (B, 3, H, W).

    Args:
        kind: "attention" (of the last block's class token), "rollout" (through all blocks) or "gradcam" (what speaks
            for a class).
        prompt: what stands among the patches.
        scores, classes: of gradcam alone: the classifier, and each image's class (B,).

    Raises:
        UserError: another kind, or a tower without patches.
        ValueError: gradcam without scores and classes.
    """
    if kind not in MAPS:
        raise UserError(f'the map is "{kind}", must be one of {", ".join(MAPS)}.{nearest(kind, MAPS)}')
    if kind != "gradcam":
        return attention_maps((kind,), backbone, images, prompt)[kind]
    require_patches(backbone)
    if scores is None or classes is None:
        raise ValueError("gradcam asks what speaks for a class: it needs scores and classes")
    return _grad_cam(backbone, images, prompt, scores, classes)


def attention_maps(
    kinds: Sequence[str], backbone: VisionLanguageBackbone, images: Tensor, prompt: VisualPrompt | None = None
) -> dict[str, Saliency]:
    """Maps of several kinds ("attention", "rollout") from one pass over ``images`` (B, 3, H, W)."""
    attention = image_attention(backbone, images, prompt)
    layout = layout_of(attention[0].shape[-1], num_prefix_tokens(backbone), prompt)
    values = {"attention": class_attention(attention), "rollout": rollout(attention, layout, prompt)}
    return {kind: Saliency(*layout.on_patches(values[kind])) for kind in kinds}


def _grad_cam(
    backbone: VisionLanguageBackbone, images: Tensor, prompt: VisualPrompt | None, scores: Scores, classes: Tensor
) -> Saliency:
    """At the input of the last block's attention: behind it patches no longer reach the class token."""
    seen: list[Tensor] = []

    def keep(module: torch.nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen.append(output.detach().requires_grad_(True))
        return seen[-1]

    with torch.enable_grad(), first_norm(backbone.visual_layers[-1]).register_forward_hook(keep):
        features = unit(backbone.encode_image(images, prompt))
        chosen = scores(features).gather(1, classes.to(features.device)[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, seen[0])
    activation = seen[0].detach()
    layout = layout_of(activation.shape[1], num_prefix_tokens(backbone), prompt)
    grid, share = layout.on_patches(gradient_map(activation, gradient, layout))
    return Saliency(grid, share.nan_to_num(0.0))
