"""Look at all images and labels of datasets, and say what is wrong with them.

    python -m datasets.check btmri retina --root data
    python -m datasets.check my_images.yaml --json findings.json
    python -m datasets.check chmnist DATASET.SPLIT grouped
    python -m datasets.check dermamnist DATASET.GROUP_BY data/HAM10000_metadata.csv

Options come before KEY VALUE pairs, which are keys of DATASET and INPUT. Exit status: 0 nothing wrong, 1 something that makes
numbers wrong or too good (files that cannot be read, labels that disagree, the same image or group in two parts of the split),
2 a user's mistake.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import IMAGE_SUFFIXES, PixelSettings, UserError, write_json
from datasets import of_name
from datasets.base import BiomedDataset
from datasets.check import findings
from datasets.check.files import look_at
from datasets.check.report import as_record, printed
from datasets.config import before_pairs, data_config
from datasets.never_data import LeftOut, image_files
from entry import program

# keys that a check reads; CSV_PATH and its like with CSV
READ = (
    *(f"DATASET.{key}" for key in ("SPLIT", "GROUP_BY", "TITLE", "FOLDER", "CLASS", "INCLUDE", "EXCLUDE", "CSV")),
    *(f"INPUT.{key}" for key in ("WINDOW", "EXIF", "SLICE", "MAX_PIXELS")),
)


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    words, pairs = before_pairs(argv)
    parser = argparse.ArgumentParser(
        "python -m datasets.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", metavar="NAME|YAML", help="key or name of a dataset, or its YAML file")
    parser.add_argument("--root", default="data", help="folder of the datasets (data)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found here")
    parser.add_argument("--workers", type=int, default=0, help="processes that read; by default one per core")
    parser.add_argument("--show", type=int, default=10, metavar="N", help="list at most N items of a finding (10); 0: all")
    args = parser.parse_args(words)
    args.opts = pairs
    return args


def config_of(name: str, root: str, opts: Sequence[str]) -> CfgNode:
    """DATASET and INPUT of a published dataset or of a YAML file.

    Raises:
        UserError: no such dataset, file or key, or a key that a check does not read.
    """
    of_file = name.endswith((".yaml", ".yml"))
    cfg = data_config(name if of_file else "", opts)
    unread = next((key for key in opts[::2] if not key.startswith(READ)), None)
    if unread:
        raise UserError(f"{unread} is not read here: leave it out" + (", --root FOLDER" if unread == "DATASET.ROOT" else ""))
    cfg.DATASET.ROOT = root
    if not of_file:
        cfg.DATASET.NAME = of_name(name).__name__
    elif not cfg.DATASET.TITLE.strip():
        cfg.DATASET.TITLE = Path(name).stem
    return cfg


def check(cfg: CfgNode, workers: int = 0) -> dict[str, Any]:
    """Everything that is found in a dataset, as :func:`datasets.check.report.as_record` orders it.

    Raises:
        UserError: its folder, split or settings cannot be used.
    """
    started = time.perf_counter()
    cls = DATASET_REGISTRY.get(cfg.DATASET.NAME)
    if not (isinstance(cls, type) and issubclass(cls, BiomedDataset)):
        raise UserError(f"{cfg.DATASET.NAME} is a dataset of another project: its split cannot be looked at")
    settings = PixelSettings.from_cfg(cfg)
    dataset, split = cls.opened(cfg)
    title, images = cls.title(cfg), dataset.image_folder
    rows = findings.listed(split)
    groups = dataset.groups(split, cfg)
    missing = set(findings.missing_of(rows, images))
    left_out = LeftOut()
    inside = [path.relative_to(images).as_posix() for path in image_files(images, IMAGE_SUFFIXES, left_out)]
    looks = look_at(images, [path for path in rows.part if path not in missing], settings, workers, f"{title}: reading")
    found = [
        *findings.of_files(rows, looks, sorted(missing), [path for path in inside if path not in rows.part]),
        *findings.of_labels(rows),
        *findings.of_twins(rows, looks, f"{title}: comparing"),
        *(one for one in findings.of_groups(rows, groups) if one.said not in dataset.notes),
    ]
    notes = [*dataset.notes, *filter(None, [str(left_out)])]
    if not groups.of:
        notes.append(f"no groups are known: {'; '.join(groups.notes)} (DATASET.GROUP_BY names them)")
    return as_record(title, str(images), rows, looks, found, notes, time.perf_counter() - started)


def run(args: argparse.Namespace) -> int:
    """Check each dataset that is named, print what is found, write it where that is asked for; the exit status."""
    if args.workers < 0:
        raise UserError(f"--workers is {args.workers}, must be 1 or more (0: one per core)")
    records, failed = [], False
    for name in args.names:
        try:
            record = check(config_of(name, args.root, args.opts), args.workers)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            failed = True
            continue
        records.append(record)
        print(printed(record, args.show), flush=True)
    if args.json and records:
        try:
            write_json({"schema": 1, "checked": records}, str(args.json))
        except OSError as error:
            raise UserError(f"--json {args.json} cannot be written ({error.strerror})") from error
    return 2 if failed else int(any(one["matters"] for record in records for one in record["findings"]))


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 nothing wrong, 1 something that matters, 2 a user's mistake."""
    args = arguments(sys.argv[1:] if argv is None else argv)
    return run(args)


if __name__ == "__main__":
    sys.exit(main())
