#!/usr/bin/env bash
# Test again TIMOS: eval_few_shot.sh DATASET [SHOTS] [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
few_shot TIMOS --eval-only "$@"
