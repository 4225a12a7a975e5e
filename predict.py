"""Class probabilities of new images from a trained run.

    python predict.py RUN images/ scan.png                      # a table on the terminal
    python predict.py RUN images/ -o out.csv                    # or .json: every class's probability
    python predict.py RUN images/ --top-k 3 --explain maps/     # the three likeliest classes; where the model looked
    python predict.py RUN --evaluate labelled/                  # metrics with intervals
    python predict.py RUN --calibrate labelled/                 # for: predict.py RUN images/ --calibrated

RUN is a run's folder; its ``config.yaml`` and ``prompt_learner/`` suffice, with the backbone's weights. Exit status: 0
done, 2 a mistake in the call, 3 done, but some files could not be read as images (they are named and skipped).
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from entry import program
from runs.arguments import add_measuring_arguments, add_run_arguments, require_used, run_place
from runs.own_dassl import require_own_dassl

FORMATS = ("table", "csv", "json")
UNREADABLE = 3  # exit status
MAP, COVERAGE = "gradcam", 0.9  # unless --map and --coverage say otherwise
SHOWN = 3  # classes per image in a table, unless --top-k says otherwise


@dataclass(frozen=True)
class Row:
    """An image, its class probabilities, likeliest first, and with ``--calibrated`` its prediction set."""

    path: str
    ranked: list[tuple[str, float]]
    chosen: tuple[str, ...] = ()


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=run_place, help="folder of a trained run, or hf://ORG/NAME")
    parser.add_argument("images", nargs="*", help="image files, and folders of them")
    parser.add_argument("-o", "--output", type=Path, help="file to write instead of the terminal; .csv and .json tell the form")
    parser.add_argument("--format", choices=FORMATS, help="table, csv or json")
    parser.add_argument("--top-k", type=int, help="only the likeliest K classes (tables show 3, files all)")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=0, help="processes that read images")
    parser.add_argument("--explain", type=Path, metavar="FOLDER", help="write a picture per image: what its class rests on")
    parser.add_argument("--map", help="kind of map of --explain: gradcam (default), rollout or attention")
    add_measuring_arguments(parser)
    add_run_arguments(parser)
    args = parser.parse_intermixed_args(argv)  # images may stand behind options, and be none
    if not (args.images or args.calibrate or args.evaluate):
        parser.error("the following arguments are required: images (or --evaluate, --calibrate)")
    return args


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse what this call would not read, then put defaults in place."""
    measuring = ("calibrate", "evaluate")
    sets = ("calibrate", "calibrated")
    require_used(args, part=measuring, data=measuring, penalty=("calibrate",), coverage=sets, map=("explain",))
    args.map = args.map or MAP
    args.coverage = COVERAGE if args.coverage is None else args.coverage
    args.penalty = args.penalty or 0.0


def output_format(args: argparse.Namespace) -> str:
    """``--format``, or what the output file's name says; a table otherwise."""
    suffix = args.output.suffix.lower().lstrip(".") if args.output else ""
    return args.format or (suffix if suffix in FORMATS else "table")


def as_table(rows: Sequence[Row], top: int | None) -> str:
    """Image and likeliest classes, in columns."""
    from tabulate import tabulate

    shown = [[row.path, *(f"{name} {100 * p:.1f} %" for name, p in row.ranked[: top or SHOWN])] for row in rows]
    ranks = max((len(row) - 1 for row in shown), default=0)
    heads = ["image", *(f"likeliest {rank + 1}" for rank in range(ranks))]
    if any(row.chosen for row in rows):
        heads, shown = [*heads, "set"], [[*line, ", ".join(row.chosen)] for line, row in zip(shown, rows, strict=True)]
    return tabulate(shown, headers=heads, disable_numparse=True) + "\n"


def as_csv(rows: Sequence[Row], top: int | None, classnames: Sequence[str]) -> str:
    """``image, prediction, probability`` and a column per class; with ``top`` a class and its probability per rank."""
    from runs.inference import harmless

    text = io.StringIO()
    sets = [["; ".join(row.chosen)] if row.chosen else [] for row in rows]
    last = ["prediction_set"] if any(sets) else []
    writer = csv.writer(text, lineterminator="\n")
    if top is None:
        writer.writerow(harmless(["image", "prediction", "probability", *classnames, *last]))
        for row, own in zip(rows, sets, strict=True):
            by_name = dict(row.ranked)
            writer.writerow(harmless([row.path, *row.ranked[0], *(by_name[name] for name in classnames), *own]))
    else:
        writer.writerow(["image", *(f"{what}_{rank + 1}" for rank in range(top) for what in ("class", "probability")), *last])
        for row, own in zip(rows, sets, strict=True):
            writer.writerow(harmless([row.path, *(value for pair in row.ranked[:top] for value in pair), *own]))
    return text.getvalue()


