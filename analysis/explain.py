"""The command's former place: ``python -m analysis.explain`` runs ``python -m explain``, by name, and says so."""

import runpy
import sys

if __name__ == "__main__":
    print("python -m analysis.explain is now python -m explain", file=sys.stderr)
    runpy.run_module("explain", run_name="__main__", alter_sys=True)
