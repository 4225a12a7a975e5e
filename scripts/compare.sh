#!/usr/bin/env bash
# Run methods side by side and print the paper's two tables: compare.sh DATASET [SEED] [-- KEY VALUE …]
#   METHODS (default: all that fit the task), TASKS ("few_shot base2new"), SHOTS (of few_shot: 1 2 4 8 16; base2new: 16)
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
parse_arguments "$@"
known="$("$PYTHON" "$REPO/train.py" --list-methods few_shot)"
for task in ${TASKS:-few_shot base2new}; do
    fitting="$known"
    if [ "$task" = base2new ]; then fitting="$("$PYTHON" "$REPO/train.py" --list-methods base2new)"; fi
    if [ "$task" = few_shot ]; then shots="${SHOTS:-1 2 4 8 16}"; else shots=16; fi
    chosen=() absent=()
    for method in ${METHODS:-$known}; do
        if [[ " $known " == *" $method "* && " $fitting " != *" $method "* ]]; then absent+=("$method"); else chosen+=("$method"); fi
    done
    seeds="${POSITIONAL[1]:-$SEEDS}"
    for method in ${chosen[@]+"${chosen[@]}"}; do run "$method" "$task" "$shots" "$seeds"; done
    if [ ${#chosen[@]} -gt 0 ]; then table "$task" "$shots" "$seeds" "${chosen[@]}" --published; fi
    if [ ${#absent[@]} -gt 0 ]; then
        echo "not in this table: ${absent[*]}: each learns a classifier of the classes that it saw and has none for new ones"
    fi
done
