"""The last layers that make the pooled token alone: equal to the libraries' own, there and back, and aside where they must."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from open_clip.hf_model import MeanPooler
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from backbones import build_backbone
from backbones.open_clip_tower import load_open_clip
from backbones.pooled_only import LAYERS_GIVE_TENSORS, first_of_block, first_of_layer, skip_what_is_not_pooled

needs_new_layers = pytest.mark.skipif(not LAYERS_GIVE_TENSORS, reason="layers of this transformers return tuples: left alone")


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def gradients(call: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The first token that ``call`` makes of x, and the gradient of a sum over it that weighs all parts differently."""
    x = x.clone().requires_grad_()
    first = call(x)[:, :1]
    (first * drawn(*first.shape)).sum().backward()
    return first.detach(), x.grad


def vit(**settings) -> VisionTransformer:
    torch.manual_seed(0)
    tower = VisionTransformer(img_size=32, patch_size=16, embed_dim=24, depth=2, num_heads=3, num_classes=0, **settings)
    for value in tower.parameters():
        nn.init.normal_(value, std=0.3)
    return tower.eval().requires_grad_(False)


@pytest.mark.parametrize("settings", [{}, {"qkv_bias": False}, {"qk_norm": True}, {"init_values": 0.1}, {"reg_tokens": 2}])
def test_timm_block(settings: dict) -> None:
    block = vit(**settings).blocks[-1]
    ours, theirs = (gradients(call, drawn(3, 7, 24)) for call in (lambda x: first_of_block(block, x), block))
    same(ours[0], theirs[0])
    same(ours[1], theirs[1])
    assert first_of_block(block, drawn(3, 7, 24)).shape == (3, 1, 24)


def test_timm_block_steps_aside() -> None:
    block, x = vit().blocks[-1], drawn(2, 5, 24)
    assert first_of_block(block, x, is_causal=True).shape == first_of_block(block.train(), x).shape == x.shape
    block.eval().attn.fused_attn = False  # as while its attention is read
    assert first_of_block(block, x).shape == x.shape


def bert(**settings) -> BertModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48, "vocab_size": 50}
    model = BertModel(BertConfig(**sizes, **settings))
    for value in model.parameters():
        nn.init.normal_(value, std=0.3)
    return model.eval().requires_grad_(False)


@needs_new_layers
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("padded", [True, False])
def test_bert_layer(attention: str, padded: bool) -> None:
    model = bert(attn_implementation=attention)
    quick = copy.deepcopy(model)
    quick.encoder.layer[-1].forward = lambda *args, **kwargs: first_of_layer(quick.encoder.layer[-1], *args, **kwargs)
    mask = torch.ones(3, 6, dtype=torch.long)
    if padded:
        mask[1, 4:] = mask[2, 2:] = 0
    ours, theirs = (
        gradients(lambda x, one=one: one(inputs_embeds=x, attention_mask=mask).last_hidden_state, drawn(3, 6, 24))
        for one in (quick, model)
    )
    same(ours[0], theirs[0])
    same(ours[1], theirs[1])
    assert quick(inputs_embeds=drawn(3, 6, 24), attention_mask=mask).last_hidden_state.shape == (3, 1, 24)


@needs_new_layers
def test_bert_layer_steps_aside_for_dropout() -> None:
    layer, x = bert().encoder.layer[-1].train(), drawn(2, 5, 24)
    torch.manual_seed(1)
    wanted = layer(x)
    torch.manual_seed(1)
    found = first_of_layer(layer, x)
    same(found, wanted)  # the very masks that the library draws
    assert found.shape == x.shape


def last_shapes(model: nn.Module) -> tuple[int, int]:
    """Tokens that come out of the last image block and the last text layer."""
    trunk, text = model.visual.trunk, model.text.transformer
    seen = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out: seen.append(out.shape[1]))
        for layer in (trunk.blocks[-1], text.encoder.layer[-1])
    ]
    with torch.no_grad():
        model.encode_image(drawn(1, 3, model.visual.image_size[0], model.visual.image_size[1]))
        model.encode_text(torch.ones(1, 9, dtype=torch.long))
    for hook in hooks:
        hook.remove()
    return seen[0], seen[1]


@needs_new_layers
def test_only_where_the_first_token_is_pooled(tiny_biomedclip: Path) -> None:
    model = build_backbone("BiomedCLIP", str(tiny_biomedclip)).model
    assert last_shapes(model) == (1, 1)
    other = load_open_clip("other", "", str(tiny_biomedclip), True).model
    other.visual.trunk.global_pool, other.text.pooler = "avg", MeanPooler()
    before = last_shapes(other)
    skip_what_is_not_pooled(other)
    assert last_shapes(other) == before and min(before) > 1
