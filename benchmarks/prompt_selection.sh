#!/usr/bin/env bash
# Zero-shot with the template and with the LLM prompts, and BiomedDPT with each prompt selection, in the rehearsal world:
#   benchmarks/prompt_selection.sh [DATASET …]     (btmri busi retina; SHOTS 4, SEEDS "1 2 3", OUTPUT output/prompts)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export DATA="${DATA:-data/phantom}" BACKBONE="${BACKBONE:-PhantomCLIP}" OUTPUT="${OUTPUT:-output/prompts}"
shots="${SHOTS:-4}"
python="${PYTHON:-.venv/bin/python}"
datasets=("$@")
[ ${#datasets[@]} -gt 0 ] || datasets=(btmri busi retina)
[ "$DATA" != data/phantom ] || "$python" -m datasets.phantom --root "$DATA" --datasets "${datasets[@]}"
for dataset in "${datasets[@]}"; do
    METHODS="ZeroshotCLIP ZeroshotCLIP2" TASKS=few_shot SHOTS="$shots" bash scripts/compare.sh "$dataset"
    for selection in all topk greedy learned; do
        SHOTS="$shots" bash scripts/biomed_dpt/few_shot.sh "$dataset" -- TRAINER.BIOMEDDPT.PROMPT_SELECTION "$selection"
    done
done
"$python" parse_results.py "$OUTPUT" --task few_shot --shots $shots --format "${FORMAT:-markdown}"
