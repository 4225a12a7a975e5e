"""Train and test one method on one dataset.

    python train.py --root data --seed 1 --trainer BiomedDPT --backbone BiomedCLIP \\
        --dataset-config-file configs/datasets/btmri.yaml \\
        --config-file configs/trainers/BiomedDPT/base_to_novel/btmri.yaml \\
        --output-dir output/mine DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base

With ``--task base2new`` or ``--task few_shot`` and ``--output-root`` the run's folder follows from its settings, what
is done already is skipped, and base2new trains on the base classes and tests on base and new ones in one process.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

log = logging.getLogger("dassl")

TASKS = {"few_shot": ("all",), "base2new": ("base", "new")}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="", help="folder of the datasets")
    parser.add_argument("--output-dir", default="", help="folder of this run")
    parser.add_argument("--output-root", default="", help="folder of all runs: this run's place in it is worked out")
    parser.add_argument("--task", choices=sorted(TASKS), help="with --output-root: which protocol to run")
    parser.add_argument("--shots", type=int, nargs="+", help="with --task: run each of these shot counts")
    parser.add_argument("--seeds", type=int, nargs="+", help="with --task: run each of these seeds")
    parser.add_argument("--resume", default="", help="folder with checkpoints to resume from")
    parser.add_argument("--seed", type=int, default=-1, help="fixed seed; negative: none")
    parser.add_argument("--trainer", default="", help="method, e.g. BiomedDPT (BiomedDPT_BiomedCLIP works too)")
    parser.add_argument("--backbone", default="", help="BiomedCLIP, CLIP, PhantomCLIP, open_clip:MODEL/TAG, …")
    parser.add_argument("--head", default="", help="head name (Dassl; no method here has one)")
    parser.add_argument("--config-file", default="", help="the method's config")
    parser.add_argument("--dataset-config-file", default="", help="the dataset's config")
    parser.add_argument("--transforms", nargs="+", help="data augmentation")
    parser.add_argument("--source-domains", nargs="+", help="Dassl; no dataset here has domains")
    parser.add_argument("--target-domains", nargs="+", help="Dassl; no dataset here has domains")
    parser.add_argument("--eval-only", action="store_true", help="test a trained run")
    parser.add_argument("--model-dir", default="", help="folder of the trained run for --eval-only")
    parser.add_argument("--load-epoch", type=int, help="epoch to load for --eval-only; the last one by default")
    parser.add_argument("--no-train", action="store_true", help="build everything, train nothing")
    parser.add_argument("--list-methods", choices=sorted(TASKS), help="print the methods that fit a protocol, and end")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: KEY VALUE …")
    return parser.parse_args(argv)


def setup_cfg(args: argparse.Namespace):
    """Defaults <- dataset file <- method file <- arguments <- overrides; frozen.

    Raises:
        UserError: an unknown file, key or name, or an override that the method does not read.
    """
    from dassl.utils import UserError
    from trainers.config import default_config, merge_file, merge_overrides, split_trainer_name

    cfg = default_config()
    if args.dataset_config_file:
        merge_file(cfg, args.dataset_config_file)
    if args.config_file:
        merge_file(cfg, args.config_file)
    if not (args.trainer or cfg.TRAINER.NAME):
        raise UserError("no method named: give --trainer")
    name, backbone = split_trainer_name(args.trainer or cfg.TRAINER.NAME, args.backbone or cfg.MODEL.BACKBONE.NAME)
    cfg.TRAINER.NAME, cfg.MODEL.BACKBONE.NAME = name, backbone
    for value, section, key in (
        (args.root, cfg.DATASET, "ROOT"),
        (args.output_dir, cfg, "OUTPUT_DIR"),
        (args.resume, cfg, "RESUME"),
        (args.transforms, cfg.INPUT, "TRANSFORMS"),
        (args.source_domains, cfg.DATASET, "SOURCE_DOMAINS"),
        (args.target_domains, cfg.DATASET, "TARGET_DOMAINS"),
        (args.head, cfg.MODEL.HEAD, "NAME"),
    ):
        if value:
            section[key] = tuple(value) if isinstance(value, list) else value
    if args.seed >= 0:
        cfg.SEED = args.seed
    merge_overrides(cfg, [word for word in args.opts if word != "--"], name)
    if not cfg.DATASET.NAME:
        raise UserError("no dataset named: give --dataset-config-file configs/datasets/NAME.yaml")
    cfg.freeze()
    return cfg


def changed(cfg, **values: object):
    """A frozen copy of ``cfg`` with some keys set, written with ``__`` for the dot: ``DATASET__NUM_SHOTS=4``."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.merge_from_list([word for key, value in values.items() for word in (key.replace("__", "."), value)])
    cfg.freeze()
    return cfg


