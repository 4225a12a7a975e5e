"""What one method costs, piece by piece, in one mode: seconds of building, steps, views, tests, saving.

Modes: ``reference`` (:mod:`benchmarks.reference`) and ``ours``, where the pieces are measured both with nothing stored and
with everything stored.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

import train
from benchmarks.reference import reference_mode
from benchmarks.setting import REPO, Setting
from dassl.engine import build_trainer
from dassl.utils import set_random_seed
from datasets import by_key
from datasets.phantom.__main__ import generate
from features import digest
from features.encoder import content
from runs.identity import save_config
from runs.records import write_results
from runs.settings import config_file
from trainers.base import VLTrainer
from trainers.checkpoints import LEARNER

PER_CLASS = 60  # rehearsal images, where the data folder has none of a dataset
MODES = ("reference", "ours")


def mode_context(mode: str) -> Any:
    """Of ``reference`` or ``ours``; another one is a KeyError."""
    return {"reference": reference_mode, "ours": nullcontext}[mode]()


# -- building ---------------------------------------------------------------------------------------------


def config(setting: Setting, method: str, dataset: str, split: str, folder: Path, **overrides: object) -> CfgNode:
    """A run's config, from the project's files for method, dataset and split.

    Args:
        folder: of the run.
        overrides: config keys with ``__`` for the dot; they rule over 16 shots, seed 1 and no loader processes.
    """
    path = config_file(method, split, dataset)
    words = ["--root", setting.root, "--trainer", method, "--backbone", setting.backbone, "--seed", "1",
             "--dataset-config-file", str(REPO / "configs" / "datasets" / f"{dataset}.yaml"),
             "--output-dir", str(folder), *(["--config-file", str(path)] if path else [])]  # fmt: skip
    keys = {"DATASET__NUM_SHOTS": 16, "DATASET__SUBSAMPLE_CLASSES": split, "DATALOADER__NUM_WORKERS": 0}
    if setting.path:
        keys["MODEL__BACKBONE__PATH"] = setting.path
    for key, value in (keys | overrides).items():
        words += [key.replace("__", "."), str(value)]
    return train.setup_cfg(train.parse_arguments(words))


def build(cfg: CfgNode) -> VLTrainer:
    """A trainer as train.py builds it."""
    set_random_seed(cfg.SEED)
    return build_trainer(cfg)


def need_data(setting: Setting, *keys: str) -> None:
    """Generate the rehearsal images of the datasets that the data folder lacks."""
    for key in keys:
        if not (Path(setting.root) / by_key()[key].dataset_dir).is_dir():
            generate(Path(setting.root), key, PER_CLASS, 128, 0)


# -- clocks -----------------------------------------------------------------------------------------------


def now() -> float:
    """Seconds, once the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    started = now()
    call()
    return now() - started


def repeated(call: Callable[[], Any], times: int, warm_up: int = 1) -> list[float]:
    """Seconds of each of ``times`` calls, after some that are not counted."""
    return [timed(call) for _ in range(warm_up + times)][warm_up:]


@contextmanager
def empty_store(trainer: VLTrainer, folder: Path) -> Iterator[None]:
    """The trainer's features are kept in ``folder``, empty at the start; where it keeps none, nothing changes."""
    if trainer.encoder.root is None:
        yield
        return
    shutil.rmtree(folder, ignore_errors=True)
    before = trainer.encoder.root
    trainer.encoder.root = folder
    forget(trainer)
    try:
        yield
    finally:
        trainer.encoder.root = before
        forget(trainer)


def forget(trainer: VLTrainer) -> None:
    """What the trainer holds of the store in memory is dropped, as if its process had just begun."""
    trainer.encoder._spaces.clear()
    trainer.store._coming.clear()
    trainer.store._kept.clear()
    content.cache_clear()


def cut_test_images(trainer: VLTrainer, count: int) -> int:
    """Test on the first ``count`` test images at most; how many these are."""
    loader = trainer.dm.test_loader
    loader.dataset.data_source = loader.sampler.data_source = loader.dataset.data_source[:count]
    return len(loader.dataset.data_source)


# -- one method -------------------------------------------------------------------------------------------


def costs(
    setting: Setting,
    method: str,
    dataset: str,
    split: str,
    mode: str,
    store: str,
    test_images: int = 100,
    repeats: int = 0,
    rebuild: str = "",
    **overrides: object,
) -> dict[str, Any]:
    """All pieces of one method in one mode, as lists of seconds and counts.

    Args:
        store: name of the folder of stored features that building finds; images are measured with one of their own.
        test_images: at most so many are tested.
        repeats: of each measurement; ``setting.repeats`` by default.
        rebuild: a split that is built afterwards in the same process, as a second run of it would be.
        overrides: as of :func:`config`.
    """
    need_data(setting, dataset)
    repeats = repeats or setting.repeats
    with mode_context(mode):
        run = setting.folder("runs") / f"{method}-{dataset}-{split}-{mode}-{time.time_ns()}"
        cfg = config(setting, method, dataset, split, run, FEATURES__ROOT=setting.folder(store), **overrides)
        started = now()
        trainer = build(cfg)
        found = {"method": method, "dataset": dataset, "split": split, "mode": mode, "build_s": now() - started}
        with empty_store(trainer, setting.folder("images") / run.name):
            if trainer.learns:
                found |= training(trainer, repeats)
            found |= testing(trainer, cut_test_images(trainer, test_images), repeats, run)
        if trainer.learns:
            found |= saving(trainer, run, repeats)
        found |= facts(trainer, cfg)  # not before: it hashes the weights, which the pieces above pay for when they need it
        if rebuild:
            again = config(setting, method, dataset, rebuild, run, FEATURES__ROOT=setting.folder(store), **overrides)
            found["rebuild_s"] = timed(lambda: build(again))
            if mode == "ours":
                found["stored_rebuild_s"] = timed(lambda: build(again))
    return found


