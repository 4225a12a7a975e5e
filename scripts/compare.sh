#!/usr/bin/env bash
# Run methods side by side and print the paper's two tables: compare.sh DATASET [SEED] [-- KEY VALUE …]
#   METHODS (default: all that can run), TASKS ("few_shot base2new"), SHOTS (of few_shot: 1 2 4 8 16; base2new: 16)
# A method that cannot run on this dataset, by this protocol or with these settings is left out and named below the table.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
parse_arguments "$@"
known="$("$PYTHON" "$REPO/train.py" --list-methods few_shot)"
for method in ${METHODS:-}; do
    [[ " $known " == *" $method "* ]] || fail "METHODS: no method \"$method\"; methods: $known"
done
why="$(mktemp)"
trap 'rm -f "$why"' EXIT
status=0
fetched
for task in ${TASKS:-few_shot base2new}; do
    if ! fitting="$("$PYTHON" "$REPO/train.py" --list-methods "$task" --root "$DATA" --backbone "$BACKBONE" \
        --dataset-config-file "$DATASET_FILE" ${EXTRA[@]+"${EXTRA[@]}"} 2> "$why")"; then
        cat "$why" >&2
        exit 2
    fi
    if [ "$task" = few_shot ]; then shots="${SHOTS:-1 2 4 8 16}"; else shots=16; fi
    seeds="${POSITIONAL[1]:-$SEEDS}"
    chosen=() absent=() failed=()
    for method in ${METHODS:-$known}; do
        if [[ " $known " == *" $method "* && " $fitting " != *" $method "* ]]; then
            absent+=("$method")
        elif run "$method" "$task" "$shots" "$seeds"; then
            chosen+=("$method")
        else
            failed+=("$method")
        fi
    done
    if [ ${#chosen[@]} -gt 0 ]; then table "$task" "$shots" "$seeds" "${chosen[@]}" --published; fi
    if [ ${#absent[@]} -gt 0 ]; then
        echo && echo "not in this table:"
        for method in "${absent[@]}"; do grep -m 1 "^$method: " "$why"; done
    fi
    if [ ${#failed[@]} -gt 0 ]; then
        echo "error: these failed, with the reason above: ${failed[*]}" >&2
        status=2
    fi
    if [ ${#chosen[@]} -eq 0 ]; then status=2; fi
done
exit $status
