"""Prompt files as a text tower reads them: checked, their tokens counted, and how well their classes stand apart.

    python -m explain.prompts --backbone BiomedCLIP                               # the files of all datasets
    python -m explain.prompts btmri mine.json --backbone BiomedCLIP --separability FOLDER

The rules and the exit status are those of ``python -m datasets.prompts.check``, which needs no model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from analysis.separability import class_cosines, heat_map, separability_table
from backbones import VisionLanguageBackbone, build_backbone
from datasets.prompts import rules
from datasets.prompts.check import Record, add_arguments, check_files
from entry import program


def token_faults(record: Record, backbone: VisionLanguageBackbone) -> Iterator[str]:
    """Sentences that fill or exceed the context of a backbone's text tower."""
    for name, entries in record["prompts"].items():
        for number, entry in enumerate(entries, start=1):
            if int(backbone.tokenize([rules.entry_text(entry)]).mask.sum()) >= backbone.context_length:
                yield f"{name}: sentence {number} fills all {backbone.context_length} tokens of {backbone.name}"


def separability(chosen: Sequence[tuple[Path, Record]], backbone: VisionLanguageBackbone, folder: Path) -> None:
    """Encode the prompts, print the table of cosines within and between classes, write it and a heat map per file."""
    cosines = {}
    for path, record in tqdm(chosen, desc="encoding prompts", disable=None, leave=False):
        with torch.no_grad():
            features = [
                backbone.encode_text([rules.entry_text(entry) for entry in entries]).cpu().numpy()
                for entries in record["prompts"].values()
            ]
        matrix = class_cosines(features)
        names = list(record["prompts"])
        cosines[path.stem] = (names, matrix)
        heat_map(matrix, names, f"{path.stem}: mean cosine of prompts, {backbone.name}", folder / f"{path.stem}.png")
    title = f"Mean cosine of the prompts of one class (within) and of two classes (between), {backbone.name}"
    print(separability_table(title, cosines, "terminal"))
    (folder / "separability.md").write_text(separability_table(title, cosines, "markdown") + "\n", encoding="utf-8")
    print(f"written: {folder}/separability.md and a heat map per file")


def run(args: argparse.Namespace) -> int:
    backbone = build_backbone(args.backbone, args.backbone_path)
    good, status = check_files(args, lambda record: token_faults(record, backbone))
    if args.separability and good:
        args.separability.mkdir(parents=True, exist_ok=True)
        separability(good, backbone, args.separability)
    return status


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 no fault, 1 faults, 2 a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m explain.prompts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--backbone", required=True, help="whose text tower reads the prompts")
    parser.add_argument("--backbone-path", default="", help="folder of the backbone's weights (MODEL.BACKBONE.PATH)")
    parser.add_argument("--separability", type=Path, metavar="FOLDER", help="write table and heat maps of cosines there")
    args = parser.parse_args(argv)
    return run(args)


if __name__ == "__main__":
    sys.exit(main())
