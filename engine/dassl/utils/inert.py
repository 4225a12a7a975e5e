"""Reading a pickle without running it: tensors, numbers and plain containers come back, all else as a placeholder.

Upstream keeps a learning-rate schedule as a pickled object, and with it half of ``torch.optim``. PyTorch's own
``weights_only`` refuses such a file whole. Here each name that a pickle asks for is looked up in :data:`ALLOWED` and
nowhere else: nothing is imported, and what is not listed becomes an :class:`Unread`, which takes whatever the pickle does to
it and does nothing. The module is handed to ``torch.load`` as its ``pickle_module``, which uses :class:`Unpickler` and
:func:`load` of it.
"""

from __future__ import annotations

import pickle
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import _utils as rebuild
from torch import nn

NUMBER = re.compile(r"[fiub]\d{1,2}\Z")  # NumPy's codes of floats, integers and booleans


class Unread:
    """Stands where a pickle has something that is not read; ``origin`` is its name there, and nothing more is kept."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Unread:
        # a pickle calls "__new__" of the class that it named, which is a placeholder already
        return cls if isinstance(cls, Unread) else super().__new__(cls)

    def __init__(self, origin: str = "") -> None:
        self.origin = origin

    def __call__(self, *args: Any, **kwargs: Any) -> Unread:
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        """A pickled dictionary's items are dropped."""

    def append(self, item: Any) -> None:
        """So are a list's, and a set's below."""

    add = append

    def __reduce__(self) -> tuple[type[Unread], tuple[str]]:
        return Unread, (self.origin,)

    def __repr__(self) -> str:
        return f"<{self.origin}, not read>"


class _NumberType:
    """A NumPy dtype as a pickle describes it: a code such as "f8", and a state whose second item is the byte order."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code, self.order = code, "="


def _number(kind: Any, raw: Any = b"") -> Any:
    """A NumPy scalar as Python's number."""
    if isinstance(kind, _NumberType) and isinstance(kind.code, str) and NUMBER.match(kind.code) and isinstance(raw, bytes):
        return np.frombuffer(raw, np.dtype(kind.order + kind.code), count=1)[0].item()
    return Unread("numpy scalar")


def _as_bytes(text: str, encoding: str) -> bytes:
    """How protocol 2 keeps bytes; of all that ``_codecs.encode`` can do, this alone."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding}")
    return text.encode("latin1")


def _dictionary(*_: Any) -> dict[Any, Any]:
    """For a ``defaultdict``, whose factory is not wanted."""
    return {}


def _tensor(
    storage: Any, offset: int, size: Any, stride: Any, requires_grad: bool = False, hooks: Any = None, metadata: Any = None
) -> torch.Tensor:
    """A tensor over its storage, without hooks: a backward pass would call them."""
    if metadata:
        raise pickle.UnpicklingError("a conjugate or negative view of a tensor")
    return rebuild._rebuild_tensor_v2(storage, offset, size, stride, bool(requires_grad), OrderedDict())


def _parameter(data: Any, requires_grad: bool = True, hooks: Any = None) -> nn.Parameter:
    return rebuild._rebuild_parameter(data, bool(requires_grad), OrderedDict())


# Exact names, each with what stands for it. None of them calls anything that it is given.
ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "Counter"): Counter,
    ("collections", "defaultdict"): _dictionary,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch.storage", "UntypedStorage"): torch.UntypedStorage,
    ("_codecs", "encode"): _as_bytes,
    ("numpy", "dtype"): _NumberType,
    ("numpy.core.multiarray", "scalar"): _number,
    ("numpy._core.multiarray", "scalar"): _number,
    **{(module, name): kind for module in ("builtins", "__builtin__") for name, kind in (("set", set), ("complex", complex))},
    **{("torch", str(kind).removeprefix("torch.")): kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)},
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


# The one written in Python: in C neither BUILD nor the extension registry can be overridden
class Unpickler(pickle._Unpickler):
    """Reads as the module says; ``persistent_load`` is set by ``torch.load``, and gives the tensors their storages."""

    dispatch: dict[int, Callable[[Any], None]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        return ALLOWED.get((module, name)) or Unread(f"{module}.{name}")

    def get_extension(self, code: int) -> None:
        """Names by number are the process's own, and cached there: none is looked up."""
        self.append(Unread(f"extension {code}"))

    def load_build(self) -> None:
        """Give the object on the stack its state: never by a method of its own, never to a class or function."""
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is OrderedDict and isinstance(state, dict):
            # what a module's state_dict() carries along; another attribute could hide a method
            target.__dict__.update({key: value for key, value in state.items() if key == "_metadata"})
        elif type(target) is _NumberType and isinstance(state, tuple) and state[1:2] in (("<",), (">",), ("|",)):
            target.order = state[1]
        elif not isinstance(target, Unread):
            raise pickle.UnpicklingError(f"a state for {type(target).__name__}")

    def load_binpersid(self) -> None:
        """A storage; of a module that carries its source along, its name (PyTorch would compare, and may write, files)."""
        pid = self.stack.pop()
        if not isinstance(pid, tuple) or pid[:1] not in (("storage",), ("module",)):
            raise pickle.UnpicklingError("a reference that is no storage's")
        self.append(self.persistent_load(pid) if pid[0] == "storage" else pid[1])

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BINPERSID[0]] = load_binpersid


def load(file: BinaryIO, **options: Any) -> Any:
    """Read one pickle; ``options`` are those of ``pickle.load``."""
    return Unpickler(file, **options).load()


def unread(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(where, what) of each placeholder in nested dictionaries, lists and tuples: ("scheduler.successor", "torch.optim…")."""
    if isinstance(value, Unread):
        yield name, value.origin
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from unread(key, f"a key of {name}")
            yield from unread(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from unread(item, name)
