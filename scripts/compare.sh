#!/usr/bin/env bash
# Run methods side by side and print one table: compare.sh DATASET [SEED] [-- KEY VALUE …]
#   METHODS (default: all), TASKS ("few_shot base2new"), SHOTS (of few_shot: 1 2 4 8 16; base2new takes 16)
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
parse_arguments "$@"
METHODS="${METHODS:-ZeroshotCLIP ZeroshotCLIP2 CoOp CoCoOp BiomedDPT}"
for task in ${TASKS:-few_shot base2new}; do
    if [ "$task" = few_shot ]; then shots="${SHOTS:-1 2 4 8 16}"; else shots=16; fi
    for method in $METHODS; do
        for k in $shots; do
            for seed in ${POSITIONAL[1]:-$SEEDS}; do run "$method" "$task" "$k" "$seed"; done
        done
    done
    table "$task" --methods $METHODS --shots $shots --seeds ${POSITIONAL[1]:-$SEEDS}
done
