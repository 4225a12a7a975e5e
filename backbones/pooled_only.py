"""The last layer of a tower, for the one token that is pooled.

A feature is made of the first token of the last layer. There the other tokens are still attended to, but what would
become of them is read by nobody: of twelve layers that saves most of one. All other layers, and a last one that draws dropout
or is asked for its attention (:mod:`backbones.attention`), are the library's own.

So a tower's last hidden states hold one token, and hooks on the attention module of its last layer do not fire.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch.nn.functional as F
import transformers
from open_clip.hf_model import ClsLastHiddenStatePooler, ClsPooler, HFTextEncoder
from open_clip.timm_model import TimmModel
from timm.models.vision_transformer import Attention, Block
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn
from transformers.models.bert.modeling_bert import BertLayer

from backbones.cpu_linear import linear

LAYERS_GIVE_TENSORS = int(transformers.__version__.split(".")[0]) >= 5  # before, a layer returned a tuple
POSITIONS = ("cache_position", "position_ids")  # handed to every layer, read by none of BERT's


def skip_what_is_not_pooled(model: nn.Module) -> None:
    """Let the last layers of the timm and BERT towers in ``model`` give (B, 1, W), where the first token is pooled."""
    for part in model.modules():
        if isinstance(part, TimmModel) and type(part.trunk) is TimmViT and _pools_first_patch(part.trunk):
            block = part.trunk.blocks[-1]
            block.forward = partial(first_of_block, block)
        if isinstance(part, HFTextEncoder) and _pools_first_word(part):
            layer = part.transformer.encoder.layer[-1]
            layer.forward = partial(first_of_layer, layer)


def _pools_first_patch(trunk: TimmViT) -> bool:
    block = trunk.blocks[-1]
    if trunk.global_pool != "token" or type(block) is not Block:
        return False
    gate, norm = (getattr(block.attn, name, None) for name in ("gate", "norm"))
    return type(block.attn) is Attention and gate is None and isinstance(norm, nn.Identity | None)


def _pools_first_word(text: HFTextEncoder) -> bool:
    layers = getattr(getattr(text.transformer, "encoder", None), "layer", None)
    bert = LAYERS_GIVE_TENSORS and layers is not None and type(layers[-1]) is BertLayer
    return bert and isinstance(text.pooler, ClsPooler | ClsLastHiddenStatePooler)


def first_of_block(block: Block, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """(B, N, W) -> (B, 1, W): what a timm block makes of its first token; dropped paths and values are training's alone."""
    attention = block.attn
    if block.training or args or kwargs or not attention.fused_attn:
        return type(block).forward(block, x, *args, **kwargs)
    weight, bias, heads = attention.qkv.weight, attention.qkv.bias, attention.num_heads
    split = len(weight) // 3
    normed = block.norm1(x)
    q = linear(normed[:, :1], weight[:split], None if bias is None else bias[:split])
    kv = linear(normed, weight[split:], None if bias is None else bias[split:])
    q = attention.q_norm(q.unflatten(-1, (heads, -1)).transpose(1, 2))
    k, v = kv.unflatten(-1, (2, heads, -1)).permute(2, 0, 3, 1, 4)
    seen = F.scaled_dot_product_attention(q, attention.k_norm(k), v).transpose(1, 2).flatten(2)
    x = x[:, :1] + block.ls1(attention.proj(seen))
    return x + block.ls2(block.mlp(block.norm2(x)))


def first_of_layer(
    layer: BertLayer, hidden_states: Tensor, attention_mask: Tensor | None = None, *args: Any, **kwargs: Any
) -> Tensor:
    """(N, L, W) -> (N, 1, W): what a BERT layer makes of its first token.

    Args:
        attention_mask: (N, 1, L or 1, L), True or 0 where attended to, as transformers makes it.
    """
    others = (value for name, value in kwargs.items() if name not in POSITIONS)
    more = any(value is not None for value in (*args, *others))
    if layer.training or more or layer.is_decoder or (attention_mask is not None and attention_mask.ndim != 4):
        return type(layer).forward(layer, hidden_states, attention_mask, *args, **kwargs)
    attention = layer.attention.self
    first = hidden_states[:, :1]
    q, k, v = (
        project(part).unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)
        for project, part in ((attention.query, first), (attention.key, hidden_states), (attention.value, hidden_states))
    )
    mask = None if attention_mask is None else attention_mask[:, :, :1]
    seen = F.scaled_dot_product_attention(q, k, v, mask, scale=attention.scaling).transpose(1, 2).flatten(2)
    return layer.feed_forward_chunk(layer.attention.output(seen, first))
