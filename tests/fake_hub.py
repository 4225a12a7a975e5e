"""A server of files that can misbehave: Hugging Face's addresses, Drive's, or plain ones."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.fake_uploads import Uploads


@dataclass
class Served:
    """A file of the server, and what is wrong with it.

    Attributes:
        data: the bytes.
        cut: how many requests for it end early, after ``after`` bytes.
        stall: how many stop there without closing.
        status: the answer's status, 200 for a good one.
        announced: the length that headers name, where it is a lie.
        listed_size, listed_hash: of the hub's listing, where they are lies.
        ranges: whether the server goes on where it is asked to.
        elsewhere: the answer names a place on another host, as the hub does for large files.
        chunked: the length is not announced.
        packed: gzip on the way, even where that was not asked for.
        tag: of a plain server.
        commit: under which the hub has it too.
        gets: the first byte that each GET asked for.
        users: who asked, by host.
    """

    data: bytes
    cut: int = 0
    stall: int = 0
    after: int = 0
    status: int = 200
    announced: int | None = None
    listed_size: int | None = None
    listed_hash: str | None = None
    ranges: bool = True
    elsewhere: bool = False
    chunked: bool = False
    packed: bool = False
    kind: str = "application/zip"
    tag: str = '"one"'
    commit: str = "1" * 40
    gets: list[int] = field(default_factory=list)
    users: set[tuple[str, str]] = field(default_factory=set)

    @property
    def sha256(self) -> str:
        return self.listed_hash or hashlib.sha256(self.data).hexdigest()


class FakeHub:
    """``files`` by path (of the address); ``url`` of the server."""

    def __init__(self, url: str, files: dict[str, Served], uploads: Uploads | None = None) -> None:
        self.url = url
        self.files = files
        self.uploads = uploads or Uploads()

    def replaces_the_hub(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """For the hub library in this process, as HF_ENDPOINT does it for another one."""
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{self.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def dataset(self, name: str, served: Served, repository: str = "TahaKoleilat/BiomedCoOp") -> Served:
        self.files[f"/datasets/{repository}/resolve/main/{name}.zip"] = served
        return served

    def plain(self, name: str, served: Served) -> Served:
        self.files[f"/mirror/{name}.zip"] = served
        return served

    def model(
        self, repository: str, folder: Path, names: list[str], dataset: bool = False, revision: str = "main", commit: str = ""
    ) -> None:
        """Serve these files of a folder as a repository."""
        for name in names:
            place = f"/{'datasets/' if dataset else ''}{repository}/resolve/{revision}/{name}"
            self.files[place] = Served((folder / name).read_bytes(), commit=commit or "1" * 40)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: dict[str, Served]
    uploads: Uploads
    closing: threading.Event

    def log_message(self, *words: Any) -> None:
        return

    def _file(self) -> Served | None:
        from urllib.parse import unquote

        path = unquote(self.path)
        return self.files.get(path) or self._of_commit(path)

    def _of_commit(self, path: str) -> Served | None:
        """A file that is asked for by its commit and not by the branch's name."""
        asked = re.search("/resolve/([0-9a-f]{40})/", path)
        for place, served in self.files.items() if asked else ():
            if served.commit == asked[1] and re.sub("/resolve/[^/]+/", asked[0], place) == path:
                return served
        return None

    def _json(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refused(self) -> bool:
        """Whether the API's answer is no, and was given."""
        status = next((code for part, code in self.uploads.refuses.items() if part in self.path), 0)
        if status:
            self._json(status, {"error": "refused by the fake"})
        return bool(status)

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._refused():
            self._json(200, self.uploads.answer(self.path.partition("?")[0], body))

    def _elsewhere(self, served: Served) -> bool:
        """Whether the answer is that the file lies on another host, and was given."""
        host, _, port = self.headers["Host"].partition(":")
        served.users.add((host, self.headers.get("Authorization", "")))
        if served.elsewhere and host != "localhost":
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{port}{self.path}")
            self._listing(served)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return True
        return False

    def _listing(self, served: Served) -> None:
        self.send_header("X-Repo-Commit", served.commit)
        self.send_header("X-Linked-Etag", f'"{served.sha256}"')
        self.send_header("X-Linked-Size", str(len(served.data) if served.listed_size is None else served.listed_size))

    def _absent(self) -> None:
        self.send_response(404)
        if "/resolve/" in self.path:
            self.send_header("X-Error-Code", self._what_is_absent())
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _what_is_absent(self) -> str:
        repository, _, rest = self.path.partition("/resolve/")
        start = f"{repository}/resolve/"
        commits = {
            place.removeprefix(start).rpartition("/")[0]: served.commit
            for place, served in self.files.items()
            if place.startswith(start)
        }
        if not commits:
            return "RepoNotFound"
        return "EntryNotFound" if rest.rpartition("/")[0] in {*commits, *commits.values()} else "RevisionNotFound"

    def do_HEAD(self) -> None:  # noqa: N802
        served = self._file()
        if served is None:
            return self._absent()
        if self._elsewhere(served):
            return None
        self.send_response(200)
        self._listing(served)
        self.send_header("Content-Length", str(len(served.data)))
        self.end_headers()

    def do_GET(self) -> None:  # noqa: N802
        if self.path.startswith("/api/whoami"):
            return None if self._refused() else self._json(200, {"name": "somebody", "type": "user"})
        served = self._file()
        if served is None:
            return self._absent()
        if self._elsewhere(served):
            return None
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        served.gets.append(start)
        total = len(served.data) if served.announced is None else served.announced
        start = start if served.ranges else 0
        body = served.data[start:]
        if served.status != 200:
            self.send_response(served.status)
            body, total = b"", start
        elif start:
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", served.kind)
        self.send_header("ETag", served.tag)
        if served.packed:
            body = gzip.compress(body, 1)
            self.send_header("Content-Encoding", "gzip")
        if served.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in _pieces(body)) + b"0\r\n\r\n"
        else:
            self.send_header("Content-Length", str(len(body) if served.packed else total - start))
        self.end_headers()
        if served.cut or served.stall:
            self.wfile.write(body[: served.after])
            self.wfile.flush()
            if served.stall:
                served.stall -= 1
                self.closing.wait(20)
            else:
                served.cut -= 1
            self.close_connection = True
            return
        with contextlib.suppress(ConnectionError):  # a client that has seen enough goes away
            self.wfile.write(body)
        self.close_connection = True


def _pieces(body: bytes, size: int = 1000) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has seen enough goes away; what it then says is looked at, not what this side does."""


@contextlib.contextmanager
def serving() -> Iterator[FakeHub]:
    """A server on this machine, until the block is left."""
    handler = type("Handler", (_Handler,), {"files": {}, "uploads": Uploads(), "closing": threading.Event()})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield FakeHub(f"http://127.0.0.1:{server.server_port}", handler.files, handler.uploads)
    finally:
        handler.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def zipped(folder: Path, archive: Path, prefix: str = "") -> bytes:
    """The files of a folder as a zip archive; its bytes."""
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                packed.write(path, prefix + path.relative_to(folder).as_posix())
    return archive.read_bytes()


def whole(root: Path, images: int = 24) -> bool:
    """Whether BTMRI lies below ``root/data`` with every image of its split."""
    folder = root / "data" / "BTMRI"
    rows = [row[0] for part in json.loads((folder / "split_BTMRI.json").read_text()).values() for row in part]
    return len(rows) == images and all((folder / "BTMRI" / row).is_file() for row in rows)


def left(root: Path) -> list[str]:
    """What lies in the root of the data."""
    return sorted(path.name for path in (root / "data").iterdir())
