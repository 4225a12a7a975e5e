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
import os
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from own_dassl import require_own_dassl

TASKS = {"few_shot": ("all",), "base2new": ("base", "new")}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="", help="folder of the datasets")
    parser.add_argument("--output-dir", default="", help="folder of this run")
    parser.add_argument("--output-root", default="", help="folder of all runs: this run's place in it is worked out")
    parser.add_argument("--task", choices=sorted(TASKS), help="with --output-root: which protocol to run")
    parser.add_argument("--shots", type=int, nargs="+", help="with --task: run each of these shot counts")
    parser.add_argument("--seeds", type=int, nargs="+", help="with --task: run each of these seeds")
    parser.add_argument("--seeds-together", action="store_true", help="with --seeds: train them as one batch where they can be")
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
    lists = [*sorted(TASKS), "seeds-together"]
    parser.add_argument("--list-methods", choices=lists, help="print the methods that fit a protocol or option, and end")
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


def run_task(cfg, args: argparse.Namespace) -> None:
    """All runs of a protocol, in folders that follow from the settings; what is done is skipped.

    With ``--eval-only`` the trained runs are tested again and their results files written anew.
    """
    from dassl.utils import UserError
    from trainers import seed_batch
    from trainers.config import methods

    cls = methods()[cfg.TRAINER.NAME]
    if args.task == "base2new" and not cls.transfers:
        raise UserError(f"{cfg.TRAINER.NAME} learns a classifier of the classes that it saw and has none for new ones")
    if args.seeds_together and not seed_batch.is_stackable(cls):
        raise UserError(seed_batch.cannot(cfg.TRAINER.NAME))
    for shots in args.shots or [cfg.DATASET.NUM_SHOTS]:
        seeds = [changed(cfg, DATASET__NUM_SHOTS=shots, SEED=seed) for seed in dict.fromkeys(args.seeds or [cfg.SEED])]
        fresh = train_together(seeds, args, cls) if args.seeds_together else ()
        for one in seeds:
            run_splits(one, args, cls, fresh)


def in_its_folder(cfg, args: argparse.Namespace, cls: type, split: str) -> Any:
    """The config of one split's run.

    Raises:
        UserError: its folder holds a run with other settings.
    """
    from trainers import records

    dataset = Path(args.dataset_config_file).stem or cfg.DATASET.NAME.lower()
    cfg = changed(cfg, DATASET__SUBSAMPLE_CLASSES=split)
    cfg = changed(cfg, OUTPUT_DIR=str(records.run_folder(args.output_root, cfg, dataset, cls)))
    records.check_same_settings(cfg, Path(cfg.OUTPUT_DIR))
    return cfg


def train_together(cfgs: Sequence[Any], args: argparse.Namespace, cls: type) -> list[str]:
    """Train the seeds that are not done on all classes or the base ones, as one batch for each epoch that they go on from.

    Returns the folders of what was trained; a seed whose epoch no other goes on from is left to be trained alone.
    """
    from trainers import records, runs, seed_batch

    places = [in_its_folder(cfg, args, cls, TASKS[args.task][0]) for cfg in cfgs]
    waiting: dict[int, list[Any]] = {}
    for one in places:
        if not records.is_complete(one.OUTPUT_DIR):
            waiting.setdefault(seed_batch.finished_epochs(one.OUTPUT_DIR), []).append(one)
    fresh: list[str] = []
    for epochs, group in waiting.items():
        if len(group) > 1:
            runs.run_together(group)
            fresh += [one.OUTPUT_DIR for one in group]
        else:
            print(f"seed {group[0].SEED} trains alone: no other seed that is not done has finished {epochs} epochs")
    return fresh


def run_splits(cfg, args: argparse.Namespace, cls: type, fresh: Collection[str] = ()) -> None:
    """One seed of one protocol: all classes, or base and then new ones; what was run in ``fresh`` folders is."""
    from trainers import records, runs

    trained = ""
    for split in TASKS[args.task]:
        one = in_its_folder(cfg, args, cls, split)
        trained = trained or one.OUTPUT_DIR
        if one.OUTPUT_DIR in fresh:
            continue
        if records.is_complete(one.OUTPUT_DIR) and not args.eval_only:
            print(f"done already: {one.OUTPUT_DIR}")
            continue
        only_test = args.eval_only or (split == "new" and cls.learns)
        runs.run(one, eval_only=only_test, model_dir=args.model_dir or trained, load_epoch=args.load_epoch)


def fitting_methods(task: str) -> list[str]:
    """Names of the methods that fit a protocol, or ``seeds-together``, in the order in which the tables list them."""
    from trainers import seed_batch
    from trainers.config import methods

    if task == "seeds-together":
        return seed_batch.stackable_methods()
    return [name for name, cls in methods().items() if task == "few_shot" or cls.transfers]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 a user's mistake (told in one line on standard error)."""
    args = parse_arguments(argv)
    require_own_dassl()
    from dassl.utils import UserError

    try:
        if args.list_methods:
            print(*fitting_methods(args.list_methods))
            return 0
        if bool(args.task) != bool(args.output_root):
            raise UserError("--task and --output-root belong together (or give --output-dir for a single run)")
        if (args.shots or args.seeds) and not args.task:
            raise UserError("--shots and --seeds need --task (a single run takes --seed and DATASET.NUM_SHOTS)")
        if args.seeds_together and (not args.task or args.eval_only or args.resume):
            raise UserError("--seeds-together needs --task, and is for training: neither --eval-only nor --resume go with it")
        if args.eval_only and not (args.model_dir or args.task):
            raise UserError("--eval-only needs --model-dir, the folder of the trained run")
        cfg = setup_cfg(args)
        if args.task:
            run_task(cfg, args)
        else:
            from trainers.runs import run

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
