"""How a run is loaded: the arguments that all programs on trained runs share."""

from __future__ import annotations

import argparse


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of :func:`runs.inference.load_run`."""
    parser.add_argument("--epoch", type=int, help="checkpoint to load; by default the one that the run tested")
    parser.add_argument("--backbone-path", default="", help="where the backbone's weights lie now")
    parser.add_argument("--device", default="", help="cpu or cuda; by default a GPU where there is one")
    parser.add_argument("--classnames", nargs="+", default=(), help="other classes, for prompts that transfer")
