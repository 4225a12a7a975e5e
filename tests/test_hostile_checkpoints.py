"""A checkpoint that was made to run code runs none, by whatever opcode it asks; each would, read in the usual way."""

from __future__ import annotations

import copyreg
import io
import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dassl import utils
from dassl.utils import UserError, inert
from dassl.utils.checkpoints import LEGACY_NUMBER

EXTENSION = 201  # a number of the registry that copyreg keeps for private use


def text(value: str) -> bytes:
    """A string on the stack."""
    raw = value.encode()
    return b"X" + len(raw).to_bytes(4, "little") + raw


class Ways:
    """Pickles that make the folder ``trace``, each by another opcode. They end in a dictionary, as a checkpoint is one."""

    def __init__(self, trace: str) -> None:
        self.call = text(trace)  # what os.mkdir is called with

    def all(self) -> dict[str, bytes]:
        call, one = self.call, self.call + b"\x85"  # the string, and a tuple of it
        named = b"cos\nmkdir\n"
        opener = b"cio\nFileIO\n" + call + text("w") + b"\x86"
        return {
            "GLOBAL and REDUCE": named + one + b"R",
            "STACK_GLOBAL": text("os") + text("mkdir") + b"\x93" + one + b"R",
            "STACK_GLOBAL with dots": text("os") + text("path.os.mkdir") + b"\x93" + one + b"R",
            "INST": b"(" + call + b"ios\nmkdir\n",
            "OBJ": b"(" + named + call + b"o",
            "NEWOBJ": b"ctests.test_hostile_checkpoints\nMakes\n" + one + b"\x81",
            "NEWOBJ_EX": b"ctests.test_hostile_checkpoints\nMakes\n)}" + text("path") + call + b"s\x92",
            "EXT1": b"\x82" + EXTENSION.to_bytes(1, "little") + one + b"R",
            "EXT2": b"\x83" + EXTENSION.to_bytes(2, "little") + one + b"R",
            "EXT4": b"\x84" + EXTENSION.to_bytes(4, "little") + one + b"R",
            "BUILD": b"ctests.test_hostile_checkpoints\nMakes\n)\x81" + call + b"b",
            "inside a state": b"ccollections\nOrderedDict\n)R}" + text("_metadata") + named + one + b"Rsb",
            "inside an argument": b"ccollections\nOrderedDict\n]" + text("k") + named + one + b"R\x86a\x85R",
            "inside a placeholder's": b"ctests.test_hostile_checkpoints\nPlain\n)R}" + text("k") + named + one + b"Rsb",
            "an import": b"cimported_by_a_checkpoint\nthing\n",
            "a file": opener + b"R",
            "APPENDS": b"ctests.test_hostile_checkpoints\nMakes\n)\x81(" + call + b"e",
            "SETITEM": b"ctests.test_hostile_checkpoints\nMakes\n)\x81" + call + b"Ns",
            "ADDITEMS": b"ctests.test_hostile_checkpoints\nMakes\n)\x81(" + call + b"\x90",
        }


class Plain:
    """Something that does nothing when it is made."""


class Makes:
    """Something that an unpickler can make act in many ways."""

    def __new__(cls, path: str = "") -> Makes:
        if path:
            os.mkdir(path)
        return super().__new__(cls)

    def __setstate__(self, path: str) -> None:
        os.mkdir(path)

    def __setitem__(self, path: str, value: object) -> None:
        os.mkdir(path)

    append = add = lambda self, path: os.mkdir(path)


NAMES = list(Ways("").all())


def as_file(body: bytes, path: Path, legacy: bool) -> None:
    """A checkpoint, {"state_dict": {"a": 1.0}, "epoch": 1, "x": what the opcodes of ``body`` leave}."""
    head = b"}(" + text("state_dict") + b"}" + text("a") + b"G?\xf0" + bytes(6) + b"s" + text("epoch") + b"K\x01" + text("x")
    whole = b"\x80\x04" + head + body + b"u."
    made = io.BytesIO()
    torch.save({}, made, _use_new_zipfile_serialization=not legacy)
    if legacy:
        assert LEGACY_NUMBER in made.getvalue()
        # number, version and machine come first; the content and the keys of its storages end the file
        stream, ends = io.BytesIO(made.getvalue()), []
        while stream.tell() < len(made.getvalue()):
            pickle.load(stream)
            ends.append(stream.tell())
        path.write_bytes(made.getvalue()[: ends[2]] + whole + made.getvalue()[ends[3] :])
        return
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, whole if entry.filename.endswith("/data.pkl") else old.read(entry))


@pytest.fixture
def traces(tmp_path: Path, monkeypatch) -> Callable[[], list[str]]:
    """What a pickle that ran has left: the folder or file ``trace``, or that of a module that was imported."""
    left = [tmp_path / "trace", tmp_path / "imported"]
    module = tmp_path / "modules" / "imported_by_a_checkpoint.py"
    module.parent.mkdir()
    module.write_text(f"import os\nos.mkdir({str(left[1])!r})\nthing = 1\n")
    monkeypatch.syspath_prepend(str(module.parent))
    copyreg.add_extension("os", "mkdir", EXTENSION)

    def found() -> list[str]:
        names = [path.name for path in left if path.exists()]
        for path in left:
            if path.is_dir():
                path.rmdir()
            path.unlink(missing_ok=True)
        sys.modules.pop("imported_by_a_checkpoint", None)
        return names

    yield found
    copyreg.remove_extension("os", "mkdir", EXTENSION)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("way", NAMES)
