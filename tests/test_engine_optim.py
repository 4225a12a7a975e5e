"""The engine's optimizers step by step, and its learning rates epoch by epoch, from their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from dassl.config import get_cfg_default
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.optim.lr_scheduler import ConstantWarmupScheduler, LinearWarmupScheduler
from dassl.optim.optimizer import AVAI_OPTIMS
from dassl.utils import UserError


def optim_cfg(**values: object):
    cfg = get_cfg_default().OPTIM
    for key, value in values.items():
        assert key in cfg
        cfg[key] = value
    return cfg


# -- optimizers -------------------------------------------------------------------------------------------

LR, DECAY, B1, B2, MOMENTUM, ALPHA, EPS = 0.05, 0.02, 0.8, 0.95, 0.7, 0.9, 1e-8


def by_hand(name: str, p: float, gradients: list[float], nesterov: bool = False) -> float:
    """One parameter after one step per gradient, from the papers."""
    m = v = largest = 0.0
    for t, raw in enumerate(gradients, start=1):
        decoupled = name in ("adamw", "radam")
        g = raw if decoupled else raw + DECAY * p
        p *= 1 - LR * DECAY if decoupled else 1
        if name == "sgd":
            m = g if t == 1 else MOMENTUM * m + g  # no dampening of the first step
            p -= LR * (g + MOMENTUM * m if nesterov else m)
            continue
        if name == "rmsprop":
            v = ALPHA * v + (1 - ALPHA) * g * g
            m = MOMENTUM * m + g / (math.sqrt(v) + EPS)
            p -= LR * m
            continue
        m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
        largest = max(largest, v)
        mean = m / (1 - B1**t)
        if name == "radam":  # Liu et al., ICLR 2020, algorithm 2
            rho_inf = 2 / (1 - B2) - 1
            rho = rho_inf - 2 * t * B2**t / (1 - B2**t)
            if rho > 5:
                r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
                p -= LR * r * mean * math.sqrt(1 - B2**t) / (math.sqrt(v) + EPS)
            else:
                p -= LR * mean
            continue
        second = (largest if name == "amsgrad" else v) / (1 - B2**t)
        p -= LR * mean / (math.sqrt(second) + EPS)
    return p


CASES = [(name, False) for name in AVAI_OPTIMS] + [("sgd", True)]


@pytest.mark.parametrize("name, nesterov", CASES)
def test_optimizers_step_as_their_papers_say(name: str, nesterov: bool) -> None:
    cfg = optim_cfg(
        NAME=name, LR=LR, WEIGHT_DECAY=DECAY, ADAM_BETA1=B1, ADAM_BETA2=B2, MOMENTUM=MOMENTUM, RMSPROP_ALPHA=ALPHA,
        SGD_NESTEROV=nesterov,
    )  # fmt: skip
    parameter = nn.Parameter(torch.tensor([1.5], dtype=torch.float64))
    optimizer = build_optimizer([parameter], cfg)
    gradients = [0.9, -0.4, 2.0, 0.1, -1.2, 0.3, 0.3, -0.7, 0.05, 1.1]  # large enough to shrink again: amsgrad differs
    for gradient in gradients:
        parameter.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
    assert parameter.item() == pytest.approx(by_hand(name, 1.5, gradients, nesterov), rel=1e-9)


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.neck, self.classifier = nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 2)


@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel])
@pytest.mark.parametrize("new_layers", ["classifier", ("classifier", "neck")])
def test_staged_learning_rates(new_layers, wrap) -> None:
    model = TwoLayers()
    cfg = optim_cfg(NAME="sgd", LR=0.4, STAGED_LR=True, NEW_LAYERS=new_layers, BASE_LR_MULT=0.25)
    old, new = build_optimizer(wrap(model), cfg).param_groups
    names = (new_layers,) if isinstance(new_layers, str) else new_layers
    want = {id(p) for name in names for p in getattr(model, name).parameters()}
    assert {id(p) for p in new["params"]} == want and new["lr"] == 0.4
    assert {id(p) for p in old["params"]} == {id(p) for p in model.parameters()} - want and old["lr"] == 0.1
    with pytest.raises(TypeError, match=r"nn\.Module"):
        build_optimizer(list(model.parameters()), cfg)


def test_layer_wise_learning_rates_and_their_schedule() -> None:
    model = TwoLayers()
    layers = [{"params": layer.parameters(), "lr": rate} for layer, rate in ((model.backbone, 0.1), (model.neck, 0.2))]
    layers.append({"params": model.classifier.parameters()})
    cfg = optim_cfg(LR=0.4, LR_SCHEDULER="cosine", MAX_EPOCH=4, WARMUP_EPOCH=2, WARMUP_TYPE="linear", WARMUP_MIN_LR=0.001)
    optimizer = build_optimizer(model, cfg, layers)
    assert isinstance(optimizer, torch.optim.Adam)
    scheduler = build_lr_scheduler(optimizer, cfg)
    rates = []
    for _ in range(4):
        rates.append([group["lr"] for group in optimizer.param_groups])
        assert scheduler.get_last_lr() == rates[-1]
        scheduler.step()
    falling = 0.5 * (1 + math.cos(math.pi / 4))
    want = [[0.001] * 3, [0.05, 0.1, 0.2], [0.1, 0.2, 0.4], [0.1 * falling, 0.2 * falling, 0.4 * falling]]
    assert rates == [pytest.approx(row, rel=1e-12) for row in want]
    with pytest.warns(UserWarning, match="STAGED_LR is ignored"):
        build_optimizer(model, optim_cfg(STAGED_LR=True), [{"params": model.neck.parameters()}])


def test_unknown_optimizers_schedules_and_step_sizes() -> None:
    model = nn.Linear(1, 1)
    with pytest.raises(ValueError, match='"adamm" is unknown. Did you mean "adam"'):
        build_optimizer(model, optim_cfg(NAME="adamm"))
    optimizer = build_optimizer(model, optim_cfg())
    mistakes = [
        ({"LR_SCHEDULER": "cosin"}, 'Did you mean "cosine"'),
        ({"WARMUP_EPOCH": 1, "WARMUP_TYPE": "konstant"}, 'Did you mean "constant"'),
        ({"LR_SCHEDULER": "multi_step"}, "multi_step needs the epochs"),
        ({"STEPSIZE": (2.5,)}, "whole numbers"),
    ]
    for values, message in mistakes:
        with pytest.raises(UserError, match=message) as caught:
            build_lr_scheduler(optimizer, optim_cfg(**values))
        assert isinstance(caught.value, ValueError)


# -- schedules --------------------------------------------------------------------------------------------


def reference(cfg, base: float) -> list[float]:
    """MAX_EPOCH rates by upstream's definition: PyTorch's own scheduler, which the warm-up wraps and steps after itself."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base)
    group, end, warmup = optimizer.param_groups[0], cfg.MAX_EPOCH, cfg.WARMUP_EPOCH
    size = cfg.STEPSIZE[-1] if cfg.STEPSIZE[-1] > 0 else end
    schedulers = torch.optim.lr_scheduler
    proper = {
        "single_step": lambda: schedulers.StepLR(optimizer, size, cfg.GAMMA),
        "multi_step": lambda: schedulers.MultiStepLR(optimizer, cfg.STEPSIZE, cfg.GAMMA),
        "cosine": lambda: schedulers.CosineAnnealingLR(optimizer, float(end)),
    }[cfg.LR_SCHEDULER]()
    if warmup > 0 and not cfg.WARMUP_RECOUNT:
        proper.last_epoch = warmup
    rates = []
    for epoch in range(end):
        if epoch < warmup and cfg.WARMUP_TYPE == "constant":
            group["lr"] = cfg.WARMUP_CONS_LR
        elif epoch < warmup:
            group["lr"] = base * epoch / warmup if epoch else cfg.WARMUP_MIN_LR
        elif epoch == warmup:
            group["lr"] = proper.get_last_lr()[0]
        elif epoch > 0:
            optimizer.step()
            proper.step()
        rates.append(group["lr"])
    return rates


