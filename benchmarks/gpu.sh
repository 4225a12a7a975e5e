#!/usr/bin/env bash
# All that only a GPU can tell, on a machine that reaches no package registry: gpu.sh pack | run OUT [--minutes 12] …
#   bash benchmarks/gpu.sh pack                      at home: the wheels that such a machine lacks, into .gpu/ (below 50 MB)
#   bash benchmarks/gpu.sh run OUT [--minutes 12]    there, with .gpu/ beside: tests and measurements; results in OUT as they come
#   bash benchmarks/gpu.sh run OUT --device cpu --minutes 5 [--tiny]    see at home that it works; the numbers mean nothing
#
# run: python -m benchmarks.gpu --help lists the steps (--only); PYTHON is the interpreter that has torch (.venv's, else python3).
# The table is written into the docs from what came back:
#   python -m benchmarks.gpu --from OUT/gpu.json --out docs/PERFORMANCE.md
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
wheels="${GPU_WHEELS:-.gpu}"
usage() { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }

case "${1:-}" in
pack)
    source scripts/setup.sh
    exec "$PYTHON" -m benchmarks.gpu.pack "$wheels"
    ;;
run)
    shift
    [[ "${1:-}" =~ ^[^-] ]] || usage
    if [ -z "${PYTHON:-}" ]; then
        if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; else PYTHON=python3; fi
    fi
    if [[ " $* " =~ \ --device[\ =]cpu\  ]]; then export CUDA_VISIBLE_DEVICES=""; fi
    export PYTHONPATH="$PWD/engine:$PWD${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
    PYTHON="$("$PYTHON" benchmarks/gpu/environment.py "$wheels")"
    export PYTHON
    exec "$PYTHON" -m benchmarks.gpu "$@"
    ;;
*) usage ;;
esac
