#!/usr/bin/env bash
# The paper's tables in one command, what is done is kept: reproduce.sh [GRID …] [sweep arguments] [-- KEY VALUE …]
#   GRID: rehearsal (the default), smoke, paper_few_shot, paper_base2new, cross_dataset, ablation, … or a YAML file
# python -m sweep run --help has the sweep arguments. From the environment DATA, OUTPUT and PYTHON are read:
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
if [ $# -eq 0 ]; then set -- rehearsal; fi
[ "$DATA" = data ] || set -- --root "$DATA" "$@"
export PYTHONPATH="$REPO${PYTHONPATH:+:$PYTHONPATH}"
exec "$PYTHON" -m sweep run --output "$OUTPUT" "$@"