def ours(cfg, base: float, kill_after: int = -1) -> list[float]:
    """The same from the engine; the run may be killed once and go on from its state."""

    def fresh():
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base)
        return optimizer, build_lr_scheduler(optimizer, cfg)

    optimizer, scheduler = fresh()
    rates = []
    for epoch in range(cfg.MAX_EPOCH):
        if epoch == kill_after:
            states = optimizer.state_dict(), scheduler.state_dict()
            optimizer, scheduler = fresh()
            optimizer.load_state_dict(states[0])
            scheduler.load_state_dict(states[1])
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


SCHEDULES = st.fixed_dictionaries(
    {
        "LR_SCHEDULER": st.sampled_from(["single_step", "multi_step", "cosine"]),
        "STEPSIZE": st.lists(st.integers(1, 25), min_size=1, max_size=4).map(lambda steps: tuple(sorted(steps))),
        "GAMMA": st.sampled_from([0.1, 0.5, 0.9]),
        "MAX_EPOCH": st.integers(1, 30),
        "WARMUP_EPOCH": st.integers(-1, 8),
        "WARMUP_TYPE": st.sampled_from(["constant", "linear"]),
        "WARMUP_CONS_LR": st.sampled_from([1e-5, 0.3]),
        "WARMUP_MIN_LR": st.sampled_from([1e-5, 1e-3]),
        "WARMUP_RECOUNT": st.booleans(),
    }
)


