"""Train and test one method on one dataset.

    python train.py --root data --seed 1 --trainer BiomedDPT --backbone BiomedCLIP \\
        --dataset-config-file configs/datasets/btmri.yaml \\
        --config-file configs/trainers/BiomedDPT/base_to_novel/btmri.yaml \\
        --output-dir output/mine DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base

With ``--task base2new`` or ``--task few_shot`` and ``--output-root`` the run's folder follows from its settings, what is
done already is skipped, and base2new trains on the base classes and tests on base and new ones in one process.
``--task cross_dataset --targets DATASET …`` tests what is trained on one dataset on others.
``--from-results FILE --output-dir DIR`` makes a finished run again and compares.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from entry import program
from runs.arguments import training_arguments
from runs.own_dassl import require_own_dassl

if TYPE_CHECKING:
    from yacs.config import CfgNode


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    return training_arguments(__doc__ or "", argv)


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


def start(args: argparse.Namespace) -> int:
    """Make the call that the arguments ask for; ``UserError`` where they need or exclude each other. Returns the status."""
    from dassl.utils import UserError
    from runs import again, fitting, protocols, run

    if args.from_results or args.despite_differences:
        return again.called(args)

    if args.list_methods:
        fitting.show(args, setup_cfg)
        return 0
    if bool(args.task) != bool(args.output_root):
        raise UserError("--task and --output-root belong together (or give --output-dir for a single run)")
    if (args.shots or args.seeds or args.seeds_together) and not args.task:
        raise UserError("--shots, --seeds and --seeds-together need --task (a run takes --seed and DATASET.NUM_SHOTS)")
    if args.targets and args.task != "cross_dataset":
        raise UserError("--targets are tested by --task cross_dataset")
    if args.no_train and args.task:
        raise UserError("--no-train builds a single run: give --output-dir and not --task")
    if args.restart and (args.eval_only or args.resume):
        raise UserError("--restart begins a training anew: neither --eval-only nor --resume go with it")
    if args.eval_only and not (args.model_dir or args.task):
        raise UserError("--eval-only needs --model-dir, the folder of the trained run")
    cfg, testing = setup_cfg(args), {"eval_only": args.eval_only, "model_dir": args.model_dir, "load_epoch": args.load_epoch}
    if args.task:
        key = Path(args.dataset_config_file).stem or cfg.DATASET.NAME.lower()
        several = {
            "shots": args.shots or (),
            "seeds": args.seeds or (),
            "together": args.seeds_together,
            "targets": args.targets or (),
        }
        how = {"restart": args.restart, "verbose": args.verbose}
        protocols.run_task(cfg, args.task, args.output_root, key, **several, **testing, **how)
    else:
        run.run(cfg, no_train=args.no_train, **testing, restart=args.restart, verbose=args.verbose)
    return 0


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 a run made again came out otherwise, 2 a user's mistake (told in one line on standard error)."""
    args = parse_arguments(argv)
    require_own_dassl()
    return start(args)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
