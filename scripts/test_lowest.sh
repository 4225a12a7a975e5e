#!/usr/bin/env bash
# The fast part of the tests on the lowest versions that requirements.txt claims: test_lowest.sh [pytest arguments]
#   SKIP_LOWEST=1  leaves it out
# Only what requirements.lowest names is installed, into .venv-lowest on top of .venv. torch and torchvision are .venv's: a
# second one costs gigabytes (CONTRIBUTING.md says when their lowest versions were run).
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
if [ "${SKIP_LOWEST:-0}" = 1 ]; then echo "SKIP_LOWEST: the lowest versions are left out"; exit 0; fi
lowest=.venv-lowest stamp=.venv-lowest/.installed
wanted="$(cat requirements.lowest .venv/.installed | cksum)"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "installing requirements.lowest into $lowest"
    "$PYTHON" -m venv --clear --without-pip "$lowest"
    # what is not lowered comes from .venv, whose packages lie behind those of $lowest on the path
    "$PYTHON" - "$lowest" <<'PY'
import sys, sysconfig
from pathlib import Path
ours = sysconfig.get_path("purelib")
(inner,) = Path(sys.argv[1]).glob("lib/python*/site-packages")
(inner / "below.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
PY
    "$PYTHON" -m pip --python "$lowest/bin/python" install --quiet --disable-pip-version-check \
        --no-compile --no-deps --only-binary :all: -r requirements.lowest
    echo "$wanted" > "$stamp"
fi
"$lowest/bin/python" - <<'PY'
import sys
from importlib.metadata import version
pins = [line.split("==") for line in open("requirements.lowest").read().split("\n") if "==" in line]
wrong = [f"{name} {version(name)}, not {pin}" for name, pin in pins if version(name) != pin]
sys.exit(f"error: .venv-lowest has {'; '.join(wrong)}: remove it and run this again" if wrong else 0)
PY
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
fast=(parts download feature_methods departures backbones export engine_data figures metrics prompt_generator dataset_check)
"$lowest/bin/python" -m pytest -n "${TEST_JOBS:-2}" --dist loadfile $(printf 'tests/test_%s.py ' "${fast[@]}") "$@"
