#!/usr/bin/env bash
# Test again TipAdapter: eval_few_shot.sh DATASET [SHOTS] [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
few_shot TipAdapter --eval-only "$@"
