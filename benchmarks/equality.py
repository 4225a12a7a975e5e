"""The fast path gives the numbers of the reference path: features, what is learned, predictions; with dropout, in the mean."""

from __future__ import annotations

from contextlib import nullcontext
from statistics import mean, stdev
from typing import Any

import torch
from scipy.stats import ttest_ind
from torch import Tensor

from benchmarks.reference import padded_texts
from benchmarks.setting import Setting
from benchmarks.units import MODES, build, config, cut_test_images, mode_context, need_data
from dassl.utils import set_random_seed
from trainers.base import VLTrainer

METHOD, SECTION = "BiomedDPT", "BIOMEDDPT"


# -- without dropout --------------------------------------------------------------------------------------


def same_numbers(setting: Setting, steps: int = 50, images: int = 32) -> dict[str, Any]:
    """Both paths over the same steps of BiomedDPT on btmri's base classes, dropout off: the largest differences."""
    need_data(setting, "btmri")
    reference, ours = (_path(setting, mode, steps, images) for mode in MODES)
    text, image, view = (
        float((reference[key] - ours[key]).abs().max()) for key in ("text_features", "image_features", "view_features")
    )
    return {
        "steps": steps,
        "text_features": text,
        "image_features": image,
        "view_features": view,
        "ctx": float((reference["ctx"] - ours["ctx"]).abs().max()),
        "ctx_moved": float((ours["ctx"] - ours["ctx_start"]).abs().max()),
        "images": len(ours["predicted"]),
        "different_predictions": int((reference["predicted"] != ours["predicted"]).sum()),
    }


def _path(setting: Setting, mode: str, steps: int, images: int) -> dict[str, Tensor]:
    """What one mode computes: normalised features at the start, and context and predictions after ``steps`` steps."""
    keys = {"FEATURES__ROOT": setting.folder("equality"), f"TRAINER__{SECTION}__TEXT_DROPOUT": False}
    with mode_context(mode):
        run = setting.folder("runs") / f"equality-{mode}"
        trainer = build(config(setting, METHOD, "btmri", "base", run, DATALOADER__TEST__BATCH_SIZE=16, **keys))
        cut_test_images(trainer, images)
        trainer.store.ahead = 1  # as many epochs are encoded as the steps need
        found = {"ctx_start": trainer.prompt_learner.ctx.detach().clone(), "text_features": trainer.fixed_features}
        found["view_features"] = _first_views(trainer)
        train_steps(trainer, steps)
        found["ctx"] = trainer.prompt_learner.ctx.detach().clone()
        trainer.set_model_mode("eval")
        with torch.no_grad():
            batches = [batch["img"] for batch in trainer.test_loader]
            found["image_features"] = torch.cat([trainer.image_features(batch.to(trainer.device)) for batch in batches])
            found["predicted"] = torch.cat([trainer.model_inference(batch.to(trainer.device)).argmax(1) for batch in batches])
    return {key: value.cpu() for key, value in found.items()}


@torch.no_grad()
def _first_views(trainer: VLTrainer) -> Tensor:
    trainer.epoch = 0
    trainer.announce_epoch()
    return torch.cat([trainer.image_features(batch["img"].to(trainer.device)) for batch in trainer.train_loader_x])


def train_steps(trainer: VLTrainer, steps: int) -> float:
    """So many steps, epoch by epoch; the loss of the last epoch's last step."""
    trainer.num_batches, done, summary = len(trainer.train_loader_x), 0, {}
    for trainer.epoch in range(steps):
        trainer.announce_epoch()
        trainer.before_epoch()
        trainer.set_model_mode("train")
        for trainer.batch_idx, batch in enumerate(trainer.train_loader_x):
            if done == steps:
                return float(summary["loss"])
            summary = trainer.forward_backward(batch)
            done += 1
    return float(summary["loss"])


# -- with dropout -----------------------------------------------------------------------------------------


