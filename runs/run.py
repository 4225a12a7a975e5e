"""A run from its config to its results file: alone, or with the runs of other seeds."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from dassl.engine import build_trainer
from dassl.utils import Logger, set_random_seed
from runs.bad_images import all_named, require_readable_tests
from runs.identity import check_same_settings, save_config
from runs.progress import begin_anew, discard_unbuilt, forget_lost, marked
from runs.records import write_results
from runs.screen import Console, EpochLines, Labelled, open_log, result, title
from runs.seed_batch import SeedBatch

log = logging.getLogger(__name__)


def build(cfg: CfgNode) -> tuple[Any, dict[str, float]]:
    """The trainer as its seed makes it, its config written; and the timings so far."""
    log.info("run folder: %s", cfg.OUTPUT_DIR)
    if cfg.SEED >= 0:
        log.info("Setting fixed seed: %d", cfg.SEED)
        set_random_seed(cfg.SEED)
    torch.backends.cudnn.deterministic = True
    started = time.perf_counter()
    trainer = build_trainer(cfg)
    save_config(cfg, cfg.OUTPUT_DIR)
    return trainer, {"build_s": time.perf_counter() - started}


def finish(trainer: Any, train: dict[str, object], timings: dict[str, float], source: Mapping[str, Any] | None = None) -> None:
    """Write the results file of a tested trainer of this project."""
    if hasattr(trainer, "section") and not trainer.cfg.TEST.NO_TEST:
        write_results(trainer, trainer.cfg.OUTPUT_DIR, train, timings, source)


def run(
    cfg: CfgNode,
    *,
    eval_only: bool = False,
    model_dir: str = "",
    load_epoch: int | None = None,
    no_train: bool = False,
    restart: bool = False,
    source: Mapping[str, Any] | None = None,
    verbose: bool = False,
) -> Any:
    """One run: build, train (or load), test, write the results file. Returns the trainer.

    Args:
        restart: an unfinished run begins anew instead of going on from its last checkpoint.
        source: of a test on another dataset than that of ``model_dir``: :func:`runs.cross.source_of`.
        verbose: show the whole log, and not a line for each epoch.
    """
    folder = Path(cfg.OUTPUT_DIR)
    check_same_settings(cfg, folder)
    if restart:
        begin_anew(folder)
    console, begun = Console(sys.stdout), time.perf_counter()
    output = open_log(folder, console, verbose)
    try:
        if not verbose:
            print(title(cfg, [cfg.SEED]), file=console, flush=True)
        with redirect_stdout(output), all_named(cfg):
            trainer, timings = build(cfg)
            trainer.screen = None if verbose else EpochLines(console)
            train: dict[str, object] = {}
            started = time.perf_counter()
            if eval_only:
                trainer.load_model(model_dir, epoch=load_epoch)
                trainer.test()
            elif no_train:
                if not verbose:
                    print(f"built, not trained: {folder}", file=console, flush=True)
                return trainer
            else:
                forget_lost(folder)
                if hasattr(trainer, "section"):
                    require_readable_tests(trainer)
                trainer.train()
                train = {"epochs": trainer.max_epoch if getattr(trainer, "learns", True) else 0}
            together = marked(model_dir or cfg.RESUME or folder)
            if together:
                train["seeds_together"] = together
            timings["train_and_test_s" if not eval_only else "test_s"] = time.perf_counter() - started
            finish(trainer, train, timings, source)
        if not verbose:
            print(result(getattr(trainer, "last_results", None), folder, time.perf_counter() - begun), file=console, flush=True)
        return trainer
    except Exception as error:
        error.run_folder = folder  # where somebody who reports a fault finds its log
        raise
    finally:
        console.end_line()
        output.close()
        discard_unbuilt(folder, output.path)


def run_together(cfgs: Sequence[CfgNode], verbose: bool = False) -> None:
    """Runs that differ in their seed alone, trained as one batch; each folder is as after :func:`run`."""
    outputs: list[Logger] = []
    console, begun = Console(sys.stdout), time.perf_counter()
    if not verbose:
        print(title(cfgs[0], [cfg.SEED for cfg in cfgs]), file=console, flush=True)
    try:
        built = []
        for cfg in cfgs:
            forget_lost(cfg.OUTPUT_DIR)
            outputs.append(open_log(cfg.OUTPUT_DIR, Labelled(console, f"seed {cfg.SEED}: "), verbose))
            with redirect_stdout(outputs[-1]), all_named(cfg):
                built.append(build(cfg))
                built[-1][0].screen = None if verbose else EpochLines(outputs[-1].console)
                log.info("trained together: seeds %s", " ".join(str(one.SEED) for one in cfgs))
        with all_named(cfgs[0]):
            require_readable_tests(built[0][0])
        started = time.perf_counter()
        with all_named(cfgs[0]):
            SeedBatch([trainer for trainer, _ in built], outputs).train()
        seconds = time.perf_counter() - started
        for (trainer, timings), output in zip(built, outputs, strict=True):
            train = {"epochs": trainer.max_epoch, "seeds_together": marked(trainer.output_dir)}
            with redirect_stdout(output):
                finish(trainer, train, timings | {"train_and_test_s": seconds})
            if not verbose:
                found = result(trainer.last_results, trainer.output_dir, time.perf_counter() - begun)
                print(found, file=output.console, flush=True)
    finally:
        console.end_line()
        for cfg, output in zip(cfgs, outputs, strict=False):
            output.close()
            discard_unbuilt(cfg.OUTPUT_DIR, output.path)
