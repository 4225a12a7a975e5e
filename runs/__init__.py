"""What a run is, from its settings to its results file; and the door for notebooks, ``from runs import train, …``.

Here belong a run's config (``config``, ``overrides``, ``settings``), what it is and where it lies (``identity``), which runs a
protocol has (``tasks``, ``protocols``), how one is run, alone or with other seeds (``run``, ``seed_batch``), how far it came
(``progress``), what it leaves behind (``records``, ``departures``), and a finished one on new images (``inference``), also one
that was shared (``packed``, ``hub``). How a method learns is in ``trainers``, which this package stands on; what is made of
many runs' files is in ``analysis``.

Importing this package loads no model library: the door's functions are fetched when they are asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runs.door import read_runs, train
    from runs.inference import load_run

__all__ = ["load_run", "read_runs", "train"]

_PLACES = {"load_run": "runs.inference", "read_runs": "runs.door", "train": "runs.door"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