def facts(trainer: VLTrainer, cfg: CfgNode) -> dict[str, Any]:
    """Sizes and counts; ``tower`` names the trainer's way of encoding, ``views`` its way of drawing training views."""
    tower = digest(repr(sorted(trainer.about_features().items()))).hex()[:12]
    learned = trainer.learns
    return {
        "classes": len(trainer.classnames),
        "batch": cfg.DATALOADER.TRAIN_X.BATCH_SIZE if learned else 0,
        "test_batch": cfg.DATALOADER.TEST.BATCH_SIZE,
        "epochs": cfg.OPTIM.MAX_EPOCH if learned else 0,
        "steps_per_epoch": len(trainer.train_loader_x) if learned else 0,
        "train_images": len(trainer.dm.dataset.train_x),
        "published_test_images": trainer.dm.dataset.published_sizes[2],
        "prompt_tokens": trainer.prompt_learner.token_batch().ids.shape[1] if learned else 0,
        "tower": tower,
        "views": digest(tower, repr(trainer.dm.train_loader_x.dataset.transform)).hex()[:12],
        "model_bytes": sum(p.numel() * p.element_size() for p in trainer.backbone.state_dict().values()),
        "batch_bytes": 4 * 3 * trainer.backbone.image_size**2 * cfg.DATALOADER.TEST.BATCH_SIZE,
        "device": str(trainer.device),
    }


def training(trainer: VLTrainer, repeats: int) -> dict[str, Any]:
    """Epochs and steps.

    ``epoch_s``: whole epochs whose views nobody encoded before; ``stored_epoch_s``: whole epochs with stored views;
    ``step_s``: steps on batches that lie in memory; ``view_s``: encoding one view, many at a time; ``read_s``: reading
    one that is stored.
    """
    trainer.max_epoch = 1 + repeats
    stored = trainer.encoder.root is not None
    trainer.store.ahead = 1  # an epoch's own views; how many are encoded at a time otherwise is measured as view_s
    trainer.before_train()
    epochs = [_epoch(trainer, number) for number in range(1 + min(repeats, 3))][1:]
    found: dict[str, Any] = {"epoch_s": epochs}
    if stored:
        found["stored_epoch_s"] = [_epoch(trainer, 1) for _ in range(repeats)]
        found |= _views(trainer)
    found["step_s"] = repeated(step_of(trainer), 3 * repeats, warm_up=1)
    trainer.close_writer()
    return found


def step_of(trainer: VLTrainer) -> Callable[[], None]:
    """A training step on batches that lie in memory, one after the other."""
    trainer.announce_epoch()
    trainer.set_model_mode("train")
    batches = [batch for batch, _ in zip(trainer.train_loader_x, range(4), strict=False)]
    trainer.num_batches, position = 10**6, iter(range(10**6))

    def step() -> None:
        trainer.batch_idx = next(position)
        trainer.forward_backward(batches[trainer.batch_idx % len(batches)])

    return step


def _epoch(trainer: VLTrainer, number: int) -> float:
    trainer.epoch = number
    trainer.announce_epoch()
    trainer.before_epoch()
    return timed(trainer.run_epoch)


def _views(trainer: VLTrainer) -> dict[str, float]:
    dataset = trainer.store._views
    epochs = range(1000, 1000 + max(1, round(100 / len(dataset))))
    count = len(dataset) * len(epochs)
    encode = timed(lambda: trainer.encoder(dataset, epochs))
    forget(trainer)
    return {"view_s": encode / count, "views_timed": count, "read_s": timed(lambda: trainer.encoder(dataset, epochs)) / count}


def testing(trainer: VLTrainer, images: int, repeats: int, run: Path) -> dict[str, Any]:
    """``test_s``: tests that encode the images; ``second_test_s``: tests that find them stored; ``text_s``: the class
    features alone; ``results_s``: writing a run's files after its test, for the first time in this process
    and again."""
    stored, folder = trainer.encoder.root is not None, trainer.encoder.root
    first = []
    for _ in range(1 + min(repeats, 3)):
        if stored:
            shutil.rmtree(folder, ignore_errors=True)
            forget(trainer)
        first.append(timed(trainer.test))
    found: dict[str, Any] = {"test_images": images, "test_s": first[1:]}
    if stored:
        found["second_test_s"] = []
        for _ in range(1 + repeats):
            forget(trainer)
            found["second_test_s"].append(timed(trainer.test))
        found["second_test_s"] = found["second_test_s"][1:]
    trainer.set_model_mode("eval")
    with torch.no_grad():
        found["text_s"] = [_text(trainer) for _ in range(repeats)] if not trainer.text_sees_image else [0.0]
    save_config(trainer.cfg, run)
    found["results_s"] = repeated(lambda: write_results(trainer, run, {}, {}), 2, warm_up=0)
    return found


def _text(trainer: VLTrainer) -> float:
    trainer._text_features = None
    return timed(trainer.text_features)


def saving(trainer: VLTrainer, run: Path, repeats: int) -> dict[str, Any]:
    """``save_s`` and ``load_s`` of the last checkpoint, and its size."""
    save = repeated(lambda: trainer.save_model(trainer.epoch, str(run)), repeats)
    path = next((run / LEARNER).glob("model.pth.tar-*"))
    return {
        "save_s": save,
        "load_s": repeated(lambda: trainer.load_model(str(run)), repeats),
        "checkpoint_bytes": os.stat(path).st_size,
    }
