"""All mutants, what became of them at the last recorded run, and the page that counts them."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tabulate import tabulate

import tests.mutants
from tests.mutants.mutant import Mutant, Outcome

RECORD = Path(__file__).with_name("outcome.json")
ENDS = ("killed", "survived", "equivalent")
NAMES = sorted(module.name for module in pkgutil.iter_modules(tests.mutants.__path__) if module.name.startswith("table_"))
MUTANTS: list[Mutant] = [mutant for name in NAMES for mutant in importlib.import_module(f"tests.mutants.{name}").MUTANTS]

PAGE = """# Whether the tests notice
Each mutant is one deliberate fault in the code: a comparison turned round, a constant changed, a statement left out, a part of
a key forgotten. Tests that pass all the same do not guard that place. The mutants are data (`tests/mutants/table_*.py`: file,
what stands there, what is put in its place, which tests are to notice); an equivalent one changes nothing that a test could
see, and says why.

`python -m tests.mutants` puts them in one at a time, in a copy of the project, and ends with status 0 if at least {wanted} % of
those that are not equivalent were killed; `--room features` takes one room, `--only FILE` some files, `--record` keeps the
counts that `--markdown` prints as this page. It is not part of the tests that run on every change; that the table still fits
the code and that these counts belong to it is (`tests/test_mutants.py`).

{rooms}

{survivors}
"""
WANTED = 95  # percent of those that are not equivalent


def counted(outcomes: Iterable[Outcome]) -> dict[str, dict[str, Any]]:
    """Room -> how many were killed, survived and are equivalent, and which survived."""
    rooms: dict[str, dict[str, Any]] = {}
    for outcome in outcomes:
        counts = rooms.setdefault(outcome.mutant.room, dict.fromkeys((*ENDS, "error"), 0) | {"survivors": []})
        counts[outcome.end] += 1
        if outcome.end == "survived":
            counts["survivors"].append(str(outcome.mutant))
    return dict(sorted(rooms.items()))


def enough(rooms: dict[str, dict[str, Any]]) -> bool:
    """Whether nothing ended in an error and at least ``WANTED`` percent of the non-equivalent were killed."""
    killed, survived = (sum(counts[end] for counts in rooms.values()) for end in ENDS[:2])
    return not any(counts["error"] for counts in rooms.values()) and 100 * killed >= WANTED * (killed + survived)


def recorded() -> dict[str, dict[str, Any]]:
    """The counts of the last recorded run of each room."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}


def record(rooms: dict[str, dict[str, Any]]) -> None:
    """Keep the counts of these rooms, one line each; those of the others stay."""
    lines = [f"{json.dumps(room)}: {json.dumps(counts)}" for room, counts in sorted((recorded() | rooms).items())]
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def overview(rooms: dict[str, dict[str, Any]]) -> str:
    """A table of the counts per room, with their sum."""
    rows = [[room, *(counts[end] for end in ENDS)] for room, counts in rooms.items()]
    rows.append(["all", *(sum(row[place] for row in rows) for place in (1, 2, 3))])
    shares = [f"{100 * row[1] / max(1, row[1] + row[2]):.1f} %" for row in rows]
    table = [[*row, share] for row, share in zip(rows, shares, strict=True)]
    return tabulate(table, ["room", *ENDS, "killed of the non-equivalent"], tablefmt="github", disable_numparse=True)


def markdown() -> str:
    """docs/MUTANTS.md."""
    rooms = recorded()
    alive = [name for counts in rooms.values() for name in counts["survivors"]]
    lines = "\n".join(f"- `{name.replace('`', '')}`" for name in alive)
    survivors = f"Not noticed:\n{lines}" if alive else "All others were noticed."
    return PAGE.format(wanted=WANTED, rooms=overview(rooms), survivors=survivors)
