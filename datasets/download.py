"""Fetch published datasets into the folder that runs read.

    python -m datasets.download btmri busi --root data
    python -m datasets.download all --root data

Of each dataset the archive NAME.zip comes from Hugging Face or, where that does not give it, from Google Drive; the line that
says so says why. What was cut goes on where it was, at the next call too. The archive is verified (size; hash where the source
lists one), unpacked aside, put in place whole as ROOT/NAME/NAME/<class>/<file> with ROOT/NAME/split_NAME.json, counted against
the published split, and removed. A dataset that is there already is only counted.

Without network: put NAME.zip into ROOT by hand and run the same command; it is looked for first, and left there.
HF_ENDPOINT in the environment names another Hugging Face, HTTPS_PROXY a proxy.
"""

from __future__ import annotations

import argparse
import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from dassl.utils import UserError
from dassl.utils.fetching import ATTEMPTS, alone, fetch, partial_path
from dassl.utils.sources import TIMEOUT, CutError, Remote, SourceError, gigabytes, hub_file, need_space, reachable, reason
from dassl.utils.unpacking import DamagedError
from datasets import by_key, of_name
from datasets.archives import install, report
from datasets.base import ARCHIVES, REHEARSAL, BiomedDataset
from entry import program

DRIVE = "https://drive.google.com"
ZIP = b"PK"
UNPACKED = 1.1  # bytes on disk per byte of an archive of images, until its own list of files tells


@dataclass(frozen=True)
class Options:
    """How to download.

    Attributes:
        root: of the data.
        source: URL of a folder with the archives, asked in place of the published ones.
        timeout: seconds without a byte.
        attempts: without progress.
        keep: the archives.
    """

    root: Path
    source: str = ""
    timeout: float = TIMEOUT
    attempts: int = ATTEMPTS
    keep: bool = False


def download(cls: type[BiomedDataset], options: Options) -> None:
    """Have a dataset in its place, and print a line on it.

    Raises:
        UserError: no source gives it (with what to do by hand), no room, another archive than expected, images missing.
    """
    root, name = options.root, cls.dataset_dir
    there = (root / name / name).is_dir()
    if not there:
        if (root / REHEARSAL).is_file():
            raise UserError(f"{root} holds generated images; name another folder for real ones with --root (DATA=…)")
        root.mkdir(parents=True, exist_ok=True)
        with alone(root / f".{name}.lock", name):
            there = (root / name / name).is_dir()  # another process may have brought it meanwhile
            if not there:
                _bring(cls, options)
    line, notes = report(root, cls)
    print(f"{name}: {'there already: ' if there else ''}{line}", flush=True)
    for note in notes:
        print(f"warning: {name}: {note}", flush=True)


def _bring(cls: type[BiomedDataset], options: Options) -> None:
    """From an archive put there by hand, one that an earlier call fetched, or the sources, to the dataset in its place."""
    root, name = options.root, cls.dataset_dir
    by_hand, fetched = root / f"{name}.zip", root / f".{name}.zip"
    if by_hand.is_file():
        print(f"{name}: from {by_hand}, which was there", flush=True)
        try:
            _install(by_hand, root, cls)
        except DamagedError as error:
            raise UserError(f"{error}; put a whole one there, or remove it to have it fetched") from error
        return
    if not fetched.is_file():
        _fetch(cls, fetched, options)
    try:
        _install(fetched, root, cls)
    except DamagedError as error:
        fetched.unlink()
        raise UserError(f"{error}; it was removed: run the same command again") from error
    except UserError as error:
        raise UserError(f"{error} (the archive is kept as {fetched}; remove it to fetch it anew)") from error
    if options.keep:
        fetched.rename(by_hand)
    for path in root.glob(f".{name}.zip*"):  # with what came of it from a source that did not end it
        path.unlink()


def _install(archive: Path, root: Path, cls: type[BiomedDataset]) -> None:
    left_out = install(archive, root, cls)
    if left_out:
        print(f"{cls.dataset_dir}: {left_out} hidden, system or cache files of the archive were left out", flush=True)


def _fetch(cls: type[BiomedDataset], target: Path, options: Options) -> None:
    """The archive, from the first source that gives it."""
    name = cls.dataset_dir
    if options.source:
        url = f"{options.source.rstrip('/')}/{quote(name)}.zip"
        try:
            _transfer(Remote(url, begins=ZIP, name=f"{name}.zip"), name, target, options)
        except SourceError as error:
            raise UserError(f"{name}.zip could not be had from {options.source}: {error}") from error
        return
    try:
        _from_hub(name, target, options)
        return
    except SourceError as error:
        if isinstance(error, CutError) and partial_path(target).is_file():  # better gone on with than begun anew elsewhere
            raise UserError(f"{name}.zip from Hugging Face: {error}") from error
        not_hub = error
    try:
        if not cls.drive_id or not _answers(DRIVE):
            raise SourceError("not reachable")
        print(f"{name}: Hugging Face does not give it ({not_hub}); trying Google Drive", flush=True)
        _from_drive(cls, target, options)
    except SourceError as error:
        raise UserError(
            f"{name}.zip could not be had. Hugging Face ({ARCHIVES}): {not_hub}. Google Drive: {error}. By hand: get it in a "
            f"browser from https://huggingface.co/datasets/{ARCHIVES} or {DRIVE}/uc?id={cls.drive_id}, put it at "
            f"{options.root / name}.zip and run the same command again"
        ) from error


