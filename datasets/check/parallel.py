"""Reading many files in several processes; which of them cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TypeVar

from tqdm import tqdm

from dassl.utils import PixelSettings, UnreadableImage, UserError, cores, read_image

Item, Result = TypeVar("Item"), TypeVar("Result")

ALONE = 64  # so few files are read without other processes


def unreadable(paths: Sequence[str], settings: PixelSettings, workers: int = 0) -> list[UnreadableImage]:
    """What is wrong with each of these files that cannot be read, in their order."""
    results = in_parallel(partial(_reason, settings=settings), paths, workers, "reading all images")
    return [UnreadableImage(path, reason) for path, reason in zip(paths, results, strict=True) if reason]


def _reason(path: str, settings: PixelSettings) -> str:
    try:
        read_image(path, settings)
    except UnreadableImage as error:
        return error.reason
    return ""


def in_parallel(function: Callable[[Item], Result], items: Sequence[Item], workers: int = 0, title: str = "") -> list[Result]:
    """``function`` of each item, in order, by processes: readers are not all safe in threads.

    Args:
        workers: processes; 0 takes one per core, and none for a few items.

    Raises:
        UserError: a process was killed, as it is where memory ends.
    """

    def shown(results: Iterable[Result]) -> list[Result]:
        return list(tqdm(results, total=len(items), desc=title, unit="image", disable=None))

    workers = workers or (cores() if len(items) > ALONE else 1)
    if workers == 1:
        return shown(map(function, items))
    try:
        with ProcessPoolExecutor(workers) as pool:
            return shown(pool.map(function, items, chunksize=max(1, min(32, len(items) // workers))))
    except BrokenProcessPool as error:
        raise UserError(
            f"a process that reads images was killed, for want of memory perhaps: try --workers 1 ({title})"
        ) from error
