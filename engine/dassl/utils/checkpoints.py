"""Checkpoints: tensors and plain values only are written, and only such are read; nothing in a file is ever executed."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import random
import shutil
import struct
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import nn

from dassl.utils import inert
from dassl.utils.errors import MissingFileError, UserError
from dassl.utils.tools import atomic, mkdir_if_missing

log = logging.getLogger(__name__)

# What reading a damaged file can raise, depending on PyTorch's version and on where the damage is
DAMAGE = (
    *(RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError),
    *(MemoryError, pickle.UnpicklingError, struct.error),
)

ENOUGH = 1 << 20  # free bytes: where there are fewer, a writing that failed is a full disk's
LEGACY_NUMBER = b"\x8a\nl\xfc\x9cF\xf9"  # the pickled number that torch.save's older format begins with
STARTS = (
    (b"version https://git-lfs", "a Git LFS pointer: git lfs pull gets the file itself"),
    (b"<!doctype html", "a web page: the download went wrong"),
    (b"<html", "a web page: the download went wrong"),
    (b"\x1f\x8b", "compressed with gzip: unpack it"),
)


def rng_state() -> dict[str, Any]:
    """The state of every random source, as tensors and plain values."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, [int(key) for key in keys], int(position), int(has_gauss), float(cached)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore what :func:`rng_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.asarray(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])


def save_checkpoint(
    state: dict[str, Any],
    save_dir: str,
    is_best: bool = False,
    remove_module_from_keys: bool = True,
    model_name: str = "",
) -> str:
    """Write ``model.pth.tar-<epoch>`` (or ``model_name``) whole or not at all; returns its path.

    Args:
        state: has ``state_dict``, ``epoch`` and, for resuming, ``optimizer``, ``scheduler``, ``val_result``.
        is_best: also keep it as ``model-best.pth.tar``.
        remove_module_from_keys: drop ``nn.DataParallel``'s prefix from the names of the tensors.
    """
    mkdir_if_missing(save_dir)
    if remove_module_from_keys:
        weights = state["state_dict"]
        state["state_dict"] = OrderedDict((key.removeprefix("module."), value) for key, value in weights.items())
    path = os.path.join(save_dir, model_name or f"model.pth.tar-{state['epoch']}")
    _save(state, path)
    with atomic(os.path.join(save_dir, "checkpoint")) as temporary, open(temporary, "w") as file:
        file.write(f"{os.path.basename(path)}\n")  # what a run is resumed from: whatever was saved last
    log.info("Checkpoint saved to %s", path)
    if is_best:
        best = os.path.join(save_dir, "model-best.pth.tar")
        _save(state, best)
        log.info('Best checkpoint saved to "%s"', best)
    return path


def _save(state: dict[str, Any], path: str) -> None:
    with atomic(path) as temporary:
        try:
            torch.save(plain(state), temporary)
        except RuntimeError as error:  # PyTorch's writer does not pass on what the system said
            if shutil.disk_usage(os.path.dirname(path) or ".").free > ENOUGH:
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path) from error


def plain(value: Any) -> Any:
    """``value`` with NumPy's scalars as Python's, which a checkpoint may hold, in nested dictionaries and lists too."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (dict, OrderedDict):
        return type(value)((key, plain(item)) for key, item in value.items())
    return type(value)(plain(item) for item in value) if type(value) in (list, tuple) else value


def load_checkpoint(fpath: str) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; nothing in it is ever executed.

    What is pickled in it besides tensors, numbers and plain containers (upstream's schedule, say) is not read: a
    :class:`dassl.utils.inert.Unread` stands in its place, and the log names it.

    Raises:
        MissingFileError: no such file.
        UserError: no checkpoint (what it is instead), one that is cut off, or one that is a pickled object as a whole.
    """
    if not fpath or not os.path.exists(fpath):
        raise MissingFileError(f'no checkpoint file "{fpath}"')
    try:
        with warnings.catch_warnings():  # of protocols and TorchScript: if it matters, the error below says so
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(fpath, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except (*DAMAGE, OSError) as error:  # of PyTorch's mapping of a file that is cut off, too
        kind = foreign(fpath)
        if kind:
            raise UserError(f"{fpath} is no checkpoint but {kind}") from error
    try:
        # PyTorch calls nothing of the module but its Unpickler and its load()
        state = torch.load(fpath, map_location="cpu", weights_only=False, pickle_module=inert)
    except (*DAMAGE, OSError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise UserError(f"{fpath} begins as a checkpoint does and cannot be read to its end ({reason})") from error
    if isinstance(state, inert.Unread):
        raise UserError(f"{fpath} is a pickled {state.origin}, not its tensors: save its state_dict() instead")
    left = ", ".join(f"{where} ({what})" for where, what in list(inert.unread(state))[:3])
    if left:
        log.info("Not read from %s, as they are pickled objects: %s", fpath, left)
    return state


def foreign(fpath: str) -> str:
    """What a file is that ``torch.save`` did not write, and what to do with it; empty where it looks as if it had."""
    if os.path.isdir(fpath):
        return "a folder"
    with open(fpath, "rb") as file:
        head = file.read(512)
    if head.startswith(b"PK"):
        return _foreign_zip(fpath)
    for start, what in STARTS:
        if head.lstrip()[: len(start)].lower() == start:
            return what
    if not head:
        return "an empty file"
    if 0 < int.from_bytes(head[:8], "little") < os.path.getsize(fpath) and head[8:9] == b"{":
        return "a safetensors file: read it with safetensors.torch.load_file"
    if tarfile.is_tarfile(fpath):
        return "a tar archive: unpack it, or save it anew if PyTorch before 0.1.10 wrote it"
    if LEGACY_NUMBER in head[:24]:
        return ""
    return "a pickle that torch.save did not write" if head.startswith(b"\x80") else "something that torch.save did not write"


def _foreign_zip(fpath: str) -> str:
    try:
        if not zipfile.is_zipfile(fpath):
            return "the beginning of one: the zip archive is cut off, so get it again"
        with zipfile.ZipFile(fpath) as archive:
            names = [name.rpartition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, *DAMAGE):
        return "a zip archive with a broken table of contents: get it again"
    if "constants.pkl" in names:
        return "a TorchScript archive: it is a program, which torch.jit.load would run"
    if "data.pkl" in names:
        return ""
    return "a NumPy archive" if any(name.endswith(".npy") for name in names) else "a zip archive of something else"


def load_pretrained_weights(model: nn.Module, weight_path: str) -> None:
    """Load the tensors whose name and shape fit; says which were left out.

    Raises:
        UserError: no tensor fits (upstream warns, and trains on the model's random weights).
    """
    state = load_checkpoint(weight_path)
    weights = state.get("state_dict", state)
    own = model.state_dict()
    matched, discarded = OrderedDict(), []
    for key, value in weights.items():
        key = key.removeprefix("module.")
        if key in own and isinstance(value, torch.Tensor) and own[key].shape == value.shape:
            matched[key] = value
        else:
            discarded.append(key)
    if not matched:
        raise UserError(f'no tensor in "{weight_path}" fits the model')
    own.update(matched)
    model.load_state_dict(own)
    log.info("Successfully loaded pretrained weights from %s", weight_path)
    if discarded:
        log.info("Layers discarded due to unmatched keys or size: %s", discarded)
