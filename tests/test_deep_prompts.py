"""Deep prompts of a text tower: one set per text or for all, and no hook that stays. (test_backbones.py has every tower.)"""

from __future__ import annotations

import open_clip
import pytest
import torch
from open_clip.transformer import Transformer

from backbones.deep_prompts import deep_text_prompts
from backbones.open_clip_tower import OpenClipBackbone
from tests.naive_towers import naive_text
from tests.tiny_backbones import OPEN_CLIP, scramble

TEXTS = ["a photo of a glioma tumor.", "a photo of a normal brain.", "a photo of a cyst in the left kidney."]


def native_clip(name: str) -> OpenClipBackbone:
    """One of tiny_backbones' open_clip architectures with random weights."""
    model = scramble(open_clip.CLIP(**OPEN_CLIP[name]), 7)
    return OpenClipBackbone(name, model, open_clip.SimpleTokenizer(), False)


@pytest.fixture(scope="module")
def tower() -> OpenClipBackbone:
    return native_clip("tiny-vit")


def hooks(backbone: OpenClipBackbone) -> int:
    return sum(len(layer._forward_pre_hooks) for layer in backbone.text_layers)


@torch.no_grad()
@pytest.mark.parametrize("depth", [1, 2])
def test_every_text_may_have_prompts_of_its_own(depth: int, tower) -> None:
    deep = torch.randn(depth, len(TEXTS), 2, tower.text_width, generator=torch.Generator().manual_seed(1))
    tokens = tower.tokenize(TEXTS)
    embedded = tower.embed_tokens(tokens)
    got = tower.encode_embeddings(embedded, tokens, deep)
    want = [naive_text(tower, embedded, tokens, deep[:, n])[n] for n in range(len(TEXTS))]
    torch.testing.assert_close(got, torch.stack(want), rtol=1e-5, atol=1e-5)
    assert (got - tower.encode_embeddings(embedded, tokens, deep[:, 0])).abs().max(dim=1).values.gt(1e-3).tolist() == [
        False,
        True,
        True,
    ]


def test_gradients_flow_and_no_hook_stays(tower) -> None:
    deep = torch.randn(2, 2, tower.text_width, requires_grad=True)
    tokens = tower.tokenize(TEXTS)
    embedded = tower.embed_tokens(tokens)
    with deep_text_prompts(tower.text_layers, deep):
        assert hooks(tower) == 2
    tower.encode_embeddings(embedded, tokens, deep).square().sum().backward()
    assert bool((deep.grad.abs().sum(dim=-1) > 0).all()) and hooks(tower) == 0
    for shape, said in (((1, 200), "do not fit"), ((3, 2), "need 4 text layers, the tower has 3"), ((2,), r"\(J, M, W\)")):
        with pytest.raises(ValueError, match=said):
            tower.encode_embeddings(embedded, tokens, torch.zeros(*shape, tower.text_width))
        assert hooks(tower) == 0


@torch.no_grad()
def test_layers_that_take_the_sequence_first_are_understood() -> None:
    batch, sequence = (Transformer(width=16, layers=3, heads=2, batch_first=first).eval() for first in (True, False))
    sequence.load_state_dict(batch.state_dict())
    x, deep = torch.randn(4, 6, 16), torch.randn(2, 3, 16)
    with deep_text_prompts(batch.resblocks, deep):
        want = batch(x)
    with deep_text_prompts(sequence.resblocks, deep, batch_first=False):
        got = sequence(x)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert (want - batch(x)).abs().max() > 1e-3
