"""Train and test one method on one dataset.

    python train.py --root data --seed 1 --trainer BiomedDPT --backbone BiomedCLIP \\
        --dataset-config-file configs/datasets/btmri.yaml \\
        --config-file configs/trainers/BiomedDPT/base_to_novel/btmri.yaml \\
        --output-dir output/mine DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base

With ``--task base2new`` or ``--task few_shot`` and ``--output-root`` the run's folder follows from its settings, what is
done already is skipped, and base2new trains on the base classes and tests on base and new ones in one process.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from entry import program
from runs.own_dassl import require_own_dassl
from runs.tasks import TASKS

if TYPE_CHECKING:
    from yacs.config import CfgNode


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
    parser.add_argument("--restart", action="store_true", help="an unfinished run begins anew, not from its last checkpoint")
    parser.add_argument("--no-train", action="store_true", help="build everything, train nothing")
    lists = [*sorted(TASKS), "seeds-together"]
    parser.add_argument("--list-methods", choices=lists, help="print the methods that fit (and why others cannot), end")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: KEY VALUE …")
    return parser.parse_args(argv)


def setup_cfg(args: argparse.Namespace) -> CfgNode:
    """Defaults <- dataset file <- method file <- arguments <- overrides; frozen.

    Raises:
        UserError: an unknown file, key or name, or an override that the method does not read.
    """
    from runs.config import configured

    given = {
        "DATASET.ROOT": args.root,
        "OUTPUT_DIR": args.output_dir,
        "RESUME": args.resume,
        "INPUT.TRANSFORMS": tuple(args.transforms or ()),
        "DATASET.SOURCE_DOMAINS": tuple(args.source_domains or ()),
        "DATASET.TARGET_DOMAINS": tuple(args.target_domains or ()),
        "MODEL.HEAD.NAME": args.head,
        "SEED": args.seed if args.seed >= 0 else "",
    }
    settings = {key: value for key, value in given.items() if value not in ("", ())}
    files = [path for path in (args.dataset_config_file, args.config_file) if path]
    overrides = [word for word in args.opts if word != "--"]
    return configured(args.trainer, args.backbone, files=files, settings=settings, overrides=overrides)


def start(args: argparse.Namespace) -> None:
    """Make the call that the arguments ask for; ``UserError`` where they need or exclude each other."""
    from dassl.utils import UserError
    from runs import fitting, protocols, run

    if args.list_methods:
        fitting.show(args, setup_cfg)
        return
    if bool(args.task) != bool(args.output_root):
        raise UserError("--task and --output-root belong together (or give --output-dir for a single run)")
    if (args.shots or args.seeds or args.seeds_together) and not args.task:
        raise UserError("--shots, --seeds and --seeds-together need --task (a run takes --seed and DATASET.NUM_SHOTS)")
    if args.no_train and args.task:
        raise UserError("--no-train builds a single run: give --output-dir and not --task")
    if args.restart and (args.eval_only or args.resume):
        raise UserError("--restart begins a training anew: neither --eval-only nor --resume go with it")
    if args.eval_only and not (args.model_dir or args.task):
        raise UserError("--eval-only needs --model-dir, the folder of the trained run")
    cfg, testing = setup_cfg(args), {"eval_only": args.eval_only, "model_dir": args.model_dir, "load_epoch": args.load_epoch}
    if args.task:
        key = Path(args.dataset_config_file).stem or cfg.DATASET.NAME.lower()
        several = {"shots": args.shots or (), "seeds": args.seeds or (), "together": args.seeds_together}
        protocols.run_task(cfg, args.task, args.output_root, key, **several, **testing, restart=args.restart)
    else:
        run.run(cfg, no_train=args.no_train, **testing, restart=args.restart)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 a user's mistake (told in one line on standard error)."""
    args = parse_arguments(argv)
    require_own_dassl()
    start(args)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
