"""Low-rank adapters in the attention of both towers (LoRA, Hu et al., ICLR 2022), by the peft library.

A backbone is handed out again to whoever asks next, so nothing is put into it: its modules are copied around the same
weights, and the copy is adapted.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.base import VisionLanguageBackbone
from backbones.cpu_linear import quicken
from dassl.utils import UserError

PARTS = {"q": "q", "query": "q", "q_proj": "q", "k": "k", "key": "k", "k_proj": "k", "v": "v", "value": "v", "v_proj": "v"}
ADAPTER = "default"  # peft's name


def require_peft(method: str) -> None:
    """Raise a :class:`UserError` where the library is not installed."""
    if find_spec("peft") is None:
        raise UserError(f"{method} needs the peft package, which is not installed: pip install peft")


class SplitProjection(nn.Module):
    """timm's one linear layer for queries, keys and values as three, ``q``, ``k`` and ``v``, on the same weights."""

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        self.q, self.k, self.v = _thirds(fused.weight, fused.bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1)


class SplitAttention(nn.Module):
    """PyTorch's multi-head attention with layers ``q``, ``k`` and ``v`` of their own, on the same weights; no dropout.

    It is called as that is, and gives no attention weights.
    """

    def __init__(self, fused: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads, self.batch_first, self.out_proj = fused.num_heads, fused.batch_first, fused.out_proj
        self.q, self.k, self.v = _thirds(fused.in_proj_weight, fused.in_proj_bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        parts = [self.q(query), self.k(key), self.v(value)]  # (B, L, W), or (L, B, W)
        parts = parts if self.batch_first else [part.transpose(0, 1) for part in parts]
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask).transpose(1, 2).flatten(2)
        return self.out_proj(seen if self.batch_first else seen.transpose(0, 1)), None


def _thirds(weight: Tensor, bias: Tensor | None) -> list[nn.Linear]:
    layers = []
    for rows, shift in zip(weight.chunk(3), (None,) * 3 if bias is None else bias.chunk(3), strict=True):
        layer = nn.Linear(rows.shape[1], rows.shape[0], bias=shift is not None, device="meta")
        layer.weight = nn.Parameter(rows.detach(), requires_grad=False)
        if shift is not None:
            layer.bias = nn.Parameter(shift.detach(), requires_grad=False)
        layers.append(layer)
    return layers


def sharing_copy(backbone: VisionLanguageBackbone) -> VisionLanguageBackbone:
    """A copy of all modules around the very same weights, tokenizer included; the attention has separate projections."""
    backbone.fingerprint()  # of the frozen weights alone: the copy keeps it
    same: list[Any] = [*chain(backbone.parameters(), backbone.buffers())]
    same += [backbone.tokenizer] if hasattr(backbone, "tokenizer") else []
    copied = copy.deepcopy(backbone, {id(one): one for one in same})
    for block in (*copied.visual_layers, *copied.text_layers):
        for owner in list(block.modules()):
            if isinstance(getattr(owner, "qkv", None), nn.Linear):
                owner.qkv = SplitProjection(owner.qkv)
                block.__dict__.pop("forward", None)  # the short last block reads the one layer's weight
            for name, module in list(owner.named_children()):
                if isinstance(module, nn.MultiheadAttention):
                    setattr(owner, name, SplitAttention(module))
    if copied.device.type == "cpu":
        quicken(copied)
    return copied


class LowRank(nn.Module):
    """What is learned: for each block of ``image`` and layer of ``text`` the factors of q, k and v.

    ``image.0.q.A.weight`` (r, W) and ``image.0.q.B.weight`` (W, r), and so on; ``drop`` is what the input of A passes.
    """

    def __init__(self, image: Sequence[dict[str, nn.Module]], text: Sequence[dict[str, nn.Module]]) -> None:
        super().__init__()
        for name, blocks in (("image", image), ("text", text)):
            kept = [nn.ModuleDict({part: _factors(layer) for part, layer in block.items()}) for block in blocks]
            setattr(self, name, nn.ModuleList(kept))


def _factors(layer: Any) -> nn.ModuleDict:
    return nn.ModuleDict({"A": layer.lora_A[ADAPTER], "B": layer.lora_B[ADAPTER], "drop": layer.lora_dropout[ADAPTER]})


def adapted(
    backbone: VisionLanguageBackbone, *, rank: int, alpha: float, dropout: float
) -> tuple[VisionLanguageBackbone, LowRank]:
    """A copy of ``backbone`` whose q, k and v are ``W x + alpha / sqrt(rank) B A drop(x)``, and the A and B.

    A starts as PyTorch starts linear layers, B at zero: so the copy starts as the backbone.

    Raises:
        UserError: peft is not installed, or an attention without projections that are known here.
    """
    require_peft("a low-rank adapter")
    from peft import LoraConfig, inject_adapter_in_model

    copied = sharing_copy(backbone)
    names = {id(module): name for name, module in copied.named_modules()}
    wanted = [names[id(module)] for block in (*copied.visual_layers, *copied.text_layers) for module in _projections(block)]
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=wanted, use_rslora=True)
    inject_adapter_in_model(config, copied)
    image, text = (
        [_by_part(block) for block in layers] for layers in (copied.visual_layers, copied.text_layers)
    )  # fmt: skip
    copied.eval()
    return copied, LowRank(image, text)


def _projections(block: nn.Module) -> list[nn.Module]:
    """The linear layers of a block that make queries, keys and values."""
    found = [(PARTS[name.rpartition(".")[2]], module) for name, module in block.named_modules()
             if name.rpartition(".")[2] in PARTS and isinstance(module, nn.Linear)]  # fmt: skip
    if sorted(part for part, _ in found) != ["k", "q", "v"]:
        raise UserError(
            f"the attention of a {type(block).__name__} has no queries, keys and values that are known here, so it cannot be "
            "adapted: take BiomedCLIP, CLIP, PubMedCLIP or PhantomCLIP"
        )
    return [module for _, module in found]


def _by_part(block: nn.Module) -> dict[str, nn.Module]:
    """q, k and v -> the layer that peft put in its place."""
    return {
        PARTS[name.rpartition(".")[2]]: module
        for name, module in block.named_modules()
        if name.rpartition(".")[2] in PARTS and hasattr(module, "lora_A")
    }
