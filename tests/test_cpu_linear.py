"""Linear layers of a frozen tower on a CPU: what PyTorch's own give, whatever comes in, and aside where they must step."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from backbones.cpu_linear import AVAILABLE, FrozenLinear, linear, product, quicken

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="this PyTorch or machine has no oneDNN product")


def frozen(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=bias).requires_grad_(False)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=0, max_size=3), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.booleans())
def test_values_and_gradients(rows: list[int], inputs: int, outputs: int, bias: bool, turned: bool) -> None:
    layer = frozen(inputs, outputs, bias)
    x = torch.randn(*rows, inputs)
    if turned and x.ndim > 1:
        x = x.transpose(0, -1).contiguous().transpose(0, -1)  # another order in memory
    ours, theirs = x.clone().requires_grad_(True), x.clone().requires_grad_(True)
    found, wanted = linear(ours, layer.weight, layer.bias), F.linear(theirs, layer.weight, layer.bias)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    upstream = torch.randn_like(wanted)
    found.backward(upstream)
    wanted.backward(upstream)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5)


def test_second_derivatives() -> None:
    layer, x = frozen(3, 4), torch.randn(5, 3, requires_grad=True)

    def twice(call) -> torch.Tensor:
        (first,) = torch.autograd.grad(call(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.pow(3).sum(), x)[0]

    wanted = twice(lambda x: F.linear(x, layer.weight, layer.bias))
    torch.testing.assert_close(twice(lambda x: linear(x, layer.weight, layer.bias)), wanted, rtol=1e-4, atol=1e-4)


def through(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return linear(x, layer.weight, layer.bias)


def used(layer: nn.Linear, x: torch.Tensor) -> bool:
    """Whether the layer goes through oneDNN's product."""
    return isinstance(through(layer, x).grad_fn, FrozenLinear._backward_cls)


def test_it_steps_aside() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    assert used(frozen(4, 5), x)
    learned_weight, learned_bias = frozen(4, 5), frozen(4, 5)
    learned = learned_weight.weight.requires_grad_(True), learned_bias.bias.requires_grad_(True)
    for layer, tensor in zip((learned_weight, learned_bias), learned, strict=True):
        assert not used(layer, x)
        through(layer, x).sum().backward()
        assert tensor.grad is not None
    assert not used(frozen(4, 5).double(), x.double())
    assert through(frozen(4, 5), torch.zeros(0, 4)).shape == (0, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert through(frozen(4, 5), x).dtype == torch.bfloat16


def test_inference_copies_and_export() -> None:
    model = nn.Sequential(frozen(4, 6), nn.GELU(), frozen(6, 2))
    x = torch.randn(3, 4)
    wanted = model(x)
    quicken(model)
    with torch.inference_mode():
        torch.testing.assert_close(model(x).clone(), wanted, rtol=1e-5, atol=1e-6)
    twin = copy.deepcopy(model)
    torch.testing.assert_close(twin(x), wanted, rtol=1e-5, atol=1e-6)
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    assert not any("mkldnn" in str(node.target) for node in exported.graph.nodes)
    torch.testing.assert_close(exported.module()(torch.cat([x, x])), torch.cat([wanted, wanted]), rtol=1e-5, atol=1e-6)


def test_the_product_reads_the_weights_where_they_are() -> None:
    weight = torch.randn(3, 5)
    x = torch.randn(2, 5)
    before = product(x, weight)
    weight.mul_(2)
    torch.testing.assert_close(product(x, weight), 2 * before, rtol=1e-5, atol=1e-5)
