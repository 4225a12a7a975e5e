#!/usr/bin/env bash
# Test again BiomedAP: eval_few_shot.sh DATASET [SHOTS] [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
few_shot BiomedAP --eval-only "$@"
