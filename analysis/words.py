"""Counts and names as people read them: one shot, two shots; short labels of methods, and what differs behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LONGEST = 110  # characters of a setting in a legend


def count_of(number: int, thing: str, plural: str = "") -> str:
    """``1 run``, ``2 runs``."""
    return f"{number} {thing if number == 1 else plural or thing + 's'}"


def shots_of(shots: int) -> str:
    """``1 shot``, ``16 shots``; ``all images`` for -1."""
    return "all images" if shots < 0 else count_of(shots, "shot")


def shortened(text: str, width: int = LONGEST) -> str:
    """``text``, its end cut to "…" beyond ``width`` characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def cut_inside(text: str, width: int) -> str:
    """``text``, what is too long taken out before its last third, so that names that end otherwise stay apart."""
    tail = width // 3
    return text if len(text) <= width else f"{text[: width - tail - 1]}…{text[-tail:]}"


def listed(names: Iterable[str], most: int = 6) -> str:
    """The names with commas; of many the first ones and how many more there are."""
    own = list(names)
    return ", ".join(own if len(own) <= most + 1 else [*own[:most], f"{len(own) - most} more"])


def short_labels(rows: Sequence[tuple[str, str]]) -> list[str]:
    """A label per row: its first text alone where that names it, else with a letter for what differs.

    Args:
        rows: method (with its backbone where there are several) and the settings that differ from the config files, "" for
            none.
    """
    letters: dict[str, str] = {}
    labels = []
    for name, setting in rows:
        alike = {other for method, other in rows if method == name}
        if len(alike) == 1 or not setting:
            labels.append(name)
            continue
        letters.setdefault(setting, _letter(len(letters)))
        labels.append(f"{name} ({letters[setting]})")
    return labels


def _letter(number: int) -> str:
    """a … z, aa, ab, …"""
    head, last = divmod(number, 26)
    return (_letter(head - 1) if head else "") + "abcdefghijklmnopqrstuvwxyz"[last]


def legend_lines(labels: Sequence[str], settings: Sequence[str]) -> list[str]:
    """Which rows ran with which settings, a line per setting; nothing of rows that ran by the config files."""
    rows: dict[str, list[str]] = {}
    for label, setting in zip(labels, settings, strict=True):
        if setting:
            rows.setdefault(setting, []).append(label)
    if len(rows) == 1 and all(settings) and len(settings) > 1:
        return [f"{shortened(settings[0])} (unlike the config files): all rows."]
    return [f"{shortened(setting)} (unlike the config files): {listed(own, 20)}." for setting, own in rows.items()]
