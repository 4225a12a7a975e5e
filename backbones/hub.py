"""Weights by hub name where the hub can be reached; one clear line, and soon, where it cannot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dassl.utils import UserError
from dassl.utils.sources import reachable


@contextmanager
def hub() -> Iterator[None]:
    """Without a way to the hub, look only at its local cache: told in seconds instead of after a minute of retries."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def fetch(name: str, repository: str, patterns: Sequence[str], files: str, repo_type: str = "model") -> Path:
    """The local folder of the files of a hub repository that match ``patterns``; downloads what is not cached.

    Args:
        name: the backbone's name, for the message.
        repository: ``org/repo``.
        patterns: shell patterns of the wanted files.
        files: what a local folder would have to hold, for the message.
        repo_type: ``"model"`` or ``"dataset"``.

    Raises:
        UserError: neither reachable nor cached.
    """
    from huggingface_hub import snapshot_download

    try:
        with hub():
            return Path(snapshot_download(repository, repo_type=repo_type, allow_patterns=list(patterns)))
    except Exception as error:  # the hub library raises a dozen unrelated types for "not reachable"
        raise UserError(unreachable(name, repository, error, files)) from error


def unreachable(name: str, source: str, error: Exception, files: str) -> str:
    """The message of a backbone whose weights cannot be had from ``source``; ``files`` is what a folder must hold."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"the weights of {name} could not be had from {source} ({reason[:160]}). Where there is network, fetch them by "
        f"python -m backbones.download {name} --to FOLDER, and name the folder here: MODEL.BACKBONE.PATH FOLDER (it has to "
        f"hold {files}; docs/DATASETS.md); or rehearse with --backbone PhantomCLIP"
    )


def require_files(name: str, folder: Path, wanted: dict[str, Sequence[str]]) -> dict[str, Path]:
    """One existing file of ``folder`` per entry of ``wanted``.

    Args:
        name: the backbone's name, for the message.
        wanted: what each file is for, and the shell patterns it may have, the preferred one first.

    Raises:
        UserError: nothing there for an entry.
    """
    found: dict[str, Path] = {}
    for purpose, patterns in wanted.items():
        there = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
        if not there:
            raise UserError(
                f"{folder}: no {purpose} of {name} there ({' or '.join(patterns)}); docs/DATASETS.md tells what "
                "MODEL.BACKBONE.PATH must hold"
            )
        found[purpose] = there[0]
    return found
