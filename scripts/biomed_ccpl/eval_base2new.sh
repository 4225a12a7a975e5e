#!/usr/bin/env bash
# Test again BiomedCCPL: eval_base2new.sh DATASET [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
base2new BiomedCCPL --eval-only "$@"
