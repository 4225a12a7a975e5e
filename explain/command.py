"""The command behind ``python -m explain``.

    python -m explain RUN images/ -o maps/           # where the model looks, without and with prompts; maps/index.html
    python -m explain RUN --interpret                # vocabulary words nearest to the learned context
    python -m explain RUN images/ --embedding tsne -o figure.png
    python -m explain --table --root data/phantom    # attention on the lesion without and with zero vectors

RUN is the folder of a trained run; --table needs none (--backbone names the model then).
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate
from yacs.config import CfgNode

from analysis.files import harmless
from backbones import VisionLanguageBackbone, VisualPrompt, build_backbone, zero_vectors
from backbones.attention import require_patches
from dassl.utils import UserError, atomic, nearest, require_writable
from datasets import by_key
from datasets.base import REHEARSAL, REHEARSAL_NOTE
from entry import program
from explain.compare import (
    ATTENTION_MAPS,
    BATCH_SIZE,
    Effect,
    Shift,
    compare_images,
    divided,
    write_pictures,
    zero_vector_effect,
)
from explain.context import interpret
from explain.embedding import METHODS, class_of, draw_embedding
from explain.page import INDEX, Entry, write_index
from explain.saliency import MAPS
from runs.arguments import add_run_arguments, run_place
from runs.config import default_config, merge_file
from runs.inference import find_images, image_batches, load_run, probabilities
from trainers.base import VLTrainer
from trainers.biomed_dpt import BiomedDPT

SETTINGS = Path(__file__).parents[1] / "configs" / "trainers" / "BiomedDPT" / "few_shot.yaml"
STYLES = {"terminal": "simple", "markdown": "github", "latex": "latex_booktabs"}
NUMBERS = "shift.csv"
HEADS = ("map", "moved %", "on prompts %", "lesion area %", "on lesion without %", "on lesion with %")
FIGURES = ("png", "pdf", "svg", "jpg", "jpeg")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m explain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", type=run_place, help="folder of a trained run, or hf://ORG/NAME")
    parser.add_argument("images", nargs="*", help="image files, and folders of them")
    parser.add_argument("-o", "--output", type=Path, help="folder of the pictures, or file of the figure or table")
    parser.add_argument("--map", nargs="+", default=[], metavar="KIND", help=f"kinds of maps: {', '.join(MAPS)} (all)")
    parser.add_argument("--class", dest="target", default="", help="Grad-CAM of this class, not of the likeliest")
    visual = parser.add_argument_group("the visual prompt (by default the run's own, else BiomedDPT's zero vectors)")
    visual.add_argument("--zero-vectors", type=int, metavar="P", help="this many zero vectors")
    visual.add_argument("--placement", choices=("replace", "insert"))
    visual.add_argument("--depth", choices=("deep", "shallow"))
    parser.add_argument("--interpret", action="store_true", help="words nearest to the learned context")
    parser.add_argument("--words", type=int, default=5, help="with --interpret: how many per vector")
    parser.add_argument("--embedding", choices=METHODS, help="a figure of image and text features")
    table = parser.add_argument_group("--table")
    table.add_argument("--table", action="store_true", help="the prompt's effect on data with masks")
    table.add_argument("--backbone", default="", help="without RUN: BiomedCLIP, PhantomCLIP, …")
    table.add_argument("--root", type=Path, default=Path("data/phantom"), help="folder of generated datasets")
    table.add_argument("--datasets", nargs="+", default=["all"], metavar="KEY")
    table.add_argument("--count", type=int, default=40, help="images per dataset")
    table.add_argument("--seed", type=int, default=1, help="of the choice of images")
    table.add_argument("--format", choices=(*STYLES, "csv"), default="terminal")
    add_run_arguments(parser)
    return parser.parse_args(argv)


def loaded(args: argparse.Namespace) -> VLTrainer:
    """The trainer of RUN."""
    if args.run is None:
        raise UserError("name the folder of a trained run (only --table works without one)")
    return load_run(
        args.run, epoch=args.epoch, backbone_path=args.backbone_path, device=args.device, classnames=args.classnames
    )


def chosen_prompt(args: argparse.Namespace, backbone: VisionLanguageBackbone, own: VisualPrompt | None) -> VisualPrompt:
    """The visual prompt to compare with: the method's own, or the zero vectors that were asked for.

    Raises:
        UserError: a tower without patches, or zero vectors fewer than one.
    """
    require_patches(backbone)
    if own is not None and args.zero_vectors is None and not (args.placement or args.depth):
        return own
    published = BiomedDPT.defaults().VISUAL
    count = published.N_TOKENS if args.zero_vectors is None else args.zero_vectors
    if count < 1:
        raise UserError(f"--zero-vectors is {count}, must be 1 or more")
    depth = args.depth or published.DEPTH
    return zero_vectors(count, backbone.visual_width, args.placement or published.PLACEMENT, deep=depth == "deep")


# -- maps -------------------------------------------------------------------------------------------------


def explain_images(args: argparse.Namespace) -> int:
    """Pictures of maps side by side, and their numbers in ``shift.csv``."""
    if args.output is None or not args.images:
        raise UserError("maps need images and a folder to be written to: python -m explain RUN images/ -o maps/")
    kinds = args.map or list(MAPS)
    require_writable(args.output, folder=True)
    for name in (NUMBERS, INDEX):
        require_writable(args.output / name)
    paths = find_images(args.images)
    trainer = loaded(args)
    if args.target and args.target not in trainer.classnames:
        raise UserError(f'the run has no class "{args.target}".{nearest(args.target, trainer.classnames)}')
    prompt = chosen_prompt(args, trainer.backbone, trainer.visual_prompt())
    shifts: list[Shift] = []
    entries: list[Entry] = []
    skipped = 0
    for found, images, unreadable in image_batches(trainer, paths, BATCH_SIZE):
        for one in unreadable:
            print(f"unreadable, skipped: {one.path}: {one.reason}", file=sys.stderr)
        skipped += len(unreadable)
        if not found:
            continue
        likeliest = probabilities(trainer, images).max(dim=1)
        classes = likeliest.indices.to(images.device)
        if args.target:
            classes = torch.full_like(classes, trainer.classnames.index(args.target))
        pictures, numbers = compare_images(trainer, found, images, prompt, kinds, classes)
        files = write_pictures(args.output, found, pictures, len(entries) + 1, images.shape[-1])
        shifts += [one for of_image in numbers for one in of_image]
        names = [[trainer.classnames[label] for label in labels.tolist()] for labels in (likeliest.indices, classes)]
        rows = [[_cells(one) for one in of_image] for of_image in numbers]
        entries += map(Entry, files, found, names[0], likeliest.values.tolist(), names[1], rows)
    _write_csv(args.output / NUMBERS, Shift, shifts)
    title = f"{trainer.cfg.TRAINER.NAME} on {trainer.backbone.name}: where it looks"
    notes = [f"Run {args.run}; classes: {', '.join(trainer.classnames)}", f"Compared: {_words(prompt)}"]
    index = write_index(args.output, title, notes, HEADS, entries)
    print(tabulate([[one.image.name, *_cells(one)] for one in shifts], headers=["image", *HEADS], disable_numparse=True))
    print(f"{len(entries)} pictures and {NUMBERS} in {args.output}; look at them: {index}")
    return 3 if skipped else 0


def _cells(one: Shift) -> list[str]:
    """A map's numbers, in the order of :data:`HEADS`."""
    return [one.kind, *map(_percent, list(asdict(one).values())[2:])]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


