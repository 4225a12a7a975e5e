"""Training curves from the ``log.txt`` of a run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from analysis.results import LOG

EPOCH = re.compile(r"epoch \[(\d+)/\d+\] batch \[\d+/\d+\] (.*)")
METER = re.compile(r"(\w+) (-?[\d.]+(?:e[+-]?\d+)?|nan|inf) \((-?[\d.]+(?:e[+-]?\d+)?|nan|inf)\)")
CLOCKS = ("time", "data")


@dataclass(frozen=True)
class Curves:
    """Averages of an epoch, as far as the log tells them: by meter (loss, acc, loss_ce, …) a value per epoch."""

    epochs: tuple[int, ...]
    meters: dict[str, tuple[float, ...]]


def read_curves(folder: Path) -> Curves:
    """The curves of a run; empty for a method that has no epochs.

    All its logs count, ``log.txt-<time>`` too, those first that were written first. Of an epoch that was trained twice
    (a resumed run) the last line stands.
    """
    lines: dict[int, dict[str, float]] = {}
    logs = [path for path in folder.glob(f"{LOG}*") if path.is_file()]
    for path in sorted(logs, key=lambda path: (path.stat().st_mtime_ns, path.name)):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            found = EPOCH.search(line)
            if found:
                # the number in brackets is the average since the epoch began
                lines[int(found[1])] = {m: float(average) for m, _, average in METER.findall(found[2]) if m not in CLOCKS}
    epochs = tuple(sorted(lines))
    names = list(dict.fromkeys(name for epoch in epochs for name in lines[epoch]))
    return Curves(epochs, {name: tuple(lines[e].get(name, float("nan")) for e in epochs) for name in names})


def moving_average(values: tuple[float, ...], width: int) -> list[float]:
    """Centred mean over ``width`` (odd) values, over fewer at both ends."""
    half = width // 2
    parts = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(part) / len(part) for part in parts]
