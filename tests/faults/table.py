"""All rows, and the page that counts them."""

from __future__ import annotations

from collections import Counter

from tabulate import tabulate

from tests.faults import table_analysis, table_data, table_predict, table_shared, table_tools, table_train
from tests.faults.fault import Fault

TABLES = (table_train, table_predict, table_shared, table_data, table_analysis, table_tools)
FAULTS: list[Fault] = [fault for table in TABLES for fault in table.FAULTS]

PAGE = """# What can go wrong, and what is said then
A user's mistake, a damaged file or the system's no is one line on standard error, `error: ` with what, where and what to do,
and exit status 2: no traceback, nothing half-written, no temporary file, and no other run touched. An image to predict that
cannot be read is named and passed over (status 3), a damaged run is named beside the table of the others (status 0), what a
check looks for is status 1, Ctrl-C one line and status 130. A traceback is a fault of this project's, and says so with where to
report it.

Numbers out of range are told before anything is loaded, places that cannot be written before anything is computed, test images
that cannot be read before training. Only regular files are opened: a FIFO does not hang, a device does not run on without end.

This page is printed by `python -m tests.faults --markdown` from a table of {count} faults. `python -m tests.faults` calls the
programs with each, `python -m tests.faults predict FIFO` with those whose name has these words; pytest does under the marker
`faults`. Beside the status and the line, each asserts that there is no traceback, that no file was left, and that a finished
run nearby is as it was.

{kinds}

{programs}

A fuzz test (`tests/test_fuzz.py`) calls the programs with drawn command lines and overrides, and with split, results and
dataset files of which bytes or nodes were changed; `FUZZ=10000` in the environment takes so many cases of each in place of the
few hundred of a plain run.
"""


def markdown() -> str:
    """docs/RELIABILITY.md."""
    kinds = Counter(fault.kind for fault in FAULTS)
    rows = []
    for kind, count in sorted(kinds.items()):
        own = [fault for fault in FAULTS if fault.kind == kind]
        some = list(dict.fromkeys(_plain(fault.input) for fault in own))
        programs = ", ".join(f"`{name}`" for name in sorted({fault.program for fault in own}))
        rows.append([kind, count, "; ".join(some[:4]) + ("; …" if len(some) > 4 else ""), programs])
    programs = Counter(fault.program for fault in FAULTS)
    return PAGE.format(
        count=len(FAULTS),
        kinds=tabulate(rows, ["something is wrong with", "faults", "for example", "programs"], tablefmt="github"),
        programs=tabulate([[f"`{name}`", n] for name, n in sorted(programs.items())], ["program", "faults"], tablefmt="github"),
    )


def _plain(text: str) -> str:
    return " ".join(text.replace("|", "/").split())[:60]
