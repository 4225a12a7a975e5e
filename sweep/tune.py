"""Weights of a method's loss terms per dataset, chosen on the shots that are trained and validated on, never on test images.

    python -m sweep.tune --datasets btmri busi --shots 16 --trials 20 --seed 1 --root data
    python -m sweep.tune --datasets btmri --shots 4 --backbone PhantomCLIP --root data/phantom -- OPTIM.MAX_EPOCH 20
    python train.py --config-file output/tuned/….yaml …            # a file that it made, in place of the method's own

For each dataset a file is written that train.py takes as the method's config file; its runs say "tuned". The same command
goes on where a killed one was. docs/SWEEP.md says how settings are scored, with one shot too. Needs Optuna: pip install optuna.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entry import program

if TYPE_CHECKING:
    from yacs.config import CfgNode

    from sweep.study import Trial

DATABASE = "tune.db"
TASKS = ("few_shot", "base2new")
# keys that an argument sets, and overrides must not
OF_ARGUMENTS = {
    "DATASET.ROOT": "--root",
    "DATASET.NUM_SHOTS": "--shots",
    "DATASET.SUBSAMPLE_CLASSES": "--task",
    "SEED": "--seed",
}
HEAD = "# Made by python -m sweep.tune; runs with it say that they are tuned"


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    one = argparse.ArgumentParser(
        prog="python -m sweep.tune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    one.add_argument("--datasets", nargs="+", required=True, help="names of files in configs/datasets, or YAML files")
    one.add_argument("--method", default="BiomedDPT", help="one that has settings to tune (BiomedDPT)")
    one.add_argument("--task", default="few_shot", choices=TASKS, help="base2new: on the base classes (few_shot)")
    one.add_argument("--shots", type=int, default=16, help="training images per class (16)")
    one.add_argument("--trials", type=int, default=20, help="settings tried in all, the config file's first (20)")
    one.add_argument("--seed", type=int, default=1, help="of the draw of shots, of training, and of what is tried (1)")
    one.add_argument("--backbone", default="BiomedCLIP")
    one.add_argument("--backbone-path", default="", help="local folder with its weights")
    one.add_argument("--root", default="data", help="folder of the datasets (data)")
    one.add_argument("--output", type=Path, default=Path("output/tuned"), help="folder of trials and files (output/tuned)")
    one.add_argument("--out", type=Path, metavar="FILE.yaml", help="where the file goes, of one dataset")
    return one


@dataclass(frozen=True)
class Search:
    """One dataset's search.

    Attributes:
        cfg: frozen, of a trial's runs but for the settings that are tuned.
        key: the dataset's name among the folders.
        base: the method's config file; ``None`` where it has none.
        folds: those that a trial is scored by (:func:`datasets.splits.tuning_fold`).
        name: what the search is called in the database: other settings or images make another search.
        with_: the overrides, in words.
    """

    cfg: CfgNode
    key: str
    base: Path | None
    folds: tuple[int, ...]
    name: str
    with_: str


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 a user's mistake."""
    words = list(sys.argv[1:] if argv is None else argv)
    cut = words.index("--") if "--" in words else len(words)
    args = parser().parse_args(words[:cut])
    from sweep.command import alone_in
    from sweep.study import require_optuna

    _check(args, words[cut + 1 :])
    require_optuna()
    logging.disable(logging.INFO)  # a trial has no log that anybody reads
    try:
        searches = [_search(args, dataset, words[cut + 1 :]) for dataset in dict.fromkeys(args.datasets)]
    finally:
        logging.disable(logging.NOTSET)
    from sweep.trial import discard_left

    with alone_in(args.output):
        discard_left(args.output)
        for search in searches:
            _tune(args, search)
    return 0


def _check(args: argparse.Namespace, overrides: Sequence[str]) -> None:
    from dassl.utils import UserError

    if args.out and len(set(args.datasets)) > 1:
        raise UserError("--out is the file of one dataset: leave it out for several, each has its own below --output")
    for name, least in (("trials", 1), ("seed", 0), ("shots", 1)):
        if not least <= getattr(args, name) < 2**63:
            raise UserError(f"--{name} is {getattr(args, name)}, must be {least} or more")
    for key in overrides[::2]:
        instead = f"give {OF_ARGUMENTS[key]}" if key in OF_ARGUMENTS else "it is written into the file that comes out"
        if key in OF_ARGUMENTS or key.startswith("TUNED."):
            raise UserError(f"{key} is no override here: {instead}")