def run(cfg, *, eval_only: bool = False, model_dir: str = "", load_epoch: int | None = None, no_train: bool = False):
    """One run: build, train (or load), test, write the results file. Returns the trainer."""
    import torch

    from dassl.engine import build_trainer
    from dassl.utils import Logger, set_random_seed, setup_logger
    from trainers import records

    folder = Path(cfg.OUTPUT_DIR)
    records.check_same_settings(cfg, folder)
    stdout = sys.stdout
    setup_logger(cfg.OUTPUT_DIR)
    try:
        log.info("run folder: %s", folder)
        if cfg.SEED >= 0:
            log.info("Setting fixed seed: %d", cfg.SEED)
            set_random_seed(cfg.SEED)
        torch.backends.cudnn.deterministic = True
        started = time.perf_counter()
        trainer = build_trainer(cfg)
        records.save_config(cfg, folder)
        timings = {"build_s": time.perf_counter() - started}
        train: dict[str, object] = {}
        started = time.perf_counter()
        if eval_only:
            trainer.load_model(model_dir, epoch=load_epoch)
            trainer.test()
        elif no_train:
            return trainer
        else:
            trainer.train()
            train = {"epochs": trainer.max_epoch if getattr(trainer, "learns", True) else 0}
        timings["train_and_test_s" if not eval_only else "test_s"] = time.perf_counter() - started
        if hasattr(trainer, "section") and not cfg.TEST.NO_TEST:
            for departure in type(trainer).departures(cfg):
                log.info("not the published setting: %s", departure)
            records.write_results(trainer, folder, train, timings)
        return trainer
    finally:
        if isinstance(sys.stdout, Logger):
            sys.stdout.close()
        sys.stdout = stdout
        records.discard_unbuilt(folder)


def run_task(cfg, args: argparse.Namespace) -> None:
    """All runs of a protocol, in folders that follow from the settings; what is done is skipped.

    With ``--eval-only`` the trained runs are tested again and their results files written anew.
    """
    from dassl.utils import UserError
    from trainers.config import methods

    cls = methods()[cfg.TRAINER.NAME]
    if args.task == "base2new" and not cls.transfers:
        raise UserError(f"{cfg.TRAINER.NAME} learns a classifier of the classes that it saw and has none for new ones")
    for shots in args.shots or [cfg.DATASET.NUM_SHOTS]:
        for seed in args.seeds or [cfg.SEED]:
            run_splits(changed(cfg, DATASET__NUM_SHOTS=shots, SEED=seed), args, cls)


def run_splits(cfg, args: argparse.Namespace, cls: type) -> None:
    """One seed of one protocol: all classes, or base and then new ones."""
    from trainers import records

    dataset = Path(args.dataset_config_file).stem or cfg.DATASET.NAME.lower()
    trained: Path | None = None
    for split in TASKS[args.task]:
        split_cfg = changed(cfg, DATASET__SUBSAMPLE_CLASSES=split)
        folder = records.run_folder(args.output_root, split_cfg, dataset, cls)
        trained = trained or folder
        split_cfg = changed(split_cfg, OUTPUT_DIR=str(folder))
        records.check_same_settings(split_cfg, folder)
        if records.is_complete(folder) and not args.eval_only:
            print(f"done already: {folder}")
            continue
        only_test = args.eval_only or (split == "new" and cls.learns)
        run(split_cfg, eval_only=only_test, model_dir=args.model_dir or str(trained), load_epoch=args.load_epoch)


def fitting_methods(task: str) -> list[str]:
    """Names of the methods that fit a protocol, in the order in which the tables list them."""
    from trainers.config import methods

    return [name for name, cls in methods().items() if task == "few_shot" or cls.transfers]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 a user's mistake (told in one line on standard error)."""
    args = parse_arguments(argv)
    from dassl.utils import UserError

    try:
        if args.list_methods:
            print(*fitting_methods(args.list_methods))
            return 0
        if bool(args.task) != bool(args.output_root):
            raise UserError("--task and --output-root belong together (or give --output-dir for a single run)")
        if (args.shots or args.seeds) and not args.task:
            raise UserError("--shots and --seeds need --task (a single run takes --seed and DATASET.NUM_SHOTS)")
        if args.eval_only and not (args.model_dir or args.task):
            raise UserError("--eval-only needs --model-dir, the folder of the trained run")
        cfg = setup_cfg(args)
        if args.task:
            run_task(cfg, args)
        else:
            run(
                cfg,
                eval_only=args.eval_only,
                model_dir=args.model_dir,
                load_epoch=args.load_epoch,
                no_train=args.no_train,
            )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _entry(call: Callable[[], int]) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(call())


if __name__ == "__main__":
    _entry(main)
