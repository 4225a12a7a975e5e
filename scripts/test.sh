#!/usr/bin/env bash
# Lint and all tests in .venv: test.sh [pytest arguments]; LOCKED=1 on the versions of requirements.lock
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m pytest "$@"