def _search(args: argparse.Namespace, dataset: str, overrides: Sequence[str]) -> Search:
    """What is to be searched; looks at the dataset before anything is trained."""
    from dassl.data.datasets import build_dataset
    from dassl.utils import UserError
    from datasets.base import BiomedDataset
    from runs.config import altered, configured
    from runs.identity import config_hash, dataset_key
    from runs.protocols import check_fits
    from runs.settings import config_file
    from runs.tasks import TASKS as PROTOCOLS
    from sweep.work import files_of
    from trainers import methods

    file, named = files_of(dataset)
    split = PROTOCOLS[args.task][0].split
    check_fits(args.method, args.task)
    cls = methods()[args.method]
    if not cls.tunable:
        there = ", ".join(name for name, one in methods().items() if one.tunable)
        raise UserError(f"{args.method} has no settings to tune; methods that have: {there}")
    base = config_file(args.method, split, named)
    settings = {"DATASET.ROOT": args.root, "DATASET.NUM_SHOTS": args.shots, "SEED": args.seed, "LOGGER": "none"}
    settings |= {"DATASET.SUBSAMPLE_CLASSES": split, "MODEL.BACKBONE.PATH": args.backbone_path}
    cfg = configured(args.method, args.backbone, files=[file, base] if base else [file], settings=settings, overrides=overrides)
    folds = (1, 2) if args.shots == 1 else (1,)
    marks = []
    for fold in folds:
        one = altered(cfg, {"DATASET.TUNING_FOLD": fold})
        built = build_dataset(altered(one, {"VERBOSE": False}))
        if not isinstance(built, BiomedDataset):
            raise UserError(f"{cfg.DATASET.NAME} is another project's dataset: settings are tuned on this project's")
        marks += [config_hash(one), built.data_hash]
    marks += [json.dumps(cls.tunable_keys())]
    digest = hashlib.sha256("\n".join(marks).encode()).hexdigest()[:16]
    name = f"{args.method} {cfg.MODEL.BACKBONE.NAME} {args.task} {named}, shots {args.shots}, seed {args.seed} ({digest})"
    return Search(cfg, dataset_key(cfg, named), base, folds, name, " ".join(overrides))


def _tune(args: argparse.Namespace, search: Search) -> None:
    """Try what is left to try, and write the file."""
    from tqdm import tqdm

    from runs.config import value_of
    from runs.screen import title
    from sweep.study import Study, best_of
    from sweep.trial import scored
    from trainers import methods

    ranges = methods()[args.method].tunable_keys()
    start = {key: float(value_of(search.cfg, key)) for key in ranges}
    study = Study(args.output / DATABASE, search.name, ranges, start, args.seed)
    done = study.trials(args.trials)
    print(f"{title(search.cfg, [args.seed])}: {len(done)} of {args.trials} trials are done", flush=True)
    with tqdm(total=args.trials, initial=len(done), desc=search.key, unit="trial", disable=None) as bar:
        while len(done) < args.trials:
            values = study.propose()
            study.add(values, scored(search.cfg, values, search.folds, args.output))
            done = study.trials(args.trials)
            bar.write(f"trial {len(done)}/{args.trials}: {_shown(values)}: {done[-1].score.told}", file=sys.stdout)
            bar.update()
    best = best_of(done)
    path = args.out or args.output / _file_name(args, search)
    _write(path, args, search, done, best)
    print(f"tuned: {_shown(best.values)}: {best.score.told}, trial {best.number}; the config file's: {done[0].score.told}")
    print(f"{path}: train.py takes it as --config-file", flush=True)


def _shown(values: Any) -> str:
    return ", ".join(f"{key.rsplit('.', 1)[-1]} {value:g}" for key, value in values.items())


def _file_name(args: argparse.Namespace, search: Search) -> Path:
    backbone = search.cfg.MODEL.BACKBONE.NAME.replace("/", "-").replace(":", "-")
    return Path(args.task) / f"{args.method}_{backbone}" / f"{search.key}_shots{args.shots}_seed{args.seed}.yaml"


def _write(path: Path, args: argparse.Namespace, search: Search, done: list[Trial], best: Trial) -> None:
    """The method's config file with the best settings in it, and with what says that they are tuned."""
    import yaml

    from dassl.utils import atomic
    from datasets.config import read_yaml

    content = read_yaml(search.base) if search.base else {}
    for key, value in best.values.items():
        _, section, name = key.split(".")
        content.setdefault("TRAINER", {}).setdefault(section, {})[name] = value
    content["TUNED"] = {"KEYS": list(best.values), "HOW": how(args, search, done, best)}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    with atomic(path) as temporary:
        Path(temporary).write_text(f"{HEAD}\n{text}", encoding="utf-8")


def how(args: argparse.Namespace, search: Search, done: list[Trial], best: Trial) -> str:
    """In a line, how the settings were chosen: it goes into every results file."""
    own = search.cfg.DATASET
    images = "validation images" if len(search.folds) == 1 else "images (each of the two of a class left out in turn)"
    shots = f"{args.shots} shot{'s' * (args.shots > 1)}"
    said = (
        f"{len(done)} trials on {own.TITLE or own.NAME} ({args.task}, {shots}, seed {args.seed}, "
        f"{search.cfg.MODEL.BACKBONE.NAME}): {best.score.correct} of {best.score.total} {images} right, "
        f"{done[0].score.correct} with the values of the config file"
    )
    return f"{said}; tried with {search.with_}" if search.with_ else said


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
