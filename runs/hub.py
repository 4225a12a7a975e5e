"""A run on the Hugging Face hub: its address, and its few files fetched. What they hold is looked at by ``packed``."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from analysis.results import RESULTS
from backbones.hub import hub
from dassl.utils import UserError
from dassl.utils.sources import AbsentError, SourceError, gigabytes, hub_file, reason, sha256
from runs.packed import LIMITS

# a Path makes one slash of two
ADDRESS = re.compile(r"hf:/{1,2}(?P<repository>[^/@\s]+/[^/@\s]+)(?:@(?P<revision>[\w.-]+(?:/[\w.-]+)*))?")
OPTIONAL = {RESULTS}  # what a run can be loaded without
WAIT = 10.0  # seconds for an answer


def split_address(address: str | Path) -> tuple[str, str | None]:
    """The repository and the revision, ``None`` for the main branch.

    Raises:
        UserError: no address of a run.
    """
    found = ADDRESS.fullmatch(str(address))
    if not found or ".." in str(address):
        raise UserError(f'"{address}" is no address of a run: it must be hf://ORG/NAME or hf://ORG/NAME@REVISION')
    return require_repository(found["repository"]), found["revision"]


def require_repository(name: str) -> str:
    """``name``, if the hub could have a repository of that name.

    Raises:
        UserError: it could not.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        if name.count("/") != 1:
            raise HFValidationError("it must be ORG/NAME")
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f'"{name[:100]}" is no name of a repository ({reason(error)})') from error
    return name


@cache
def fetched(address: str) -> Path:
    """The folder of a run on the hub, in the hub's cache; without network, what lies there already.

    Only the files of :data:`runs.packed.LIMITS` are asked for, each after a look at its size, all of one commit.

    Raises:
        UserError: no address, no such repository or revision, no run in it, a file that is too large, cut or not as listed.
    """
    repository, revision = split_address(address)
    folder: Path | None = None
    for name in LIMITS:
        try:
            with hub():
                path = _fetch(repository, name, folder.name if folder else revision)
        except AbsentError as error:
            if name in OPTIONAL:
                continue
            raise UserError(f"{address}: {error}; a run there is what python -m share push made") from error
        except SourceError as error:
            raise UserError(f"{address} cannot be had ({error})") from error
        folder = path.parent
    assert folder is not None  # a file that is not optional has come
    return folder


def _fetch(repository: str, name: str, revision: str | None) -> Path:
    """One file, in the hub's cache.

    Raises:
        AbsentError: it is not there.
        SourceError: it is too large, cut, not as listed, or the hub cannot be reached and the cache has no such file.
    """
    from huggingface_hub import constants, hf_hub_download

    remote = None
    if not constants.HF_HUB_OFFLINE:
        remote = hub_file(repository, name, timeout=WAIT, revision=revision)
        if remote.size is None or remote.size > LIMITS[name]:
            size = "no size" if remote.size is None else gigabytes(remote.size)
            raise SourceError(f"its {name} has {size}, and {gigabytes(LIMITS[name])} is the most that is fetched")
    try:
        path = Path(hf_hub_download(repository, name, revision=revision))
    except Exception as error:  # the hub library raises a dozen unrelated types
        if name in OPTIONAL and constants.HF_HUB_OFFLINE:
            raise AbsentError(reason(error)) from error
        raise SourceError(reason(error)) from error
    if remote and remote.sha256 and sha256(path) != remote.sha256:
        path.resolve().unlink()  # not to be found in the cache the next time
        raise SourceError(f"its {name} came with another SHA-256 than the listed {remote.sha256[:12]}…")
    return path
