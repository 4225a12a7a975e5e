"""A row of the table, and what can lie in its folder before the command is called."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Fault:
    """What is wrong, how it is called, and how that must end.

    Attributes:
        kind: of fault, as docs/RELIABILITY.md counts them.
        input: what is wrong, in words.
        command: program and arguments as a shell reads them, in the row's own folder; ``{…}`` are of :mod:`.world`.
            ``$ …`` is a line for bash, which runs in processes of its own.
        line: words of the one line that is said.
        code: exit status.
        given: path in the folder -> text, bytes, or an object with ``put(path, world)``.
        leaves: globs of what a refused command may leave.
        silent: code 0 or 3 and no "error: " line is wanted, ``line`` among whatever is printed.
    """

    kind: str
    input: str
    command: str
    line: str
    code: int = 2
    given: Mapping[str, Any] = field(default_factory=dict)
    leaves: tuple[str, ...] = ()

    @property
    def program(self) -> str:
        """``train.py``, ``datasets.check``, or of a shell line the first script in it."""
        first, *rest = self.command.split()
        if first == "$":
            return next((word for word in rest if word.endswith(".sh")), "bash").replace("{repo}/", "")
        return rest[0] if first == "-m" else first

    def __str__(self) -> str:
        return f"{self.program}-{self.kind}-{self.input}".replace(" ", "_")


@dataclass(frozen=True)
class Made:
    """Something made by a function of (path, folder of the world)."""

    put: Callable[[Path, Path], object]


FOLDER = Made(lambda path, _: path.mkdir(parents=True))
FIFO = Made(lambda path, _: os.mkfifo(path))


def link(target: str) -> Made:
    """A symbolic link, relative to its folder."""
    return Made(lambda path, _: path.symlink_to(target))


def sealed(content: Any = "x", mode: int = 0) -> Made:
    """A file or folder that nobody may read, or with another mode."""

    def make(path: Path, world: Path) -> None:
        put(path, content, world)
        path.chmod(mode)

    return Made(make)


def lent(what: str) -> Made:
    """A copy of a file or folder of the world."""
    return Made(lambda path, world: (shutil.copytree if (world / what).is_dir() else shutil.copy)(world / what, path))


def run(results: Any = None, config: Any = None, **files: Any) -> Made:
    """A copy of the world's finished run with changed files.

    Args:
        results, config: a mapping is merged into the file (dotted keys; ``None`` removes one), a text or bytes replaces it.
        files: other files, ``__`` in a name stands for "/" and "_dot_" for ".".
    """

    def make(path: Path, world: Path) -> None:
        shutil.copytree(world / "finished", path)
        for name, change in (("results.json", results), ("config.yaml", config)):
            file = path / name
            if isinstance(change, Mapping):
                read, write = (json.loads, json.dumps) if name.endswith("json") else (yaml.safe_load, yaml.safe_dump)
                file.write_text(write(merged(read(file.read_text()), change)))
            elif change is not None:
                put(file, change, world)
        for name, content in files.items():
            file = path / name.replace("__", "/").replace("_dot_", ".")
            if file.exists():
                file.unlink()
            put(file, content, world)

    return Made(make)


def merged(record: Any, changes: Mapping[str, Any]) -> Any:
    """``record`` with dotted keys set, or removed where the value is ``None``."""
    for key, value in changes.items():
        *above, last = key.split(".")
        node = record
        for part in above:
            node = node[part]
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
    return record


def put(path: Path, content: Any, world: Path) -> None:
    """Make one thing of a row's ``given``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8", errors="surrogateescape")
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content.put(path, world)
