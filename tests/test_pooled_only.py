"""The last layers that make the pooled token alone: equal to the libraries' own, there and back, and aside where they must."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from open_clip.hf_model import MeanPooler
from open_clip.timm_model import TimmModel
from timm.models.vision_transformer import Attention, ResPostBlock, VisionTransformer
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from backbones import build_backbone
from backbones.open_clip_tower import load_open_clip
from backbones.pooled_only import LAYERS_GIVE_TENSORS, first_of_block, first_of_layer, skip_what_is_not_pooled
from tests.helpers import last_tokens

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


def vit(kind: type[VisionTransformer] = VisionTransformer, **settings) -> VisionTransformer:
    torch.manual_seed(0)
    trunk = kind(img_size=32, patch_size=16, embed_dim=24, depth=2, num_heads=3, num_classes=0, **settings)
    for value in trunk.parameters():
        nn.init.normal_(value, std=0.3)
    return trunk.eval().requires_grad_(False)


@pytest.mark.parametrize("settings", [{}, {"qkv_bias": False}, {"qk_norm": True}, {"init_values": 0.1}])
def test_timm_block(settings: dict) -> None:
    block = vit(**settings).blocks[-1]
    ours, theirs = (gradients(call, drawn(3, 7, 24)) for call in (lambda x: first_of_block(block, x), block))
    same(ours[0], theirs[0])
    same(ours[1], theirs[1])
    assert first_of_block(block, drawn(3, 7, 24)).shape == (3, 1, 24)


def test_timm_block_steps_aside() -> None:
    block, x = vit().blocks[-1], drawn(2, 5, 24)
    assert first_of_block(block.train(), x).shape == x.shape
    if "attn_mask" in inspect.signature(block.forward).parameters:  # not in older versions of timm
        mask = torch.ones(5, 5, dtype=torch.bool).tril()
        same(first_of_block(block.eval(), x, attn_mask=mask), block(x, attn_mask=mask))
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


@needs_new_layers
def test_bert_layer_steps_aside_for_what_it_does_not_know() -> None:
    layer, x = bert().encoder.layer[-1], drawn(2, 5, 24)
    assert first_of_layer(layer, x).shape == first_of_layer(layer, x, cache_position=torch.arange(5)).shape == (2, 1, 24)
    assert first_of_layer(layer, x, None, drawn(2, 3, 24)).shape == x.shape
    assert first_of_layer(layer, x, something="asked for").shape == x.shape
    assert first_of_layer(bert(is_decoder=True).encoder.layer[-1], x).shape == x.shape
    with pytest.raises(RuntimeError):  # a mask per token, as for kernels that pack texts: the library's to take or to refuse
        first_of_layer(layer, x, torch.ones(2, 5))


def tower(trunk: nn.Module) -> nn.Module:
    """A module that holds ``trunk`` as open_clip's does."""
    model = TimmModel.__new__(TimmModel)
    nn.Module.__init__(model)
    model.trunk = trunk
    return nn.ModuleList([model])


class TwoTokens(VisionTransformer):
    """A head that reads more than the first token, as a distilled DeiT's."""


@pytest.mark.parametrize(
    ("trunk", "touched"),
    [
        (lambda: vit(), True),
        (lambda: vit(reg_tokens=2), True),
        (lambda: vit(global_pool="avg"), False),
        (lambda: vit(block_fn=ResPostBlock), False),
        (lambda: vit(kind=TwoTokens), False),
        (lambda: changed(vit(), gate=nn.Linear(24, 24)), False),
        (lambda: changed(vit(), norm=nn.LayerNorm(24)), False),
        (lambda: changed(vit(), kind=type("Other", (Attention,), {})), False),
    ],
)
def test_image_towers_that_are_left_alone(trunk: Callable[[], VisionTransformer], touched: bool) -> None:
    built = trunk()
    skip_what_is_not_pooled(tower(built))
    assert ("forward" in vars(built.blocks[-1])) is touched
    assert not any("forward" in vars(block) for block in built.blocks[:-1])


def changed(trunk: VisionTransformer, kind: type[Attention] | None = None, **parts: nn.Module) -> VisionTransformer:
    """The tower with other parts, or another class, of its last attention."""
    attention = trunk.blocks[-1].attn
    attention.__class__ = kind or type(attention)
    for name, part in parts.items():
        setattr(attention, name, part)
    return trunk


@needs_new_layers
def test_only_where_the_first_token_is_pooled(tiny_biomedclip: Path) -> None:
    assert last_tokens(build_backbone("BiomedCLIP", str(tiny_biomedclip))) == (1, 1)
    other = load_open_clip("other", "", str(tiny_biomedclip), True)
    other.model.visual.trunk.global_pool, other.model.text.pooler = "avg", MeanPooler()
    before = last_tokens(other)
    skip_what_is_not_pooled(other)
    assert last_tokens(other) == before and min(before) > 1
