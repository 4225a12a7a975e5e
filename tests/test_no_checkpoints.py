"""Files that are no checkpoints, or broken ones: each is called what it is, in a line."""

from __future__ import annotations

import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dassl import utils
from dassl.utils import UserError
from tests.test_upstream_checkpoints import upstream_schedule


def write_tar(path: Path) -> None:
    (path.parent / "inside").write_text("x")
    with tarfile.open(path, "w") as archive:
        archive.add(path.parent / "inside")


def cut(path: Path, **how: object) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1000)}}, path, **how)
    path.write_bytes(path.read_bytes()[:2000])


OTHERS = {
    "a folder": lambda path: path.mkdir(),
    "an empty file": lambda path: path.touch(),
    "the beginning of one: the zip archive is cut off": cut,
    "a TorchScript archive": lambda path: torch.jit.script(nn.Linear(1, 1)).save(str(path)),
    "a safetensors file": lambda path: save_file({"a": torch.zeros(3)}, path),
    "a tar archive": write_tar,
    "a NumPy archive": lambda path: np.savez(path.open("wb"), a=np.zeros(3)),
    "a pickle that torch.save did not write": lambda path: path.write_bytes(b"\x80\x04]."),
    "something that torch.save did not write": lambda path: path.write_bytes(bytes(range(256))),
    "a Git LFS pointer": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "a web page": lambda path: path.write_text("\n<!DOCTYPE html><html><body>404</body></html>"),
    "compressed with gzip": lambda path: path.write_bytes(b"\x1f\x8b\x08\x00rest"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit
@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_checkpoint_is_called_what_it_is(kind: str, tmp_path: Path, recwarn) -> None:
    path = tmp_path / "model.pth.tar-5"
    OTHERS[kind](path)
    recwarn.clear()
    with pytest.raises(UserError, match=f"model.pth.tar-5 is no checkpoint but {kind}") as caught:
        utils.load_checkpoint(str(path))
    assert "\n" not in str(caught.value) and "damaged" not in str(caught.value) and not recwarn.list


def test_a_legacy_file_that_ends_too_soon(tmp_path: Path) -> None:
    cut(tmp_path / "file", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match="file begins as a checkpoint does and cannot be read to its end"):
        utils.load_checkpoint(str(tmp_path / "file"))


def with_pickle(source: Path, target: Path, change: Callable[[bytes], bytes]) -> None:
    """A zip checkpoint whose pickle is ``change(pickle)``, with a checksum that is right."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry.filename, change(data) if entry.filename.endswith("/data.pkl") else data)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_file_with_wrong_bytes_is_read_or_refused(tmp_path: Path) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(3))], lr=0.1)
    whole, path, rng, refused = tmp_path / "whole", tmp_path / "file", random.Random(0), 0
    schedule = upstream_schedule(optimizer, 3, 6, 1)
    torch.save({"state_dict": {"a": torch.zeros(3)}, "epoch": 3, "scheduler": schedule}, whole)

    def broken(data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 4))):
            changed[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(changed)

    for number in range(300):
        if number % 3:
            with_pickle(whole, path, broken)
        else:
            path.write_bytes(broken(whole.read_bytes()))
        try:
            utils.load_checkpoint(str(path))
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert 30 < refused < 300
