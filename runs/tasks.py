"""The protocols in a table: which splits each has, in which folder of all runs, and which of them trains.

A new protocol is an entry here, with the folders of its stages in ``analysis.layout.TASK_FOLDERS``.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.layout import LAYOUT_SPLITS, TARGET


@dataclass(frozen=True)
class Stage:
    """One run of a protocol.

    Attributes:
        folder: below the folder of all runs, as published.
        trains: whether a method that learns is trained here; if not, it is tested with what the first stage learned.
    """

    folder: str
    trains: bool = True

    @property
    def split(self) -> str:
        """The classes that it runs on, a value of DATASET.SUBSAMPLE_CLASSES; "target" for all of another dataset."""
        return LAYOUT_SPLITS[self.folder]


TASKS: dict[str, tuple[Stage, ...]] = {
    "base2new": (Stage("base2new/train_base"), Stage("base2new/test_new", trains=False)),
    "few_shot": (Stage("few_shot"),),
    "cross_dataset": (Stage("few_shot"), Stage("cross_dataset", trains=False)),  # the second once for each target
}


def needs_transfer(task: str) -> bool:
    """Whether a protocol always tests on classes that it did not train on; a target of cross_dataset may have the same."""
    return len({stage.split for stage in TASKS[task]} - {TARGET}) > 1
