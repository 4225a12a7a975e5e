"""The entry point of such a repository: arguments -> config -> trainer -> train or test."""

import argparse

import coop_trainer  # noqa: F401
import fixmatch_trainer  # noqa: F401
import toy_dataset  # noqa: F401
from yacs.config import CfgNode as CN

from dassl.config import clean_cfg, get_cfg_default
from dassl.engine import build_trainer
from dassl.utils import collect_env_info, set_random_seed, setup_logger


def extend_cfg(cfg):
    cfg.TRAINER.COOP = CN({"N_CTX": 4, "CSC": False, "PREC": "fp32"})


def setup_cfg(args):
    cfg = get_cfg_default()
    extend_cfg(cfg)
    if args.config_file:
        cfg.merge_from_file(args.config_file)
    cfg.DATASET.ROOT, cfg.OUTPUT_DIR, cfg.RESUME = args.root, args.output_dir, args.resume
    cfg.SEED, cfg.TRAINER.NAME = args.seed, args.trainer
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    return cfg


def parse_args(argv=None):
    parser = argparse.ArgumentParser()
    for name in ("--root", "--output-dir", "--resume", "--config-file", "--trainer", "--model-dir"):
        parser.add_argument(name, default="")
    parser.add_argument("--seed", type=int, default=-1)
    parser.add_argument("--eval-only", action="store_true")
    parser.add_argument("--load-epoch", type=int)
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    return parser.parse_args(argv)


def main(args):
    cfg = setup_cfg(args)
    if cfg.SEED >= 0:
        set_random_seed(cfg.SEED)
    setup_logger(cfg.OUTPUT_DIR)
    shown = cfg.clone()
    shown.defrost()
    clean_cfg(shown, args.trainer)
    print(shown)
    print(collect_env_info())

    trainer = build_trainer(cfg)
    if args.eval_only:
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
        trainer.test()
    else:
        trainer.train()
    return trainer


if __name__ == "__main__":
    main(parse_args())
