"""Write the YAML file of your own images, after looking at them.

    python -m datasets.new data/chest                       # writes chest.yaml
    python -m datasets.new data/lungs -o lungs.yaml DATASET.INCLUDE '["images"]'
    python -m datasets.new data/skin DATASET.CSV metadata.csv

FOLDER holds class folders, folders of parts (train, test) with class folders, or images with a table of them; or is an .npz of
MedMNIST. Options come before KEY VALUE pairs, which are keys of DATASET and go into the file. Nothing else is written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from yacs.config import CfgNode

from dassl.utils import PixelSettings, UserError, atomic
from datasets import by_any_name, tables
from datasets.check.files import Look, look_at
from datasets.config import before_pairs, data_config
from datasets.image_folder import ImageFolderSplit
from datasets.made_splits import Sample
from datasets.names import spelled
from datasets.never_data import data_folders
from datasets.splits import PARTS, Split
from entry import program

SAMPLE = 200  # images that are read, evenly over all, for sizes and depths


@dataclass(frozen=True)
class Found:
    """What a look at the folder gave.

    Attributes:
        samples: labelled images in label order; none where a split file says which there are.
        split: what a run would use.
        notes: how the layout was read.
        left_out: what is no data, in words.
        looks: at some of the images.
    """

    samples: Sequence[Sample]
    split: Split
    notes: Sequence[str]
    left_out: str
    looks: Sequence[Look]


def looked(cfg: CfgNode) -> Found:
    """Read the layout, and some images.

    Raises:
        UserError: a layout that cannot be read, or in two ways; fewer than two classes.
    """
    dataset, split = ImageFolderSplit.opened(cfg)
    by_file = (dataset.image_folder / "split.json").is_file() and not cfg.DATASET.CSV
    samples = [] if by_file else dataset.samples(dataset.image_folder, cfg)[0]
    names = {name for part in PARTS for _, _, name in split[part]}
    if not names:
        raise UserError(f"{dataset.image_folder} has no labelled images")
    if len(names) < 2:
        raise UserError(f'{dataset.image_folder} has one class, "{names.pop()}": there is nothing to tell it from')
    paths = [path for part in PARTS for path, _, _ in split[part]]
    some = paths[:: max(1, len(paths) // SAMPLE)]
    looks = look_at(dataset.image_folder, some, PixelSettings.from_cfg(cfg), 0, "reading some images")
    return Found(samples, split, list(dict.fromkeys(dataset.notes)), dataset.left_out, looks)


def config_for(folder: Path, opts: Sequence[str]) -> CfgNode:
    """DATASET for a folder; a table that lies alone among loose images is taken.

    Raises:
        UserError: no such folder, an unknown key, or one that this command sets itself.
    """
    if not folder.exists():
        raise UserError(f"no folder {folder}")
    taken = [key for key in opts[::2] if key in ("DATASET.NAME", "DATASET.FOLDER") or not key.startswith("DATASET.")]
    if taken:
        raise UserError(f"{taken[0]} is not for this command: it takes other keys of DATASET")
    cfg = data_config("", ["DATASET.NAME", ImageFolderSplit.__name__, "DATASET.FOLDER", str(folder), *opts])
    if folder.is_dir() and not cfg.DATASET.CSV and not data_folders(folder) and not tables.of_medmnist(folder.resolve()):
        csvs = sorted(folder.glob("*.csv"))
        if len(csvs) == 1:
            cfg.DATASET.CSV = csvs[0].name
    return cfg


def written(cfg: CfgNode, found: Found, opts: Sequence[str]) -> str:
    """The file's text: what was given, what was found, and what is left to fill in."""
    own = cfg.DATASET
    given = {key.split(".", 1)[1] for key in opts[::2]}
    lines = [
        "# Your own images (docs/OWN_IMAGES.md). Fill in MODALITY and ORGAN; name classes as a reader of such images would.",
        "DATASET:",
        _line("NAME", own.NAME),
        _line("FOLDER", own.FOLDER),
    ]
    shown = ["CSV", *(key for key in own if key in given and key not in ("CSV", "MODALITY", "ORGAN", "TEMPLATE", "CLASSNAMES"))]
    lines += [_line(key, own[key]) for key in dict.fromkeys(shown) if own[key] or key in given]
    lines += [
        _line("MODALITY", own.MODALITY, "" if own.MODALITY else "X-ray, MRI, CT, ultrasound, …: part of the prompts"),
        _line("ORGAN", own.ORGAN),
        _line("TEMPLATE", own.TEMPLATE)
        if own.TEMPLATE
        else '  # TEMPLATE: "a photo of a {} in the …."   # {} is the class name; without it: "a MODALITY photo of a {}."',
    ]
    keys = list(dict.fromkeys(sample.key for sample in found.samples))
    if keys and not own.CLASSNAMES and not own.CLASS_FOLDERS:
        lines.append("  CLASSNAMES:                    # folder (or label): class name, in label order")
        lines += [f"    {json.dumps(key, ensure_ascii=False)}: {json.dumps(spelled(key), ensure_ascii=False)}" for key in keys]
    elif own.CLASSNAMES:
        lines.append(_line("CLASSNAMES", list(own.CLASSNAMES)))
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any, comment: str = "") -> str:
    value = list(value) if isinstance(value, tuple) else value
    return f"  {key}: {json.dumps(value, ensure_ascii=False)}" + (f"   # {comment}" if comment else "")


