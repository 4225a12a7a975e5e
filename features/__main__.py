"""Look after the stored features.

python -m features ls                     # what is there
python -m features verify [--remove]      # read everything; exit status 1 when a file is damaged
python -m features prune --max-gb 5       # remove what was read longest ago
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tabulate import tabulate

from entry import program
from features.disk import default_root, prune, spaces, verify


def listing(root: Path) -> str:
    """A table of the spaces and their sizes."""
    rows = []
    for space in spaces(root):
        about = space["about"]
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(space["used"])) if space["used"] else ""
        what = " ".join(str(about.get(key, "")) for key in ("kind", "backbone", "visual_prompt")).strip()
        rows.append([space["folder"].name, what, space["segments"], f"{space['bytes'] / 2**20:.1f}", used])
    total = sum(space["bytes"] for space in spaces(root)) / 2**20
    return tabulate(rows, ["space", "what", "files", "MiB", "last read"]) + f"\n{root}: {total:.1f} MiB"


@program
def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 damaged files found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=default_root(), help="folder of the store")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("ls")
    commands.add_parser("verify").add_argument("--remove", action="store_true", help="delete damaged files")
    commands.add_parser("prune").add_argument("--max-gb", type=float, required=True)
    args = parser.parse_args(argv)
    if args.command == "ls":
        print(listing(args.root))
    elif args.command == "prune":
        for folder in prune(args.root, int(args.max_gb * 2**30)):
            print(f"removed {folder}")
    else:
        faults = verify(args.root, args.remove)
        print("\n".join(faults) or f"{args.root}: all files are whole")
        return 1 if faults and not args.remove else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
