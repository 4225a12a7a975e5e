"""The arguments of train.py, and those that all programs on trained runs share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from runs.tasks import TASKS

KEY = re.compile(r"[A-Z]+(\.[A-Z_0-9]+)+")  # of a config; as in datasets.config, which loads more than arguments need

HUB = "hf:/"  # how the address of a run on the hub begins, also where a Path has made one slash of two


def is_address(run: str | Path) -> bool:
    """Whether a run is named by ``hf://ORG/NAME[@REVISION]`` and not by a folder."""
    return str(run).startswith(HUB)


def run_place(text: str) -> Path | str:
    """An argument that names a run: a folder as a path, an address as it is."""
    return text if is_address(text) else Path(text)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of :func:`runs.inference.load_run`."""
    parser.add_argument("--epoch", type=int, help="checkpoint to load; by default the one that the run tested")
    parser.add_argument("--backbone-path", default="", help="where the backbone's weights lie now")
    parser.add_argument("--device", default="", help="cpu or cuda; by default a GPU where there is one")
    parser.add_argument("--classnames", nargs="+", default=(), help="other classes, for prompts that transfer")


def add_measuring_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of predict.py on labelled images, and of what they leave behind."""
    told = parser.add_argument_group("labelled images: a folder of class folders, a CSV, or a dataset's YAML file")
    told.add_argument("--calibrate", type=Path, metavar="LABELLED", help="learn temperature and sets: RUN/calibration.json")
    told.add_argument("--evaluate", type=Path, metavar="LABELLED", help="metrics with intervals; with -o as JSON")
    told.add_argument("--part", default="", choices=("train", "val", "test"), help="of LABELLED, where it has such parts")
    told.add_argument(
        "--data", nargs="+", default=(), metavar="KEY VALUE", help="keys of DATASET that say how to read LABELLED"
    )
    told.add_argument("--calibrated", action="store_true", help="calibrated probabilities and prediction sets")
    told.add_argument("--coverage", type=float, help="how often a set shall hold the true class (0.9)")
    told.add_argument("--penalty", type=float, help="of --calibrate: RAPS's, for smaller sets; 0 is APS (0)")


def require_used(args: argparse.Namespace, **readers: Sequence[str]) -> None:
    """Refuse an option that this call would not read; others would be believed to have had an effect.

    Args:
        args: of options that are "", ``()`` or ``None`` where nothing was given.
        readers: by option (``part``) the options of which one must be given with it.

    Raises:
        UserError: in one line, with what reads it.
    """
    from dassl.utils import UserError

    for option, those in readers.items():
        given = getattr(args, option) not in ("", (), None)
        if given and not any(getattr(args, name) for name in those):
            asked = " or ".join(f"--{name}" for name in those)
            raise UserError(f"--{option} is read with {asked} only: leave it out, or add one of these")


def training_arguments(description: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """Those of train.py, read; ``KEY VALUE`` pairs right behind --targets are no targets."""
    args = training_parser(description).parse_args(argv)
    named = args.targets or []
    at = next((place for place, word in enumerate(named) if KEY.fullmatch(word)), len(named))
    args.targets, args.opts = named[:at], named[at:] + args.opts
    return args


def training_parser(description: str) -> argparse.ArgumentParser:
    """Those of train.py."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="", help="folder of the datasets")
    parser.add_argument("--output-dir", default="", help="folder of this run")
    parser.add_argument("--output-root", default="", help="folder of all runs: this run's place in it is worked out")
    parser.add_argument("--task", choices=sorted(TASKS), help="with --output-root: which protocol to run")
    parser.add_argument("--shots", type=int, nargs="+", help="with --task: run each of these shot counts")
    parser.add_argument("--seeds", type=int, nargs="+", help="with --task: run each of these seeds")
    parser.add_argument("--targets", nargs="+", metavar="DATASET", help="of --task cross_dataset: names or YAML files")
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
    parser.add_argument(
        "--verbose", action="store_true", help="the whole log, not a line per epoch; log.txt has it all the same"
    )
    parser.add_argument("--no-train", action="store_true", help="build everything, train nothing")
    parser.add_argument("--from-results", default="", metavar="FILE", help="make the run of a results.json again, compare")
    parser.add_argument("--despite-differences", action="store_true", help="with --from-results: on other data or weights, too")
    lists = [*sorted(TASKS), "seeds-together"]
    parser.add_argument("--list-methods", choices=lists, help="print the methods that fit (and why others cannot), end")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: KEY VALUE …")
    return parser
