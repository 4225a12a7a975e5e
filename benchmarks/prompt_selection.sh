#!/usr/bin/env bash
# Zero-shot with template and LLM prompts, and BiomedDPT with each prompt selection, rehearsed: prompt_selection.sh [DATASET …]
#   DATASET (btmri busi retina); from the environment SHOTS (4), SEEDS (1 2 3), OUTPUT (output/prompts), FORMAT (markdown)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/help.sh"
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
