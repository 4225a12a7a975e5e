"""Write the rehearsal datasets in the published layout.

    python -m datasets.phantom --root data/phantom --datasets btmri busi --per-class 60

Each dataset gets ``<NAME>/<NAME>/<class folder>/<file>.png``, ``<NAME>/masks/…`` (where the decisive structure is) and
``<NAME>/split_<NAME>.json``; ``REHEARSAL.json`` in the root marks everything below it as synthetic.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from dassl.utils import UserError, atomic, nearest, write_json
from datasets import by_key, phantom
from datasets.base import REHEARSAL
from datasets.made_splits import make_split
from entry import program

SIZE = 128  # side of an image in pixels
SYNTHETIC = "synthetic images, drawn by a program, of nobody"


def generate(root: Path, key: str, per_class: int, size: int, seed: int) -> Path:
    """One dataset, whole or not at all; what is there with the same settings is left alone.

    Raises:
        UserError: the folder holds something else.
    """
    cls = by_key()[key]
    target = root / cls.dataset_dir
    settings = {"per_class": per_class, "size": size, "seed": seed}
    about = target / "PHANTOM.json"
    if target.exists():
        if about.is_file() and json.loads(about.read_text()) == settings:
            print(f"there already: {target}")
            return target
        raise UserError(f"{target} exists and was not generated with {settings}: remove it or choose another --root")
    root.mkdir(parents=True, exist_ok=True)
    write_json({"note": "procedural images, not medical data"}, str(root / REHEARSAL))
    with tempfile.TemporaryDirectory(dir=root, prefix=f".{cls.dataset_dir}-") as scratch:
        new = Path(scratch) / cls.dataset_dir
        write_images(new, cls.dataset_dir, key, per_class, size, seed)
        split = make_split(new / cls.dataset_dir, cls.published_classnames, seed)
        write_json(split, str(new / f"split_{cls.dataset_dir}.json"))
        write_json(settings, str(new / about.name))
        new.rename(target)
    return target


def write_images(folder: Path, name: str, key: str, per_class: int, size: int, seed: int) -> None:
    """Images and masks of all classes."""
    classes = by_key()[key].published_classnames
    with tqdm(total=per_class * len(classes), desc=name, disable=not sys.stderr.isatty()) as bar:
        for classname in classes:
            below = classname.replace(" ", "_")
            for part in (folder / name / below, folder / "masks" / below):
                part.mkdir(parents=True)
            for index in range(per_class):
                drawn = phantom.draw(key, classname, seed, index, size)
                Image.fromarray(drawn.image).save(folder / name / below / f"{index:04d}.png")
                Image.fromarray(drawn.mask.astype(np.uint8) * 255).save(folder / "masks" / below / f"{index:04d}.png")
                bar.update()


def contact_sheet(key: str, path: Path, size: int, seed: int, columns: int = 8) -> None:
    """One row per class, with its name, below a line that says what they are."""
    classes, band = by_key()[key].published_classnames, max(16, size // 8)
    sheet = Image.new("RGB", (columns * size, band + len(classes) * (band + size)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(0.7 * band)
    title = f"{by_key()[key].dataset_dir}: {SYNTHETIC}"
    pen.text((band // 4, band / 2), title, fill="#b00020", font=font, anchor="lm")
    for row, classname in enumerate(classes):
        top = band + row * (band + size)
        pen.text((band // 4, top + band / 2), classname, fill="black", font=font, anchor="lm")
        for index in range(columns):
            drawn = Image.fromarray(phantom.draw(key, classname, seed, index, size).image).convert("RGB")
            sheet.paste(drawn, (index * size, top + band))
    with atomic(path) as temporary:
        sheet.save(temporary, "PNG")


@program
def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("data/phantom"))
    parser.add_argument("--datasets", nargs="+", default=["all"], metavar="KEY", help=f"all, or {' '.join(phantom.KEYS)}")
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--size", type=int, default=SIZE, help="side in pixels")
    parser.add_argument("--seed", type=int, default=phantom.EVALUATION_SEED)
    parser.add_argument("--contact-sheet", type=Path, help="only write one picture per dataset into this folder")
    args = parser.parse_args(argv)
    if args.per_class < 3 or args.size < 32:
        raise UserError("--per-class must be 3 or more, --size 32 or more")
    if args.seed >= phantom.PRETRAINING_SEED:
        raise UserError(f"--seed must be below {phantom.PRETRAINING_SEED}: PhantomCLIP was trained on those images")
    for key in phantom.KEYS if args.datasets == ["all"] else args.datasets:
        if key not in phantom.KEYS:
            raise UserError(f'unknown dataset "{key}".{nearest(key, phantom.KEYS)} Valid: {", ".join(phantom.KEYS)}')
        if args.contact_sheet:
            args.contact_sheet.mkdir(parents=True, exist_ok=True)
            contact_sheet(key, args.contact_sheet / f"{key}.png", args.size, args.seed)
        else:
            generate(args.root, key, args.per_class, args.size, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
