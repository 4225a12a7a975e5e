#!/usr/bin/env bash
# Lint and all tests in .venv: test.sh [pytest arguments]; LOCKED=1 on the versions of requirements.lock
#   SLOW=1     the long ones too
#   TEST_JOBS  processes that the tests are shared out to, file by file (2; 0: none but this one)
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m pytest -n "${TEST_JOBS:-2}" --dist loadfile --no-loadscope-reorder "$@"
