#!/usr/bin/env bash
# Biomed-DPT's ablations on one dataset, a table per factor: ablation.sh DATASET [SEED] [-- KEY VALUE …]
#   TASKS   few_shot, base2new (both)        LEVELS  labels of configs/sweeps/ablation_all.yaml (all; "full" is the default)
# The runs lie in OUTPUT/ablation/LABEL, the default one in OUTPUT/ablation/full; what is done is kept. Shots: SHOTS (16).
# Of the variables below DATA, BACKBONE, OUTPUT, SEEDS, SEEDS_TOGETHER and PYTHON are read.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
parse_arguments "$@"
[ -f "$REPO/datasets/$DATASET.py" ] && [ "$DATASET_FILE" = "$REPO/configs/datasets/$DATASET.yaml" ] ||
    fail "ablation.sh takes a published dataset; for $DATASET_FILE write a grid with these settings (configs/sweeps/ablation_all.yaml)"
read -r -a seeds <<< "${POSITIONAL[1]:-$SEEDS}"
read -r -a tasks <<< "${TASKS:-}"
read -r -a labels <<< "${LEVELS:-}"
read -r -a shots <<< "${SHOTS:-16}"
grid="$(mktemp -d)"
trap 'rm -rf "$grid"' EXIT
listed() { local IFS=,; echo "[$*]"; }
cat > "$grid/ablation.yaml" << YAML
about: "the ablations on $DATASET"
include:
  - {grid: ablation_all, datasets: [$DATASET], shots: $(listed "${shots[@]}"), seeds: $(listed "${seeds[@]}")}
YAML
flags=(--no-report)
[ ${#tasks[@]} -eq 0 ] || flags+=(--tasks "${tasks[@]}")
[ ${#labels[@]} -eq 0 ] || flags+=(--labels "${labels[@]}")
[ "${SEEDS_TOGETHER:-0}" != 1 ] || flags+=(--seeds-together)
export PYTHONPATH="$REPO${PYTHONPATH:+:$PYTHONPATH}"
state=0
"$PYTHON" -m sweep run "$grid/ablation.yaml" --root "$DATA" --backbone "$BACKBONE" --output "$OUTPUT/ablation" \
    "${flags[@]}" ${EXTRA[@]+-- "${EXTRA[@]}"} || state=$?
"$PYTHON" "$REPO/parse_results.py" "$OUTPUT/ablation" --table ablation --datasets "$DATASET" --backbones "$BACKBONE" \
    --seeds "${seeds[@]}" || state=$?
exit $state