def _from_hub(name: str, target: Path, options: Options) -> None:
    from huggingface_hub import constants

    if not _answers(constants.ENDPOINT):
        raise SourceError(f"{urlsplit(constants.ENDPOINT).hostname} is not reachable")
    remote = hub_file(ARCHIVES, f"{name}.zip", "dataset", min(options.timeout, 10), begins=ZIP)
    print(f"{name}: from Hugging Face{f', {gigabytes(remote.size)}' if remote.size else ''}", flush=True)
    _transfer(remote, name, target, options)


def _transfer(remote: Remote, name: str, target: Path, options: Options) -> None:
    fetch(remote, target, options.timeout, options.attempts, lambda missing: _room(name, missing, remote.size, options))


def _room(name: str, missing: int, whole: int | None, options: Options) -> None:
    what = f"{name} needs room for the archive (about as much again for the images)"
    need_space(options.root, missing + UNPACKED * (whole or missing), what)


def _from_drive(cls: type[BiomedDataset], target: Path, options: Options) -> None:
    """By gdown, which knows Drive's questions; its own partial files lie beside the target, and are gone on with."""
    import gdown
    import requests

    name = cls.dataset_dir
    output = target.with_name(f"{target.name}.drive")
    checked = []

    def progress(come: int, total: int | None) -> None:
        if total is not None and not checked:
            _room(name, total - come, total, options)
            checked.append(total)

    try:
        gdown.download(
            id=cls.drive_id,
            output=str(output),
            quiet=not sys.stderr.isatty(),
            resume=True,
            timeout=options.timeout,
            retries=options.attempts - 1,
            use_cookies=False,
            progress=progress,
        )
    except (gdown.exceptions.DownloadError, requests.exceptions.RequestException, OSError) as error:
        raise SourceError(reason(error)) from error
    with output.open("rb") as file:
        begins = file.read(len(ZIP))
    if begins != ZIP:
        output.unlink()
        raise SourceError(f"what it gives for {name}.zip is no zip archive: a page that says its quota is used up, as a rule")
    output.rename(target)


@functools.cache
def _answers(url: str) -> bool:
    """``reachable``, asked once for all datasets of a call."""
    return reachable(url)


def chosen(names: list[str]) -> list[type[BiomedDataset]]:
    """The datasets of these keys or folder names, in any case; ``all`` is all of them.

    Raises:
        UserError: an unknown name, with the nearest one; a YAML file, whose images are the user's own.
    """
    for name in names:
        if name.endswith((".yaml", ".yml")):
            raise UserError(f"{name} is no published dataset: there is nothing to fetch")
    if "all" in [name.lower() for name in names]:
        return list(by_key().values())
    return list(dict.fromkeys(of_name(name) for name in names))


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m datasets.download", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"all, or of: {' '.join(sorted(by_key()))}")
    parser.add_argument("--root", type=Path, default=Path("data"), help="folder of the datasets (data)")
    parser.add_argument("--source", default="", metavar="URL", help="a mirror: the folder of URL/NAME.zip, asked instead")
    parser.add_argument("--keep", action="store_true", help="keep the archives, as ROOT/NAME.zip")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, metavar="S", help="seconds without a byte (%(default)g)")
    parser.add_argument("--attempts", type=int, default=ATTEMPTS, metavar="N", help="without progress (%(default)d)")
    args = parser.parse_args(argv)
    if args.timeout <= 0 or args.attempts < 1:
        raise UserError("--timeout must be above 0, --attempts 1 or more")
    if args.source and urlsplit(args.source).scheme not in ("http", "https"):
        raise UserError(f'--source "{args.source}" must begin with http:// or https://')
    return args


@program
def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 all there, 2 some are not (each named in a line of its own)."""
    failed = []
    try:
        args = _options(argv)
        wanted = chosen(args.names)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options = Options(args.root.expanduser(), args.source, args.timeout, args.attempts, args.keep)
    _answers.cache_clear()
    for cls in wanted:
        try:
            download(cls, options)
        except (UserError, OSError) as error:
            print(f"error: {cls.dataset_dir}: {reason(error) if isinstance(error, OSError) else error}", file=sys.stderr)
            failed.append(cls.dataset_dir)
        except KeyboardInterrupt:
            print(f"\n{cls.dataset_dir}: stopped; the same command goes on there", file=sys.stderr)
            return 130
    if failed and len(wanted) > 1:
        print(f"error: {len(failed)} of {len(wanted)} datasets are not there: {', '.join(failed)}", file=sys.stderr)
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