# -- words, embedding -------------------------------------------------------------------------------------


def print_words(args: argparse.Namespace) -> int:
    """The nearest words to each context vector."""
    trainer = loaded(args)
    found = interpret(trainer, args.words)
    rows = [
        [
            one.classname,
            one.position,
            f"{one.length:.3f}",
            ", ".join(f"{word} ({distance:.3f})" for word, distance in one.words),
        ]
        for one in found
    ]
    started = trainer.own.get("CTX_INIT", "")
    print(f"context started from: {repr(started) if started else 'random vectors'}; distances are Euclidean")
    columns = [1, 2, 3] if not found[0].classname else [0, 1, 2, 3]
    heads = ["class", "vector", "length", "nearest words (distance)"]
    print(tabulate([[row[c] for c in columns] for row in rows], headers=[heads[c] for c in columns], disable_numparse=True))
    return 0


def embed(args: argparse.Namespace) -> int:
    """A figure of image and text features."""
    if args.output is None or not args.images:
        raise UserError("an embedding needs images and a file: … RUN images/ --embedding tsne -o figure.png")
    require_writable(args.output)
    if args.output.suffix.lower().lstrip(".") not in FIGURES:
        raise UserError(f"{args.output} must end in one of {', '.join(FIGURES)}")
    paths = find_images(args.images)
    trainer = loaded(args)
    features, labels, skipped = [], [], 0
    with torch.no_grad():
        text = trainer.text_features().cpu().numpy()
        for found, images, unreadable in image_batches(trainer, paths, BATCH_SIZE):
            for one in unreadable:
                print(f"unreadable, skipped: {one.path}: {one.reason}", file=sys.stderr)
            skipped += len(unreadable)
            if found:
                features.append(trainer.image_features(images).cpu().numpy())
                labels += [class_of(path, trainer.classnames) for path in found]
    if not features:
        raise UserError("none of the images could be read")
    title = f"{trainer.cfg.TRAINER.NAME} on {trainer.backbone.name}, {args.embedding}"
    draw_embedding(args.output, np.concatenate(features), text, labels, trainer.classnames, args.embedding, title)
    print(f"{len(labels)} images: {args.output}")
    return 3 if skipped else 0


