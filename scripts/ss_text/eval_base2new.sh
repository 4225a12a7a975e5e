#!/usr/bin/env bash
# Test again SSText: eval_base2new.sh DATASET [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
base2new SSText --eval-only "$@"
