"""Large files from the network: cut, stalled or lying servers are survived or told in one line, and nothing half is left.

What has come lies in ``.<name>.part`` beside the target, with what it is part of in ``.<name>.part.json``: the next call goes
on there. ``requests`` does the talking.
"""

from __future__ import annotations

import errno
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from tqdm import tqdm

from dassl.utils.errors import UserError
from dassl.utils.sources import TIMEOUT, AbsentError, CutError, Remote, SourceError, gigabytes, reason, sha256
from dassl.utils.tools import write_json

if TYPE_CHECKING:
    from requests import Response

CHUNK = 1 << 16
ATTEMPTS = 5
UNBOUNDED = 64 * 10**9  # bytes at most of a file whose length nobody tells
WAIT = 1.0  # seconds before the second attempt, doubled for each further one
PROGRESS = 1 << 20  # an attempt that brought less than this counts as one without progress
WEB_PAGE = "it gives a web page in place of the file (a quota, a login, a name that is gone)"
CUT = "the connection was cut"
GONE = {401, 403, 404, 410, 451}
LATER = {408, 425, 429, 500, 502, 503, 504}


def fetch(
    remote: Remote,
    target: Path,
    timeout: float = TIMEOUT,
    attempts: int = ATTEMPTS,
    room: Callable[[int], None] | None = None,
    say: Callable[[str], None] = tqdm.write,
) -> Path:
    """Bring a file to ``target``: whole and verified, or not at all. What an earlier call got of it is gone on with.

    Args:
        timeout: seconds without a byte after which a transfer is given up.
        attempts: how often without progress.
        room: called with the file's size in bytes before the first byte is written, if the size is known.
        say: takes a line for each cut and each new start.

    Raises:
        SourceError: not there, cut or stalled for good, of another length or hash than announced, a web page.
        UserError: no room, no permission to write.
    """
    part = partial_path(target)
    left, wait = attempts, WAIT
    while True:
        before = _length(part)
        try:
            _transfer(remote, part, timeout, room, say)
            break
        except CutError as cut:
            if _length(part) - before >= PROGRESS:
                left, wait = attempts, WAIT
            left -= 1
            if left < 1:
                kept = f"; {gigabytes(_length(part))} are kept, and the same command goes on there" if _length(part) else ""
                raise CutError(f"{cut}{kept}") from cut
            say(f"{remote.name}: {cut}, at {gigabytes(_length(part))}; going on in {wait:.0f} s")
            time.sleep(wait)
            wait = min(2 * wait, 30)
    _verify(remote, part)
    part.replace(target)
    _forget(part)
    return target


@contextmanager
def alone(lock: Path, what: str) -> Iterator[None]:
    """One process at a time; the others wait, and say so."""
    from filelock import FileLock, Timeout

    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        print(f"{what}: another process is at it; waiting", flush=True)
        held.acquire()
    try:
        yield
    finally:
        with suppress(OSError):  # whoever waits for it holds it open, and looks again at what is there
            lock.unlink()
        held.release()


def partial_path(target: Path) -> Path:
    """Where the first bytes of ``target`` lie until it is whole."""
    return target.with_name(f".{target.name.lstrip('.')}.part")


def _forget(part: Path) -> None:
    for path in (part, _note(part)):
        path.unlink(missing_ok=True)


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _transfer(
    remote: Remote, part: Path, timeout: float, room: Callable[[int], None] | None, say: Callable[[str], None]
) -> None:
    """One attempt: from the first missing byte to the last."""
    have = _length(part) if _same(part, remote) else 0
    if have and have == remote.size:
        return
    for wanted in (have, 0):
        with closing(_open(remote, wanted, timeout)) as response:
            total, start = _extent(response)
            identity = _identity(remote, response, total)
            if start != wanted or (wanted and not _same(part, remote, identity)):
                if wanted:
                    say(f"{remote.name}: the source cannot go on where it was cut, or has another file now; from the start")
                    continue
                raise SourceError("it gives the middle of the file when asked for all of it")
            if remote.begins and "text/html" in response.headers.get("Content-Type", ""):
                raise SourceError(WEB_PAGE)
            if remote.size is not None and total not in (None, remote.size):
                raise SourceError(f"its server announces {total} bytes, its listing {remote.size}")
            total = remote.size if total is None else total
            if room is not None and total is not None:
                room(total - wanted)
            with _writing(part):
                write_json(identity, str(_note(part)))
                return _store(response, part, wanted, total, remote)


