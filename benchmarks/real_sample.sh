#!/usr/bin/env bash
# Every method on a sample of real images with PhantomCLIP, few-shot: real_sample.sh [DATASET]
#   DATASET (btmri); from the environment DATA, the sample's folder, and SHOTS (16), SEEDS (1 2 3), OUTPUT (output/real_sample)
#
# PhantomCLIP never saw a real image: the published settings, made for BiomedCLIP, leave a shared context at chance on it. So
# what is trained here is trained harder and on milder crops, with a context for each class where a method has that switch.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${DATA:?folder of the real images}"
export DATA BACKBONE="${BACKBONE:-PhantomCLIP}" OUTPUT="${OUTPUT:-output/real_sample}"
dataset="${1:-btmri}" shots="${SHOTS:-16}"
harder=(OPTIM.NAME adam OPTIM.LR 0.02 OPTIM.MAX_EPOCH 50 INPUT.RRCROP_SCALE "(0.8,1.0)")
learn() { METHODS="$1" TASKS=few_shot SHOTS="$shots" bash scripts/compare.sh "$dataset" -- "${@:2}"; }

learn "ZeroshotCLIP ZeroshotCLIP2 GDA TipAdapter LinearProbe LPPlusPlus"
for method in CoOp KgCoOp ProGrad BiomedCoOp BiomedDPT; do
    learn "$method" "${harder[@]}" "TRAINER.${method^^}.CSC" True
done
learn "CLIPAdapter TipAdapterF" "${harder[@]}" OPTIM.LR 0.001
learn "CoCoOp MaPLe PromptSRC VPT DPT" "${harder[@]}"
"${PYTHON:-.venv/bin/python}" parse_results.py "$OUTPUT" --task few_shot --shots "$shots" --format "${FORMAT:-markdown}"
