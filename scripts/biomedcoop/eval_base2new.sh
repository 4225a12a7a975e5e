#!/usr/bin/env bash
# Test again BiomedCoOp: eval_base2new.sh DATASET [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
base2new BiomedCoOp --eval-only "$@"