@given(SCHEDULES, st.sampled_from([0.0025, 1.0]), st.integers(-1, 29))
def test_learning_rates_are_upstreams_also_after_a_kill(values: dict, base: float, kill_after: int) -> None:
    assume(values["LR_SCHEDULER"] != "multi_step" or values["STEPSIZE"])
    cfg = optim_cfg(**values)
    assert ours(cfg, base, kill_after) == pytest.approx(reference(cfg, base), rel=1e-9)


COUNTED = [
    # schedule, warm-up, recount -> rates of six epochs, written out
    ({"LR_SCHEDULER": "single_step", "STEPSIZE": (2,)}, [1, 1, 0.1, 0.1, 0.01, 0.01]),
    ({"LR_SCHEDULER": "single_step"}, [1, 1, 1, 1, 1, 1]),
    ({"LR_SCHEDULER": "multi_step", "STEPSIZE": (1, 4)}, [1, 0.1, 0.1, 0.1, 0.01, 0.01]),
    ({"LR_SCHEDULER": "cosine"}, [1, 0.9330127, 0.75, 0.5, 0.25, 0.0669873]),
    ({"LR_SCHEDULER": "cosine", "WARMUP_EPOCH": 1, "WARMUP_TYPE": "constant"}, [1e-5, 1, 0.9330127, 0.75, 0.5, 0.25]),
    ({"LR_SCHEDULER": "cosine", "WARMUP_EPOCH": 3}, [1e-5, 1 / 3, 2 / 3, 1, 0.9330127, 0.75]),
    ({"LR_SCHEDULER": "cosine", "WARMUP_EPOCH": 3, "WARMUP_RECOUNT": False}, [1e-5, 1 / 3, 2 / 3, 1, 0.5, 0.1339746]),
    ({"LR_SCHEDULER": "single_step", "STEPSIZE": (2,), "WARMUP_EPOCH": 3}, [1e-5, 1 / 3, 2 / 3, 1, 1, 0.1]),
    ({"LR_SCHEDULER": "single_step", "STEPSIZE": (2,), "WARMUP_EPOCH": 3, "WARMUP_RECOUNT": False},
     [1e-5, 1 / 3, 2 / 3, 1, 0.1, 0.1]),
    ({"LR_SCHEDULER": "multi_step", "STEPSIZE": (1, 4), "WARMUP_EPOCH": 3, "WARMUP_RECOUNT": False},
     [1e-5, 1 / 3, 2 / 3, 1, 0.1, 0.1]),
]  # fmt: skip


@pytest.mark.parametrize("values, want", COUNTED)
def test_learning_rates_written_out(values: dict, want: list[float]) -> None:
    cfg = optim_cfg(MAX_EPOCH=6, **values)
    assert ours(cfg, 1.0) == pytest.approx(want, rel=1e-6)
    assert reference(cfg, 1.0) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("kind, first", [(ConstantWarmupScheduler, [0.3, 0.3]), (LinearWarmupScheduler, [0.3, 0.5])])
def test_warm_up_around_a_scheduler_of_pytorchs(kind, first: list[float]) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = kind(optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5), 2, 0.3)
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == [*first, 1.0, 0.5, 0.25]
