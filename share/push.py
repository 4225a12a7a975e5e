"""The upload of a packed run to the Hugging Face hub: one commit, or none."""

from __future__ import annotations

from pathlib import Path

from dassl.utils import UserError
from dassl.utils.sources import reason
from share.pack import FILES


def require_login() -> str:
    """The name of the account that the hub knows this machine by.

    Raises:
        UserError: no login, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi, constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE is set in the environment: nothing can be pushed (--dry-run shows what would be)")
    if not get_token():
        raise UserError("there is no login for the Hugging Face hub here: run hf auth login once, with a token that may write")
    try:
        return str(HfApi().whoami()["name"])
    except Exception as error:  # the hub library raises a dozen unrelated types
        raise UserError(f"the Hugging Face hub does not take this machine's login ({reason(error)}): hf auth login") from error


def push(folder: Path, repository: str, public: bool = False) -> str:
    """Upload the four files of a package; returns the address of the commit.

    A repository that is not there is made, private unless ``public``; one that is there keeps its visibility and other files.

    Args:
        folder: that :func:`share.pack.pack` wrote.
        repository: ``ORG/NAME``.

    Raises:
        UserError: no right to write there, no network. :func:`require_login` tells the first mistakes before.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    files = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(folder / name)) for name in FILES]
    try:
        api.create_repo(repository, private=not public, exist_ok=True)
        done = api.create_commit(repository, files, commit_message="A run packed by Biomed-DPT")
    except Exception as error:  # the hub library raises a dozen unrelated types
        raise UserError(f"{repository} could not be written ({reason(error)}); nothing there was changed by halves") from error
    return str(done.commit_url)
