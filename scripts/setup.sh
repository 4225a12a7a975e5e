# Sourced by quickstart.sh and test.sh: makes .venv and installs requirements.txt, once per change of it.
set -euo pipefail
REPO="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$REPO"
stamp=.venv/.installed
wanted="$(cat requirements.txt engine/pyproject.toml | cksum)"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    base="${PYTHON:-python3}"
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: Python 3.10 or newer is needed" >&2; exit 2; }
    [ -x .venv/bin/python ] || "$base" -m venv .venv
    echo "installing requirements.txt into .venv (a few minutes the first time)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e ./engine
    echo "$wanted" > "$stamp"
fi
export PYTHON="$REPO/.venv/bin/python"
