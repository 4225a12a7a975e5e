"""Encoded rows on disk: what one run encoded, every other run on the same frozen tower reads.

A *space* is one way of encoding (weights, visual prompt, transform, precision). It is a folder of *segments*: safetensors
files with the rows (n, D), their keys (n, 32) and a checksum. A segment is written under a temporary name and renamed,
and never changed afterwards, so a writer that is killed leaves nothing that a reader could take for a row.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dassl.utils import NotFiniteError, UserError, write_json

log = logging.getLogger(__name__)

ENVIRONMENT = "BIOMED_DPT_CACHE"  # another folder than ~/.cache/biomed-dpt
ABOUT, SUFFIX = "space.json", ".safetensors"
KEY_BYTES = 32
CHUNK = 512  # rows that are computed under one lock and written together: what a killed run loses at most


def default_root() -> Path:
    """Where features are kept unless FEATURES.ROOT says otherwise."""
    return Path(os.environ.get(ENVIRONMENT) or "~/.cache/biomed-dpt").expanduser() / "features"


def digest(*parts: str | bytes) -> bytes:
    """The key of one row: SHA-256 over its parts, each with its length in front."""
    total = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        total.update(len(raw).to_bytes(8, "big") + raw)
    return total.digest()


class Space:
    """The rows of one way of encoding.

    Args:
        root: folder of all spaces.
        about: what decides the rows; its hash names the space, and it is kept in ``space.json`` for people.
    """

    def __init__(self, root: Path, about: Mapping[str, Any]) -> None:
        name = digest(json.dumps(about, sort_keys=True)).hex()[:20]
        self.folder = Path(root) / name
        self.about = dict(about)
        self._rows: dict[bytes, tuple[str, int]] = {}
        self._read: dict[str, Tensor] = {}
        self._known: set[str] = set()
        self._full = False  # whether the disk refused rows, and that was said

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Tensor]:
        """The rows (D,) that are there; what another process added since the last look is seen."""
        if any(key not in self._rows for key in keys):
            self._scan()
        return {key: self._row(key) for key in keys if key in self._rows}

    def put(self, keys: Sequence[bytes], rows: Tensor) -> None:
        """Add rows (n, D) float32.

        Raises:
            ValueError: a number of keys other than n.
            NotFiniteError: rows that are infinite or NaN.
        """
        if rows.ndim != 2 or len(keys) != len(rows):
            raise ValueError(f"{len(keys)} keys for rows of shape {tuple(rows.shape)}")
        if not torch.isfinite(rows).all():
            raise NotFiniteError("features that are infinite or NaN: encode in full precision (PREC fp32 or bf16)")
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / ABOUT).is_file():
            write_json(self.about, str(self.folder / ABOUT))
        rows = rows.contiguous()
        packed = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).view(-1, KEY_BYTES)
        name = uuid.uuid4().hex + SUFFIX
        temporary = self.folder / f".{name}.{os.getpid()}"
        try:
            save_file({"keys": packed, "rows": rows}, temporary, metadata={"checksum": checksum(packed, rows)})
            os.replace(temporary, self.folder / name)
        finally:
            temporary.unlink(missing_ok=True)
        self._known.add(name)
        self._take(name, list(keys), rows)

    def fetch(self, keys: Sequence[bytes], compute: Callable[[Sequence[int]], Tensor]) -> Tensor:
        """The rows (n, D) of ``keys``; those that are not there are computed and kept.

        Args:
            compute: positions among ``keys`` -> their rows (m, D). Called for one part at a time, under the lock.
        """
        found = self.get(keys)
        for start in range(0, len(keys), CHUNK):
            part = keys[start : start + CHUNK]
            if all(key in found for key in part):
                continue
            with self.filling():
                found |= self.get(part)  # another process may have computed them while this one waited
                absent = {key: start + place for place, key in enumerate(part) if key not in found}
                if absent:
                    rows = compute(list(absent.values()))
                    self._keep(list(absent), rows)
                    found |= dict(zip(absent, rows, strict=True))
        return torch.stack([found[key] for key in keys])

    def _keep(self, keys: Sequence[bytes], rows: Tensor) -> None:
        """:meth:`put`; where the disk takes no more, say so and go on: the rows are at hand."""
        try:
            self.put(keys, rows)
        except (OSError, SafetensorError) as error:
            if not self._full:
                log.warning("%s: features are not kept, later runs encode them again (%s)", self.folder, error)
            self._full = True

    @contextmanager
    def filling(self) -> Iterator[None]:
        """One process at a time encodes for a space: a second one waits, then finds the rows there.

        Raises:
            UserError: the folder cannot be written to. On a full disk there is no lock, and no row is kept.
        """
        lock = FileLock(self.folder / ".lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f"{self.folder.parent} cannot be written to ({error.strerror}): name another folder for features, "
                    f"FEATURES.ROOT or {ENVIRONMENT}, or take FEATURES.MODE direct"
                ) from error
        try:
            yield
        finally:
            lock.release()

    def _scan(self) -> None:
        for path in sorted(self.folder.glob(f"[!.]*{SUFFIX}")):
            if path.name not in self._known:
                self._known.add(path.name)
                try:
                    keys, rows = read_segment(path)
                except DamagedSegment as error:
                    log.warning("%s: left out and encoded again", error)
                    continue
                _mark_read(path)
                self._take(path.name, keys, rows)

    def _take(self, name: str, keys: list[bytes], rows: Tensor) -> None:
        self._read[name] = rows
        self._rows.update((key, (name, number)) for number, key in enumerate(keys))

    def _row(self, key: bytes) -> Tensor:
        name, number = self._rows[key]
        return self._read[name][number]


def _mark_read(path: Path) -> None:
    """Set the time of the last read, which many file systems do not keep; whether it can be set does not matter."""
    with suppress(OSError):
        os.utime(path, (time.time(), path.stat().st_mtime))


class DamagedSegment(Exception):
    """A file that is cut short or whose contents do not fit its checksum."""


def checksum(keys: Tensor, rows: Tensor) -> str:
    """SHA-256 over keys and rows."""
    total = hashlib.sha256(keys.numpy().tobytes())
    total.update(rows.numpy().data)
    return total.hexdigest()


def read_segment(path: Path) -> tuple[list[bytes], Tensor]:
    """Keys and memory-mapped rows (n, D) of a segment.

    Raises:
        DamagedSegment: cut short, or contents that do not fit the checksum.
    """
    try:
        with safe_open(path, framework="pt") as file:
            keys, rows = file.get_tensor("keys"), file.get_tensor("rows")
            wanted = (file.metadata() or {}).get("checksum")
    except (SafetensorError, OSError) as error:
        raise DamagedSegment(f"{path} cannot be read ({' '.join(str(error).split())[:80]})") from error
    if (
        keys.ndim != 2
        or keys.shape[1] != KEY_BYTES
        or keys.dtype != torch.uint8
        or rows.ndim != 2
        or rows.dtype != torch.float32
    ):
        raise DamagedSegment(
            f"{path} is a segment of another form: keys {tuple(keys.shape)}, rows {tuple(rows.shape)} {rows.dtype}"
        )
    if len(keys) != len(rows) or checksum(keys, rows) != wanted:
        raise DamagedSegment(f"{path} does not fit its checksum")
    raw = keys.numpy().tobytes()
    return [raw[start : start + KEY_BYTES] for start in range(0, len(raw), KEY_BYTES)], rows


# -- the store as a whole ---------------------------------------------------------------------------------


def spaces(root: Path) -> list[dict[str, Any]]:
    """What is there: folder, about, segments, bytes, seconds since the last use, of each space."""
    found = []
    for folder in sorted(p for p in Path(root).glob("*") if (p / ABOUT).is_file()):
        segments = [p for p in folder.glob(f"[!.]*{SUFFIX}")]
        found.append(
            {
                "folder": folder,
                "about": _about(folder / ABOUT),
                "segments": len(segments),
                "bytes": sum(p.stat().st_size for p in segments),
                "used": max((p.stat().st_atime for p in segments), default=0.0),
            }
        )
    return found


def _about(path: Path) -> dict[str, Any]:
    """What a space is, for people; the rows are found without it."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        about = None
    return about if isinstance(about, dict) else {"kind": f"no readable {ABOUT}"}


def verify(root: Path, remove: bool = False) -> list[str]:
    """Read every segment; the damaged ones, in words. With ``remove`` they are deleted."""
    faults = []
    for space in spaces(root):
        for path in sorted(space["folder"].glob(f"[!.]*{SUFFIX}")):
            try:
                read_segment(path)
            except DamagedSegment as error:
                faults.append(str(error))
                if remove:
                    path.unlink(missing_ok=True)
    return faults


def prune(root: Path, max_bytes: int) -> list[Path]:
    """Remove the spaces that were read longest ago until the rest fits ``max_bytes``; what was removed."""
    there = sorted(spaces(root), key=lambda space: space["used"])
    total, removed = sum(space["bytes"] for space in there), []
    for space in there:
        if total <= max_bytes:
            break
        with FileLock(space["folder"] / ".lock"):
            for path in space["folder"].glob(f"*{SUFFIX}*"):
                path.unlink(missing_ok=True)
            shutil.rmtree(space["folder"], ignore_errors=True)
        total -= space["bytes"]
        removed.append(space["folder"])
    return removed
