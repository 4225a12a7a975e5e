"""``python -m share``."""

import os
import sys

from runs.own_dassl import require_own_dassl

require_own_dassl()
from share.command import main  # noqa: E402

if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
