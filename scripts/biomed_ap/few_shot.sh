#!/usr/bin/env bash
# Train and test BiomedAP: few_shot.sh DATASET [SHOTS] [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
few_shot BiomedAP "$@"