def as_json(rows: Sequence[Row], top: int | None, about: dict[str, object]) -> str:
    """What the run was, and per image the classes with their probabilities, likeliest first."""
    images = [{"image": row.path, "prediction": row.ranked[0][0], "probabilities": dict(row.ranked[:top])} for row in rows]
    images = [one | ({"prediction_set": row.chosen} if row.chosen else {}) for one, row in zip(images, rows, strict=True)]
    return json.dumps(about | {"images": images}, indent=2, ensure_ascii=False) + "\n"


def rendered(rows: Sequence[Row], args: argparse.Namespace, about: dict[str, object]) -> str:
    """The rows in the form that was asked for."""
    kind = output_format(args)
    if kind == "csv":
        return as_csv(rows, args.top_k, about["classes"])
    return as_json(rows, args.top_k, about) if kind == "json" else as_table(rows, args.top_k)


def predict(args: argparse.Namespace) -> int:
    """Load, classify in batches, write; the exit status."""
    from tqdm import tqdm

    from dassl.utils import UserError, atomic, require_writable
    from runs.calibration import answers, calibration_for
    from runs.inference import find_images, image_batches, load_run, probabilities, require_run

    require_run(args.run)
    if args.output:
        require_writable(args.output)
    if args.explain:
        require_writable(args.explain, folder=True)
    if args.batch_size < 1 or args.workers < 0 or (args.top_k is not None and args.top_k < 1):
        raise UserError("--batch-size and --top-k must be 1 or more, --workers 0 or more")
    paths = find_images(args.images)
    trainer = load_run(
        args.run, epoch=args.epoch, backbone_path=args.backbone_path, device=args.device, classnames=args.classnames
    )
    names = trainer.classnames
    if args.top_k is not None and args.top_k > len(names):
        raise UserError(f"--top-k is {args.top_k}, but the run has {len(names)} classes: {', '.join(names)}")
    kept = calibration_for(trainer, args) if args.calibrated else None
    explained = None
    if args.explain:
        from explain import OverlayWriter

        explained = OverlayWriter(trainer, args.explain, args.map)
    rows, unreadable = [], []
    with tqdm(total=len(paths), unit="image", disable=None, leave=False) as bar:
        for found, images, skipped in image_batches(trainer, paths, args.batch_size, args.workers):
            for one in skipped:
                bar.write(f"unreadable, skipped: {one.path}: {one.reason}", file=sys.stderr)
            unreadable += skipped
            if found:
                given, sets = answers(kept, probabilities(trainer, images), names, args.coverage)
                for path, row, chosen in zip(found, given, sets, strict=True):
                    rows.append(Row(str(path), sorted(zip(names, row, strict=True), key=lambda pair: -pair[1]), chosen))
                if explained:
                    explained(found, images)
            bar.update(len(found) + len(skipped))
    about = {
        "run": str(args.run),
        "method": trainer.cfg.TRAINER.NAME,
        "backbone": trainer.backbone.name,
        "dataset": trainer.facts.name,
        "classes": names,
        "unreadable": [{"image": str(one.path), "reason": one.reason} for one in unreadable],
        **({"calibrated": kept.about(args.coverage)} if kept else {}),
    }
    text = rendered(rows, args, about)
    if args.output:
        with atomic(args.output) as temporary:
            Path(temporary).write_text(text, encoding="utf-8")
        print(f"{len(rows)} images: {args.output}")
    else:
        print(text, end="")
    return UNREADABLE if unreadable else 0


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 a user's mistake (told in one line on standard error), 3 done with files skipped."""
    args = parse_arguments(argv)
    require_own_dassl()
    check_arguments(args)
    if not isinstance(args.run, Path) and (args.calibrate or args.calibrated):
        from dassl.utils import UserError

        raise UserError(f"a calibration lies beside the run, and {args.run} is an address: take the run's folder")
    if args.calibrate or args.evaluate:
        from runs.labelled import measure

        return measure(args)
    return predict(args)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