# -- table ------------------------------------------------------------------------------------------------


def effect_table(args: argparse.Namespace) -> int:
    """The effect of the visual prompt on generated data with masks."""
    if args.count < 1:
        raise UserError(f"--count is {args.count}, must be 1 or more")
    if args.output is not None:
        require_writable(args.output)
    known = by_key()
    keys = list(known) if args.datasets == ["all"] else args.datasets
    for key in keys:
        if key not in known:
            raise UserError(f'unknown dataset "{key}".{nearest(key, known)} Valid: {", ".join(known)}')
    backbone, cfg, own = _subject(args)
    prompt = chosen_prompt(args, backbone, own)
    kinds = args.map or list(ATTENTION_MAPS)
    if args.datasets == ["all"]:
        keys = divided(args.root, keys, args.seed, backbone.image_size)
        for key in known:
            if key not in keys:
                print(f"left out: {key}, of which no mask divides its image", file=sys.stderr)
    effects = zero_vector_effect(backbone, cfg, prompt, args.root, keys, kinds=kinds, count=args.count, seed=args.seed)
    if args.format == "csv":
        _write_csv(args.output, Effect, effects)
        return 0
    rehearsal = f", {REHEARSAL_NOTE}" if (args.root / REHEARSAL).is_file() else ""
    title = f"Attention of {backbone.name} on the lesion, {_words(prompt)}{rehearsal}"
    rows = [
        [e.dataset, e.kind, e.images, f"{e.lesion_area:.1f}", f"{e.without:.2f}", f"{e.with_prompt:.2f}",
         f"{e.difference:+.2f}" + ("" if e.interval is None else f" ± {e.interval:.2f}"), f"{e.prompt_share:.1f}"]
        for e in effects
    ]  # fmt: skip
    heads = ["dataset", "map", "images", "lesion area %", "without %", "with %", "difference (95 %)", "on prompts %"]
    text = f"{title}\n\n{tabulate(rows, headers=heads, tablefmt=STYLES[args.format], disable_numparse=True)}\n"
    if args.output is None:
        print(text, end="")
    else:
        with atomic(args.output) as temporary:
            Path(temporary).write_text(text, encoding="utf-8")
    return 0


def _subject(args: argparse.Namespace) -> tuple[VisionLanguageBackbone, CfgNode, VisualPrompt | None]:
    """Backbone, config with the test transform, and the run's own visual prompt."""
    if args.run is not None:
        trainer = loaded(args)
        return trainer.backbone, trainer.cfg, trainer.visual_prompt()
    if not args.backbone:
        raise UserError("--table needs a run's folder or --backbone NAME")
    cfg = default_config()
    merge_file(cfg, str(SETTINGS))
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    backbone = build_backbone(args.backbone, args.backbone_path, True, device)
    cfg.INPUT.SIZE, cfg.VERBOSE = (backbone.image_size, backbone.image_size), False
    return backbone, cfg, None


def _words(prompt: VisualPrompt) -> str:
    kind = "prompt tokens" if bool(prompt.tokens.any()) else "zero vectors"
    place = "inserted" if prompt.placement == "insert" else "in place of patches"
    return f"without and with {prompt.num_tokens} {kind} {place}, {'deep' if prompt.deep else 'shallow'}"


def _write_csv(path: Path | None, kind: type, rows: Sequence[Shift] | Sequence[Effect]) -> None:
    cells = [harmless(line) for line in ([field.name for field in fields(kind)], *(asdict(row).values() for row in rows))]
    if path is None:
        csv.writer(sys.stdout, lineterminator="\n").writerows(cells)
        return
    with atomic(path) as temporary, open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(cells)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 a user's mistake (one line on standard error), 3 done with files skipped."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    args = parse_arguments(argv)
    modes = [args.table, args.interpret, bool(args.embedding)]
    if sum(modes) > 1:
        raise UserError("--table, --interpret and --embedding exclude each other")
    action = effect_table if args.table else print_words if args.interpret else embed if args.embedding else explain_images
    return action(args)