def with_dropout(setting: Setting, seeds: int = 10, epochs: int = 10) -> dict[str, Any]:
    """BiomedDPT on PhantomCLIP with text dropout, texts padded and trimmed: another draw of the same masks' distribution.

    Returns:
        Losses (mean over the last epoch, in training) and accuracies by seed of both, and the two-sided p-value of Welch's
        two-sample t-test of each.
    """
    need_data(setting, "btmri")
    found: dict[str, dict[str, list[float]]] = {}
    for name in ("padded", "trimmed"):
        runs = [_dropout_run(setting, name == "padded", seed, epochs) for seed in range(1, seeds + 1)]
        found[name] = {"loss": [run[0] for run in runs], "accuracy": [run[1] for run in runs]}
    return {"seeds": seeds, "epochs": epochs, **found, "p": {key: p_value(found, key) for key in ("loss", "accuracy")}}


def _dropout_run(setting: Setting, padded: bool, seed: int, epochs: int) -> tuple[float, float]:
    phantom = Setting(**vars(setting) | {"backbone": "PhantomCLIP", "path": ""})
    keys = {"FEATURES__ROOT": setting.folder("dropout"), "SEED": seed, "OPTIM__MAX_EPOCH": epochs}
    with padded_texts() if padded else nullcontext():
        trainer = build(config(phantom, METHOD, "btmri", "base", setting.folder("runs") / "dropout", **keys))
        set_random_seed(seed)
        losses = []
        for trainer.epoch in range(epochs):
            trainer.announce_epoch()
            trainer.before_epoch()
            trainer.set_model_mode("train")
            trainer.num_batches = len(trainer.train_loader_x)
            losses = []
            for trainer.batch_idx, batch in enumerate(trainer.train_loader_x):
                losses.append(float(trainer.forward_backward(batch)["loss"]))
        return mean(losses), float(trainer.test())


def p_value(found: dict[str, dict[str, list[float]]], key: str) -> float | None:
    """Welch's t-test of padded against trimmed; ``None`` where neither varies."""
    padded, trimmed = found["padded"][key], found["trimmed"][key]
    if len(set(padded + trimmed)) == 1:
        return None
    return float(ttest_ind(padded, trimmed, equal_var=False).pvalue)


def spread(values: list[float], digits: int) -> str:
    """Mean ± standard deviation."""
    return f"{mean(values):.{digits}f} ± {stdev(values) if len(values) > 1 else 0.0:.{digits}f}"


# -- a bank of views --------------------------------------------------------------------------------------


def bank_of_views(setting: Setting, seeds: int = 3, methods: tuple[str, ...] = (), epochs: int = 0) -> dict[str, Any]:
    """Few-shot accuracy (btmri, 16 shots, PhantomCLIP) with a new view per epoch, and with FEATURES.VIEWS V, really trained.

    Args:
        methods: those that learn from views.
        epochs: the published ones by default.
    """
    need_data(setting, "btmri")
    phantom = Setting(**vars(setting) | {"backbone": "PhantomCLIP", "path": ""})
    found: dict[str, dict[str, list[float]]] = {}
    for method in methods:
        found[method] = {}
        for views in (0, setting.views):
            keys = {"FEATURES__ROOT": setting.folder("bank"), "FEATURES__VIEWS": views}
            if epochs:
                keys["OPTIM__MAX_EPOCH"] = epochs
            found[method][str(views)] = [
                _trained(phantom, method, setting.folder("runs") / f"bank-{method}-{views}-{seed}", SEED=seed, **keys)
                for seed in range(1, seeds + 1)
            ]
    return {"seeds": seeds, "views": setting.views, "accuracy": found}


def _trained(setting: Setting, method: str, run: Any, **keys: object) -> float:
    trainer = build(config(setting, method, "btmri", "all", run, **keys))
    trainer.train()
    return float(next(iter(trainer.last_results.values())))
