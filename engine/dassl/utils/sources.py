"""Files elsewhere: what is known of one before it is fetched (``fetching``), how a source fails, room for a file here."""

from __future__ import annotations

import hashlib
import re
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from urllib.parse import urlsplit
from urllib.request import getproxies

from dassl.utils.errors import UserError

TIMEOUT = 30.0


class SourceError(UserError):
    """A source that does not give what was asked of it; the message is the reason alone, for a line that names the source."""


class AbsentError(SourceError):
    """A source that answers, and has no such file."""


class CutError(SourceError):
    """A transfer that ended early; what came is kept."""


@dataclass(frozen=True)
class Remote:
    """A file elsewhere.

    Attributes:
        url: of http or https.
        size: in bytes, ``None`` where not known.
        sha256: 64 hexadecimal digits, empty where not known.
        begins: the bytes that such a file begins with; a web page in its place is told by them.
        name: what messages call it.
        headers: of the requests for it; those that name a user are not sent to another host.
    """

    url: str
    size: int | None = None
    sha256: str = ""
    begins: bytes = b""
    name: str = "the file"
    headers: Mapping[str, str] = field(default_factory=dict)


def gigabytes(size: float) -> str:
    """A number of bytes in words: ``1.2 GB``, ``35 MB``, ``0.4 MB``, ``12 bytes``."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit * (1 if unit == 1e9 else 0.1):
            return f"{size / unit:.0f} {name}" if size >= 10 * unit else f"{size / unit:.1f} {name}"
    return f"{size:.0f} bytes"


def need_space(folder: Path, size: float, what: str) -> None:
    """
    Args:
        folder: need not exist yet.
        size: bytes that will be written there.
        what: who needs them, and for what, for the message.

    Raises:
        UserError: the disk of ``folder`` has less free.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < size:
        raise UserError(
            f"{what}: that is {gigabytes(size)}, and the disk of {folder} has {gigabytes(free)} free; make room, or name a "
            "folder on another disk"
        )


def reachable(url: str, timeout: float = 5) -> bool:
    """Whether a connection to the host of ``url`` can be opened within ``timeout`` seconds; with a proxy it is not tried."""
    address = urlsplit(url)
    if getproxies().get(address.scheme):
        return True  # a proxy answers for the outside; let the transfer find out
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=timeout).close()
    except (OSError, UnicodeError):
        return False
    return True


def hub_file(
    repository: str,
    name: str,
    repo_type: str = "model",
    timeout: float = TIMEOUT,
    begins: bytes = b"",
    revision: str | None = None,
) -> Remote:
    """Where a file of a Hugging Face repository lies, with its size and, for large files, its SHA-256.

    Args:
        revision: a branch, tag or commit; the main branch by default.

    Raises:
        AbsentError: the repository, or the file in it, is not there (or not for everyone).
        SourceError: no answer, or not the hub's.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.utils import build_hf_headers

    if constants.HF_HUB_OFFLINE:
        raise SourceError("HF_HUB_OFFLINE is set in the environment")
    url = hf_hub_url(repository, name, repo_type=repo_type, revision=revision)
    try:
        about = get_hf_file_metadata(url, timeout=timeout)
    except (RepositoryNotFoundError, GatedRepoError) as error:
        raise AbsentError(f"{repository} is not there, or not for everyone") from error
    except RevisionNotFoundError as error:
        raise AbsentError(f"{repository} has no revision {revision}") from error
    except EntryNotFoundError as error:
        raise AbsentError(f"{repository} has no {name}") from error
    except Exception as error:  # the hub library raises a dozen unrelated types for "not reachable"
        raise SourceError(reason(error)) from error
    etag = about.etag or ""
    known = etag if re.fullmatch("[0-9a-f]{64}", etag) else ""
    return Remote(url, about.size, known, begins, name, build_hf_headers())


def reason(error: BaseException) -> str:
    """What an error says, in one line of at most 160 characters."""
    return shorten(str(error), 160, placeholder=" …") or type(error).__name__


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
