#!/usr/bin/env bash
# Test again ProKeR: eval_base2new.sh DATASET [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
base2new ProKeR --eval-only "$@"
