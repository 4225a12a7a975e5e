#!/usr/bin/env bash
# Methods side by side, and the paper's two tables of them: compare.sh DATASET [SEED] [-- KEY VALUE …]
#   METHODS (default: all that can run), TASKS ("few_shot base2new"), SHOTS (of few_shot: 1 2 4 8 16; base2new: 16)
# A method that cannot run on this dataset or by this protocol is left out and named below the table; a setting is taken by
# the methods that read it. All of it is one process (python -m sweep compare).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
parse_arguments "$@"
for method in ${METHODS:-}; do
    [ -d "$REPO/configs/trainers/$method" ] || fail "METHODS: no method \"$method\"; methods: $(ls "$REPO/configs/trainers" | tr '\n' ' ')"
done
fetched
export PYTHONPATH="$REPO${PYTHONPATH:+:$PYTHONPATH}"
together=()
[ "${SEEDS_TOGETHER:-0}" != 1 ] || together=(--seeds-together)
exec "$PYTHON" -m sweep compare "$DATASET_FILE" --root "$DATA" --output "$OUTPUT" --backbone "$BACKBONE" \
    --tasks ${TASKS:-few_shot base2new} --seeds ${POSITIONAL[1]:-$SEEDS} ${METHODS:+--methods $METHODS} \
    ${SHOTS:+--shots $SHOTS} ${together[@]+"${together[@]}"} -- ${EXTRA[@]+"${EXTRA[@]}"}