def described(folder: Path, found: Found) -> list[str]:
    """What a look gave, a line each."""
    split = found.split
    per_class = Counter(name for _, name in sorted((label, name) for part in PARTS for _, label, name in split[part]))
    parts = ", ".join(f"{part} {len(split[part])}" for part in PARTS)
    lines = [f"{folder}: {sum(per_class.values())} images ({parts}), {len(per_class)} classes"]
    lines += [f"  {count:>7}  {name}" for name, count in per_class.items()]
    lines += [f"  {note}" for note in (*found.notes, found.left_out) if note]
    good = [look for look in found.looks if not look.reason]
    bad = [look for look in found.looks if look.reason]
    if good:
        kinds = ", ".join(f"{kind} {count}" for kind, count in Counter(look.kind for look in good).most_common(5))
        lines.append(f"  of {len(found.looks)} looked at: {_sizes([look.size for look in good])}; {kinds}")
    if bad:
        lines.append(f"  {len(bad)} of them cannot be read, first {bad[0].path}: {bad[0].reason}")
    return lines


def _sizes(sizes: Sequence[tuple[int, int]]) -> str:
    if len(set(sizes)) == 1:
        return f"all {sizes[0][0]} x {sizes[0][1]} pixels"
    widths, heights = zip(*sizes, strict=True)
    most = f"{min(widths)} x {min(heights)} to {max(widths)} x {max(heights)} pixels"
    return f"{most} (median {median(widths):g} x {median(heights):g})"


def run(args: argparse.Namespace) -> None:
    """Look, write, and say what comes next."""
    folder = args.folder
    path = args.output or Path(f"{folder.resolve().stem.lower().replace(' ', '_')}.yaml")
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"{path} must end in .yaml")
    if path.exists():
        raise UserError(f"{path} is there already: remove it, or name another file with -o")
    if path.stem.lower() in by_any_name():
        raise UserError(f'"{path.stem}" is a published dataset: name another file with -o, whose name is your dataset\'s')
    cfg = config_for(folder, args.opts)
    found = looked(cfg)
    try:
        with atomic(path) as temporary:
            Path(temporary).write_text(written(cfg, found, args.opts), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror})") from error
    print(*described(folder, found), sep="\n")
    blank = [] if cfg.DATASET.MODALITY else ["fill in MODALITY"]
    print(f"written: {path} ({', '.join([*blank, 'look at the class names'])})")
    print(f"next: python -m datasets.check {path}")


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 written, 2 a user's mistake (told in one line on standard error)."""
    words, pairs = before_pairs(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="python -m datasets.new", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, metavar="YAML", help="by default FOLDER's name, in the working folder")
    args = parser.parse_args(words)
    args.opts = pairs
    run(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
