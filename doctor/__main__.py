"""Look at everything that a run needs, and say what is wrong and how to mend it.

    python -m doctor                                       # this machine, the cache, all weights and datasets
    python -m doctor btmri mine.yaml --backbone BiomedCLIP --root data

One line each: OK, WARN (something will be slow, or cannot be run until it is there) or FAIL, with the mend below it. What is
named must be there; of other datasets and backbones an absence is a WARN. Exit status: 0 without FAIL, 1 with, 2 for a mistake
in the call.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from doctor import inputs, machine
from doctor.findings import FAIL, OK, SETUP, WARN, Asked, Finding
from entry import program

CHECKS = (
    machine.python,
    machine.packages,
    machine.engine,
    machine.gpu,
    machine.threads,
    machine.disk,
    machine.stored,
    inputs.hub,
    inputs.weights,
    inputs.data,
)


def examine(asked: Asked) -> Iterator[Finding]:
    """Everything, in the order in which one thing rests on another; what cannot be looked at without a package says so."""
    for check in CHECKS:
        try:
            yield from check(asked)
        except ImportError as error:
            yield Finding(FAIL, check.__name__, f"cannot be looked at: {error}", SETUP)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("datasets", nargs="*", metavar="NAME|YAML", help="datasets that must be there; all are looked for else")
    parser.add_argument("--backbone", default="", help="one that must be there")
    parser.add_argument("--backbone-path", default="", help="folder of its weights (MODEL.BACKBONE.PATH)")
    parser.add_argument("--root", type=Path, default=Path("data"), help="folder of the datasets (data)")
    parser.add_argument("--output", type=Path, default=Path("output"), help="folder of the runs (output)")
    return parser.parse_args(argv)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 without FAIL, 1 with, 2 a mistake in the call."""
    args = arguments(argv)
    asked, states = Asked(args.datasets, args.backbone, args.backbone_path, args.root, args.output), []
    with suppress(ImportError):  # told below
        inputs.check_names(asked)
    for finding in examine(asked):
        states.append(finding.state)
        print(f"{finding.state:<5} {finding.what:<12} {finding.said}", flush=True)
        if finding.mend:
            print(f"{'':<18} -> {finding.mend}", flush=True)
    counts = ", ".join(f"{states.count(state)} {state}" for state in (OK, WARN, FAIL))
    print(f"\n{counts}")
    return int(FAIL in states)


if __name__ == "__main__":
    sys.exit(main())
