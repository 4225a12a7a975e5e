"""``python -m analysis.explain``: what a model looked at and what it learned.

``analysis`` reads files and knows no model. This is the door only: the work is done in :mod:`explain`, which may.
"""

import sys

if __name__ == "__main__":
    from explain.command import main

    sys.exit(main())
