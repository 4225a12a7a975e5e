#!/usr/bin/env bash
# Test again KgCoOp: eval_base2new.sh DATASET [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
base2new KgCoOp --eval-only "$@"
