"""``python -m explain``: see :mod:`explain.command`."""

import sys

from explain.command import main

if __name__ == "__main__":
    sys.exit(main())