def _open(remote: Remote, start: int, timeout: float) -> Response:
    """The answer to a request for everything from byte ``start`` on."""
    import requests

    url = remote.url
    headers = {"User-Agent": "biomed-dpt", **remote.headers, "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=timeout)
    except requests.exceptions.SSLError as error:
        raise SourceError(f"no safe connection: {reason(error)}") from error
    except requests.exceptions.Timeout as error:
        raise CutError(f"no answer for {timeout:g} s") from error
    except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        system = re.search(r"\[Errno -?\d+\] ([^'\")]+)", str(error))  # the rest is how requests got there
        raise CutError(f"no connection to {urlsplit(url).hostname} ({system[1] if system else reason(error)})") from error
    except requests.exceptions.RequestException as error:
        raise SourceError(reason(error)) from error
    if response.status_code == 416 and start:  # what is here is longer than what is there
        response.close()
        return _open(remote, 0, timeout)
    if response.status_code not in (200, 206):
        response.close()
        kind = AbsentError if response.status_code in GONE else CutError if response.status_code in LATER else SourceError
        raise kind(f"{urlsplit(url).hostname} answers {response.status_code} {response.reason}")
    return response


def _extent(response: Response) -> tuple[int | None, int]:
    """(bytes of the whole file where announced, first byte of this answer; -1 for an answer that cannot be used)."""
    if response.headers.get("Content-Encoding", "identity") != "identity":  # packed on the way: its length is not the file's
        return None, 0 if response.status_code == 200 else -1
    if response.status_code == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if not found:
            return None, -1
        return (None if found[2] == "*" else int(found[2])), int(found[1])
    length = response.headers.get("Content-Length", "")
    return (int(length) if length.isdigit() else None), 0


@contextmanager
def _writing(part: Path) -> Iterator[None]:
    """What goes wrong on this side is told as such; what turns out not to be the file is removed."""
    try:
        yield
    except (AbsentError, CutError):
        raise
    except SourceError:
        _forget(part)
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        kept = "; what has come is kept, and the same command goes on there" if full else ""
        raise UserError(f"{part.parent} cannot be written to ({error.strerror or reason(error)}){kept}") from error


def _store(response: Response, part: Path, have: int, total: int | None, remote: Remote) -> None:
    """Write an answer behind the first ``have`` bytes of ``part``."""
    with (
        part.open("r+b" if have else "wb") as file,
        tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=remote.name, disable=None) as bar,
    ):
        file.seek(have)
        file.truncate()
        _copy(response, file, have, total, remote.begins, bar)


def _copy(response: Response, file: BinaryIO, have: int, total: int | None, begins: bytes, bar: tqdm) -> None:
    for chunk in _chunks(response):
        if have == 0 and begins and not chunk.startswith(begins):
            page = chunk.lstrip()[:1] == b"<"
            raise SourceError(WEB_PAGE if page else f"what it gives does not begin like such a file ({chunk[:8]!r})")
        have += len(chunk)
        if have > (UNBOUNDED if total is None else total):
            raise SourceError(f"it sends more than {UNBOUNDED if total is None else total} bytes, which it should not")
        file.write(chunk)
        bar.update(len(chunk))
    if total is not None and have < total:
        raise CutError(CUT)


def _chunks(response: Response) -> Iterator[bytes]:
    """The body, unpacked where it was packed on the way, with what the network did to it as :class:`CutError`."""
    import requests
    import urllib3

    try:
        while chunk := response.raw.read1(CHUNK, decode_content=True):  # a stall loses nothing of what has come
            yield chunk
    except (urllib3.exceptions.ReadTimeoutError, TimeoutError) as error:
        raise CutError("stalled: no byte came for too long") from error
    except urllib3.exceptions.IncompleteRead as error:
        raise CutError(CUT) from error
    except (urllib3.exceptions.HTTPError, requests.exceptions.RequestException, OSError) as error:
        short = any(isinstance(cause, urllib3.exceptions.IncompleteRead) for cause in error.args)  # wrapped, with its numbers
        raise CutError(CUT if short else f"{CUT} ({reason(error)})") from error


def _identity(remote: Remote, response: Response, total: int | None) -> dict[str, object]:
    """What a part is part of: its hash where known, else what the server calls this version of the file."""
    tag = "" if remote.sha256 else response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    return {"url": remote.url, "sha256": remote.sha256, "tag": tag, "size": remote.size or total}


def _same(part: Path, remote: Remote, identity: dict[str, object] | None = None) -> bool:
    """Whether what has come is of this file, as far as its note tells, and what the server says of it now."""
    try:
        note = json.loads(_note(part).read_text())
    except (OSError, ValueError):
        return False
    if remote.sha256 or identity is None:
        return note.get("sha256") == remote.sha256 and (bool(remote.sha256) or note.get("url") == remote.url)
    return note == identity


def _verify(remote: Remote, part: Path) -> None:
    if remote.sha256 and sha256(part) != remote.sha256:
        _forget(part)
        raise SourceError(f"what came has another SHA-256 than the listed {remote.sha256[:12]}…, and was thrown away")
