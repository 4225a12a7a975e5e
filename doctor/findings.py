"""What is asked for and what is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

OK, WARN, FAIL = "OK", "WARN", "FAIL"
SETUP = "bash scripts/setup.sh --locked"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        state: OK, WARN or FAIL.
        what: was looked at.
        said: of it.
        mend: what to do; empty where there is nothing to.
    """

    state: str
    what: str
    said: str
    mend: str = ""


@dataclass(frozen=True)
class Asked:
    """What the call names: datasets, a backbone with a folder, and the folders of data and of runs."""

    datasets: Sequence[str] = ()
    backbone: str = ""
    backbone_path: str = ""
    root: Path = Path("data")
    output: Path = Path("output")
