#!/usr/bin/env bash
# Test again BiomedAP: eval_base2new.sh DATASET [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
base2new BiomedAP --eval-only "$@"
