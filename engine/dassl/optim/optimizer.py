"""Optimizers by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from dassl.utils import check_availability

AVAI_OPTIMS = ["adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"]


def build_optimizer(
    model: nn.Module | Iterable[Any], optim_cfg: CfgNode, param_groups: Iterable[Any] | None = None
) -> torch.optim.Optimizer:
    """The optimizer ``optim_cfg.NAME`` over a module, a list of parameters, or parameter groups.

    With ``STAGED_LR`` the children named in ``NEW_LAYERS`` learn at ``LR``, the others at ``LR * BASE_LR_MULT``.
    Layer-wise learning rates: pass ``param_groups`` with an ``lr`` of their own.

    Raises:
        UnknownNameError: an unknown name.
        TypeError: staged learning rates without a module.
    """
    check_availability(optim_cfg.NAME, AVAI_OPTIMS, "OPTIM.NAME")
    if param_groups is not None:
        if optim_cfg.STAGED_LR:
            warnings.warn("STAGED_LR is ignored: param_groups were given", stacklevel=2)
        parameters = param_groups
    elif optim_cfg.STAGED_LR:
        if not isinstance(model, nn.Module):
            raise TypeError("with STAGED_LR, model must be an instance of nn.Module")
        parameters = _staged(model, optim_cfg)
    else:
        parameters = model.parameters() if isinstance(model, nn.Module) else model
    return _makers(optim_cfg)[optim_cfg.NAME](parameters)


def _staged(model: nn.Module, optim_cfg: CfgNode) -> list[dict[str, Any]]:
    new_layers = optim_cfg.NEW_LAYERS
    new_layers = [new_layers] if isinstance(new_layers, str) else list(new_layers)
    if isinstance(model, nn.DataParallel):
        model = model.module
    groups: dict[bool, list[nn.Parameter]] = {False: [], True: []}
    for name, module in model.named_children():
        groups[name in new_layers].extend(module.parameters())
    return [{"params": groups[False], "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT}, {"params": groups[True]}]


def _makers(cfg: CfgNode) -> dict[str, Callable[[Any], torch.optim.Optimizer]]:
    common = {"lr": cfg.LR, "weight_decay": cfg.WEIGHT_DECAY}
    adam = common | {"betas": (cfg.ADAM_BETA1, cfg.ADAM_BETA2)}
    sgd = {"momentum": cfg.MOMENTUM, "dampening": cfg.SGD_DAMPNING, "nesterov": cfg.SGD_NESTEROV}
    return {
        "adam": lambda p: torch.optim.Adam(p, **adam),
        "amsgrad": lambda p: torch.optim.Adam(p, **adam, amsgrad=True),
        "adamw": lambda p: torch.optim.AdamW(p, **adam),
        # as its authors wrote it, RAdam decays the weights apart from the gradient
        "radam": lambda p: torch.optim.RAdam(p, **adam, decoupled_weight_decay=True),
        "sgd": lambda p: torch.optim.SGD(p, **common, **sgd),
        "rmsprop": lambda p: torch.optim.RMSprop(p, **common, momentum=cfg.MOMENTUM, alpha=cfg.RMSPROP_ALPHA),
    }
