"""Give away what a run learned.

    python -m share pack RUN -o FOLDER               # prompt.safetensors, config.yaml, results.json, README.md (the card)
    python -m share push RUN ORG/NAME --dry-run      # what would be uploaded, and the card
    python -m share push RUN ORG/NAME                # to the Hugging Face hub, by its own login (hf auth login)

RUN is the folder of a trained and tested run, for push also one that was packed (and its card edited). No image, no name of an
image, no path and no name of this machine's account goes along. Whoever gets it: python predict.py hf://ORG/NAME images/
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from analysis.results import read_record
from dassl.utils import UserError
from dassl.utils.sources import gigabytes
from entry import program
from runs.hub import require_repository
from runs.packed import CARD, TENSORS, is_packed, packed_config, read_tensors
from share.card import ANYWHERE
from share.pack import FILES, Packed, pack
from share.push import push, require_login


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m share", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write the folder of a shared run")
    _of_a_run(packing)
    packing.add_argument("-o", "--output", type=Path, help="folder to write; by default one named by the run, below packed/")
    pushing = commands.add_parser("push", help="upload it to the Hugging Face hub")
    _of_a_run(pushing)
    pushing.add_argument("repository", metavar="ORG/NAME", help="on the hub; made if it is not there")
    pushing.add_argument("--dry-run", action="store_true", help="upload nothing: show the files and the card")
    pushing.add_argument("--public", action="store_true", help="a repository that is made can be read by everybody")
    return parser.parse_args(argv)


def _of_a_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="folder of a trained run")
    parser.add_argument("--license", default="", metavar="ID", help='of what was learned, by the hub\'s short name ("mit")')
    parser.add_argument("--epoch", type=int, help="checkpoint to take; by default the one that the run tested")


def default_folder(run: Path) -> Path:
    """``packed/<dataset>_<method>_<backbone>_<shots>shots_seed<S>``."""
    record = read_record(run)
    parts = (record["dataset"], record["method"], record["backbone"], f"{record['num_shots']}shots", f"seed{record['seed']}")
    return Path("packed") / "_".join("".join(c if c.isalnum() or c in "-." else "-" for c in str(part)) for part in parts)


def described(packed: Packed) -> str:
    """The files with their sizes, and what to know of them."""
    lines = [f"  {name:20} {gigabytes((packed.folder / name).stat().st_size)}" for name in FILES]
    return "\n".join([*lines, *(f"note: {note}" for note in packed.notes)])


def _pack(args: argparse.Namespace) -> int:
    folder = args.output or default_folder(args.run)
    packed = pack(args.run, folder, args.license, epoch=args.epoch)
    print(f"{folder}\n{described(packed)}")
    print(f"Read {folder / CARD}, change it as you like, then: python -m share push {folder} ORG/NAME")
    return 0


def _push(args: argparse.Namespace) -> int:
    repository = require_repository(args.repository)
    with tempfile.TemporaryDirectory() as made:
        packed = _package(args, Path(made) / "packed", repository)
        if not args.dry_run:
            require_login()
        print(f"{repository} ({'public' if args.public else 'private'}, if it is made now)\n{described(packed)}")
        if args.dry_run:
            print(f"nothing was uploaded; the card:\n\n{(packed.folder / CARD).read_text(encoding='utf-8')}", end="")
            return 0
        print(f"uploaded: {push(packed.folder, repository, args.public)}")
    print(f"use it: python predict.py hf://{repository} images/")
    return 0


def _package(args: argparse.Namespace, folder: Path, repository: str) -> Packed:
    """The package that is uploaded: of a run, or a copy of one that lies there, its card with the address in it.

    Raises:
        UserError: settings of a package that was made already, or one that is not whole.
    """
    if not is_packed(args.run):
        return pack(args.run, folder, args.license, repository, args.epoch)
    if args.license or args.epoch is not None:
        raise UserError(f"{args.run} is packed already: its licence is in its {CARD}, and it holds one checkpoint")
    absent = [name for name in FILES if not (args.run / name).is_file()]
    if absent:
        raise UserError(f"{args.run} lacks {', '.join(absent)}: pack the run again")
    read_record(args.run), read_tensors(args.run / TENSORS), packed_config(args.run, "anywhere")
    folder.mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(args.run / name, folder / name)
    text = (folder / CARD).read_text(encoding="utf-8")
    (folder / CARD).write_text(text.replace(f"hf://{ANYWHERE}", f"hf://{repository}"), encoding="utf-8")
    return Packed(folder, [])


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 a user's mistake (told in one line on standard error)."""
    args = parse_arguments(argv)
    return _pack(args) if args.command == "pack" else _push(args)
