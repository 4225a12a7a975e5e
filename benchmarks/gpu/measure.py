"""The measurements that have no counterpart among those of the CPU: steps in several variants, seeds, where the time goes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader

from benchmarks import compute, jobs, together
from benchmarks.setting import Setting
from benchmarks.units import build, config, mode_context, need_data, step_of, timed
from features.encoder import _Views
from trainers.base import VLTrainer

STEPS = (("BiomedDPT", "btmri", "base"), ("BiomedDPT", "kvasir", "all"), ("CoOp", "btmri", "base"), ("CoOp", "kvasir", "all"))
VARIANTS: dict[str, dict[str, object]] = {
    "eager": {},
    "reference": {},
    "bf16": {"PREC": "bf16"},
    "graphs": {"MODEL__BACKBONE__COMPILE": "reduce-overhead"},
}
BLOCK = 20  # steps between two looks at the clock: each look waits for the device, which training does not
SEEDS = (3, 15)
TOP = 12  # lines of a profile
READ = 200  # images decoded per measurement


def on_gpu() -> bool:
    """Whether there is one; what is measured there alone is left out elsewhere."""
    return torch.cuda.is_available()


def peak_bytes() -> int:
    """The most that PyTorch's tensors took on the device so far; 0 without one."""
    return torch.cuda.max_memory_allocated() if on_gpu() else 0


def rates(setting: Setting) -> dict[str, Any]:
    """Image encoding and the best matrix product, by precision (:func:`benchmarks.compute.rates`)."""
    names = ("fp32", "tf32", "bf16") if on_gpu() else ("fp32", "bf16")
    return {"precisions": {name: compute.rates(setting, name) for name in names}}


def steps(setting: Setting, variant: str) -> dict[str, Any]:
    """Seconds per training step of BiomedDPT and CoOp at 2 and 8 classes, of stored features; reference: of images."""
    found = []
    block, blocks = (2, 1) if setting.quick else (BLOCK, setting.repeats)
    for method, dataset, split in STEPS:
        need_data(setting, dataset)
        with mode_context("reference" if variant == "reference" else "ours"):
            run = setting.folder("runs") / f"steps-{variant}-{method}-{dataset}"
            section = {"BiomedDPT": "BIOMEDDPT", "CoOp": "COOP"}[method]
            keys = {(f"TRAINER__{section}__PREC" if key == "PREC" else key): value for key, value in VARIANTS[variant].items()}
            trainer = build(config(setting, method, dataset, split, run, FEATURES__ROOT=setting.folder("steps"), **keys))
            trainer.store.ahead = 1  # the views of the epoch at hand are enough
            trainer.before_train()
            step = step_of(trainer)
            first = timed(step)
            _several(step, block)
            found.append({
                "method": method,
                "classes": len(trainer.classnames),
                "batch": trainer.cfg.DATALOADER.TRAIN_X.BATCH_SIZE,
                "tokens": trainer.prompt_learner.token_batch().ids.shape[1],
                "first_s": first,
                "step_s": [timed(lambda step=step: _several(step, block)) / block for _ in range(blocks)],
                "peak_bytes": peak_bytes(),
            })  # fmt: skip
            trainer.close_writer()
    return {"steps": found}


def _several(step: Callable[[], None], times: int) -> None:
    for _ in range(times):
        step()


def seeds(setting: Setting) -> dict[str, Any]:
    """Batches of seeds against one seed, of the methods that can (:func:`benchmarks.together.seed_batch`)."""
    counts = SEEDS[:1] if setting.quick else SEEDS
    methods = {
        method: {str(count): together.seed_batch(setting, method, seeds=range(1, count + 1)) for count in counts}
        for method in ("BiomedDPT", "CoOp")
    }
    return {"methods": methods}


def memory(setting: Setting, mode: str) -> dict[str, Any]:
    """:func:`benchmarks.jobs.memory_job`, and the device's peak in it."""
    return jobs.memory_job(setting, mode) | {"gpu_bytes": peak_bytes()}


# -- where the time goes ----------------------------------------------------------------------------------


def profiles(setting: Setting) -> dict[str, Any]:
    """The dearest lines of one training step and of one encoding pass, and how fast the CPU reads images beside it."""
    need_data(setting, "btmri")
    run = setting.folder("runs") / "profile"
    trainer = build(config(setting, "BiomedDPT", "btmri", "base", run, FEATURES__ROOT=setting.folder("profile")))
    trainer.store.ahead = 1  # the views of the epoch at hand are enough
    trainer.before_train()
    step = step_of(trainer)
    size, count = trainer.backbone.image_size, 2 if setting.quick else trainer.encoder.batch_size
    images = torch.randn(count, 3, size, size).to(trainer.device)
    found = {"step": _profile(step), "encode": _profile(lambda: trainer.encode(images)) | {"images": count}}
    trainer.close_writer()
    return found | {"read": _reading(trainer, 10 if setting.quick else READ)}


def _profile(call: Callable[[], Any]) -> dict[str, Any]:
    for _ in range(3):
        call()
    seconds = timed(call)
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu() else [])]
    with profile(activities=kinds) as found:
        timed(call)
    kernels = [line for line in found.key_averages() if line.device_type == DeviceType.CUDA]
    lines = [line for line in found.key_averages() if line.device_type == DeviceType.CPU]  # whose kernels count as theirs, too
    cost = (lambda line: line.self_device_time_total) if on_gpu() else (lambda line: line.self_cpu_time_total)
    return {
        "seconds": seconds,
        "kernels_s": sum(line.self_device_time_total for line in kernels) / 1e6,
        "kernels": sum(line.count for line in kernels),
        "top": [
            {
                "name": line.key,
                "calls": line.count,
                "device_us": line.self_device_time_total,
                "cpu_us": line.self_cpu_time_total,
            }
            for line in sorted(lines, key=cost, reverse=True)[:TOP]
        ],
    }


def _reading(trainer: VLTrainer, count: int) -> dict[str, Any]:
    """Images per second that are read, decoded and cropped as training does it, by processes at work."""
    dataset = trainer.dm.train_loader_x.dataset
    wanted = [(index // len(dataset), index % len(dataset)) for index in range(count)]
    rates: dict[str, float] = {}
    for workers in dict.fromkeys((0, min(8, os.cpu_count() or 1))):
        loader = DataLoader(_Views(dataset, wanted * max(1, workers)), min(32, count // 2), num_workers=workers)
        batches = iter(loader)
        next(batches)  # the processes have started
        started, images = time.perf_counter(), 0
        for batch in batches:
            images += len(batch)
        rates[str(workers)] = images / (time.perf_counter() - started)
    return rates
