"""A server of files that can misbehave: Hugging Face's addresses, Drive's, or plain ones."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


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
        tag: of a plain server.
        gets: the first byte that each GET asked for.
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
    kind: str = "application/zip"
    tag: str = '"one"'
    gets: list[int] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        return self.listed_hash or hashlib.sha256(self.data).hexdigest()


class FakeHub:
    """``files`` by path (of the address); ``url`` of the server."""

    def __init__(self, url: str, files: dict[str, Served]) -> None:
        self.url = url
        self.files = files

    def dataset(self, name: str, served: Served, repository: str = "TahaKoleilat/BiomedCoOp") -> Served:
        self.files[f"/datasets/{repository}/resolve/main/{name}.zip"] = served
        return served

    def plain(self, name: str, served: Served) -> Served:
        self.files[f"/mirror/{name}.zip"] = served
        return served

    def model(self, repository: str, folder: Path, names: list[str], dataset: bool = False) -> None:
        """Serve these files of a folder as a repository."""
        for name in names:
            place = f"/{'datasets/' if dataset else ''}{repository}/resolve/main/{name}"
            self.files[place] = Served((folder / name).read_bytes())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: dict[str, Served]
    closing: threading.Event

    def log_message(self, *words: Any) -> None:
        return

    def _file(self) -> Served | None:
        from urllib.parse import unquote

        return self.files.get(unquote(self.path))

    def _absent(self) -> None:
        self.send_response(404)
        if "/resolve/" in self.path:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:  # noqa: N802
        served = self._file()
        if served is None:
            return self._absent()
        self.send_response(200)
        self.send_header("X-Repo-Commit", "1" * 40)
        self.send_header("X-Linked-Etag", f'"{served.sha256}"')
        self.send_header("X-Linked-Size", str(len(served.data) if served.listed_size is None else served.listed_size))
        self.send_header("Content-Length", str(len(served.data)))
        self.end_headers()

    def do_GET(self) -> None:  # noqa: N802
        served = self._file()
        if served is None:
            return self._absent()
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
        self.send_header("Content-Length", str(total - start))
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
        self.close_connection = total - start != len(body)


@contextlib.contextmanager
def serving() -> Iterator[FakeHub]:
    """A server on this machine, until the block is left."""
    handler = type("Handler", (_Handler,), {"files": {}, "closing": threading.Event()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield FakeHub(f"http://127.0.0.1:{server.server_port}", handler.files)
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
