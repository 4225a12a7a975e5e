"""Some seeds trained as one batch against one seed alone: seconds per step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from backbones.cpu_linear import linear
from benchmarks.setting import Setting
from benchmarks.units import build, config, need_data, repeated
from runs.seed_batch import SeedBatch, begin

SEEDS = (1, 2, 3)


def seed_batch(setting: Setting, method: str, split: str = "base", seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Steps of one seed, steps of :class:`SeedBatch` with all ``seeds``; the text tower's share of each, there and back; and
    of that the share that no batching can change: the products of as many rows with the weights of the text layers."""
    need_data(setting, "btmri")
    trainers = []
    for seed in seeds:
        run = setting.folder("runs") / f"together-{seed}-{time.time_ns()}"
        trainers.append(
            build(config(setting, method, "btmri", split, run, SEED=seed, FEATURES__ROOT=setting.folder("together")))
        )
        trainers[-1].store.ahead = 1  # the views of the epoch at hand are enough
    found: dict[str, Any] = {
        "classes": len(trainers[0].classnames),
        "prompt_tokens": trainers[0].prompt_learner.tokens.ids.shape[1],
        "seeds": len(seeds),
    }
    for name, group in (("one", trainers[:1]), ("all", trainers)):
        batch = SeedBatch(group)
        batch.each(begin_first)
        batches = [next(iter(trainer.train_loader_x)) for trainer in group]
        for trainer in group:
            trainer.batch_idx, trainer.num_batches = 0, 10**6

        def step(batch: SeedBatch = batch, batches: Any = batches) -> None:
            batch.step(batches)

        def text_pass(batch: SeedBatch = batch, group: Any = group) -> None:
            prompts = torch.cat([trainer.class_prompts()[0] for trainer in group])
            batch.first.backbone.encode_embeddings(prompts, batch.tokens).sum().backward()

        def lone(trainer: Any = group[0], one: Any = batches[0]) -> None:
            trainer.forward_backward(one)

        found[f"{name}_products_s"] = repeated(products(batch.first, batch.tokens.ids.numel()), setting.repeats * 3, warm_up=2)
        found[f"{name}_text_s"] = repeated(text_pass, setting.repeats * 3, warm_up=2)
        found[f"{name}_s"] = repeated(lone if name == "one" else step, setting.repeats * 3, warm_up=2)
    return found


def products(trainer: Any, rows: int) -> Callable[[], None]:
    """What multiplies ``rows`` tokens with the weights of each text layer, there and back."""
    layers = [part for layer in trainer.backbone.text_layers for part in layer.modules() if isinstance(part, nn.Linear)]
    widths = {width for layer in layers for width in layer.weight.shape}
    tokens = {width: torch.randn(rows, width, device=trainer.device) for width in widths}

    @torch.no_grad()
    def multiply() -> None:
        for layer in layers:
            linear(tokens[layer.in_features], layer.weight, layer.bias)
        for layer in reversed(layers):
            linear(tokens[layer.out_features], layer.weight.t())

    return multiply


def begin_first(trainer: Any) -> None:
    """As the first epoch begins."""
    begin(trainer, 0)
