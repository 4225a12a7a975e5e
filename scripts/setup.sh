#!/usr/bin/env bash
# Makes .venv and installs requirements.txt, once per change of it (other scripts source this one): setup.sh [--locked]
#   LOCKED=1 (or --locked)  the exact versions of requirements.lock, which CI has
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"
REPO="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$REPO"
if [ "${BASH_SOURCE[0]}" = "$0" ] && [ $# -gt 0 ]; then
    [ "$*" = --locked ] || { echo "error: setup.sh takes --locked or nothing, not: $*" >&2; exit 2; }
    LOCKED=1
fi
list=requirements.txt newest=99
if [ "${LOCKED:-0}" = 1 ]; then list=requirements.lock newest=13; fi
stamp=.venv/.installed
wanted="$(cat "$list" engine/pyproject.toml | cksum)"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    base="${PYTHON:-python3}"
    if [ -x .venv/bin/python ]; then base=.venv/bin/python; fi
    "$base" -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, $newest))" ||
        { echo "error: $list needs Python 3.10 or newer$([ "$newest" = 99 ] || echo ", up to 3.$newest")" >&2; exit 2; }
    [ -x .venv/bin/python ] || "$base" -m venv .venv
    echo "installing $list into .venv (a few minutes the first time)"
    # not compiled: of 20,000 files few are ever imported, and those are compiled then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -r "$list"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e ./engine
    echo "$wanted" > "$stamp"
fi
export PYTHON="$REPO/.venv/bin/python"
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    echo "installed in $REPO/.venv. Every shell that calls python needs this once:"
    echo "source .venv/bin/activate"
fi
