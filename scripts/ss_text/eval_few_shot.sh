#!/usr/bin/env bash
# Test again SSText: eval_few_shot.sh DATASET [SHOTS] [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
few_shot SSText --eval-only "$@"
