#!/usr/bin/env bash
# The paper's tables in one command: reproduce.sh [GRID …] [sweep arguments] [-- KEY VALUE …]; what is done is kept.
#   GRID: rehearsal (the default), smoke, paper_few_shot, paper_base2new, cross_dataset, ablation, … or a YAML file
# DATA and OUTPUT as in the other scripts; python -m sweep --help has the arguments.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
if [ $# -eq 0 ]; then set -- rehearsal; fi
[ "$DATA" = data ] || set -- --root "$DATA" "$@"
export PYTHONPATH="$REPO${PYTHONPATH:+:$PYTHONPATH}"
exec "$PYTHON" -m sweep run --output "$OUTPUT" "$@"