def test_nothing_of_it_happens(way: str, legacy: bool, tmp_path: Path, traces) -> None:
    body = Ways(str(tmp_path / "trace")).all()[way]
    pickle.loads(b"\x80\x04" + body + b".")
    assert traces(), "the usual way runs it: this test can fail"
    as_file(body, tmp_path / "file", legacy)
    state = utils.load_checkpoint(str(tmp_path / "file"))
    assert state["state_dict"] == {"a": 1.0} and state["epoch"] == 1, "what is plain in it is read all the same"
    assert not traces()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("way", ["GLOBAL and REDUCE", "BUILD", "an import"])
def test_nor_when_it_is_resumed_from_or_weights_are_taken(way: str, tmp_path: Path, traces) -> None:
    (tmp_path / "checkpoint").write_text("file\n")
    as_file(Ways(str(tmp_path / "trace")).all()[way], tmp_path / "file", legacy=False)
    model = torch.nn.Linear(1, 1)
    with pytest.raises(UserError):
        utils.resume_from_checkpoint(str(tmp_path), model)
    with pytest.raises(UserError, match="no tensor"):
        utils.load_pretrained_weights(model, str(tmp_path / "file"))
    assert not traces()


def read(body: bytes) -> object:
    return inert.load(io.BytesIO(b"\x80\x04" + body + b"."))


def test_the_extension_cache_is_neither_read_nor_written(traces) -> None:
    body = b"\x82" + EXTENSION.to_bytes(1, "little")
    assert pickle.loads(b"\x80\x04" + body + b".") is os.mkdir  # and now it is cached
    assert isinstance(read(body), inert.Unread)
    copyreg.clear_extension_cache()
    assert isinstance(read(body), inert.Unread)
    assert pickle.loads(b"\x80\x04" + body + b".") is os.mkdir


CHANGES = {
    "a class": b"ccollections\nCounter\n}" + text("update") + b"K\x01sb",
    "a function": b"ctorch._utils\n_rebuild_tensor_v2\nN}" + text("__defaults__") + b")s\x86b",
    "a storage's class": b"ctorch.storage\nUntypedStorage\nN}" + text("cpu") + b"K\x01s\x86b",
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_allowed_cannot_be_changed(what: str) -> None:
    with pytest.raises(pickle.UnpicklingError, match="a state for"):
        read(CHANGES[what])


def test_no_method_of_a_dictionary_is_hidden_and_no_hook_put_on_a_tensor() -> None:
    found = read(b"ccollections\nOrderedDict\n)R}(" + text("items") + b"K\x01" + text("_metadata") + b"K\x02ub")
    assert type(found) is OrderedDict and vars(found) == {"_metadata": 2} and list(found.items()) == []
    hook, storage = OrderedDict({0: print}), torch.zeros(2).reshape(2)._typed_storage()
    rebuilt = inert.ALLOWED["torch._utils", "_rebuild_tensor_v2"](storage, 0, (2,), (1,), True, hook)  # as a pickle calls it
    learned = inert.ALLOWED["torch._utils", "_rebuild_parameter"](torch.zeros(2), True, hook)
    assert not rebuilt._backward_hooks and not learned._backward_hooks and rebuilt.requires_grad and learned.requires_grad


def test_only_names_without_code_behind_them_are_allowed() -> None:
    kinds = {kind for kind in inert.ALLOWED.values() if not isinstance(kind, torch.dtype)}
    own = {kind for kind in kinds if kind.__module__ == "dassl.utils.inert"}
    assert {kind.__name__ for kind in kinds - own} == {
        "OrderedDict", "Counter", "Size", "device", "UntypedStorage", "set", "complex",
    }  # fmt: skip
    for module, name in inert.ALLOWED:
        assert "." not in name and "*" not in name and module != "os"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_module_that_carries_its_source_is_not_compared_with_it(tmp_path: Path, monkeypatch) -> None:
    """PyTorch would look up the class's source, and write a patch where the two differ."""
    monkeypatch.chdir(tmp_path)
    named = b"ctests.test_hostile_checkpoints\nMakes\n"
    module = b"(" + text("module") + named + text("file.py") + text("other source") + b"tQ"
    as_file(module, tmp_path / "file", legacy=True)
    state = utils.load_checkpoint(str(tmp_path / "file"))
    assert isinstance(state["x"], inert.Unread) and sorted(path.name for path in tmp_path.iterdir()) == ["file"]
    as_file(b"K\x07Q", tmp_path / "file", legacy=True)
    with pytest.raises(UserError, match="cannot be read to its end"):
        utils.load_checkpoint(str(tmp_path / "file"))
