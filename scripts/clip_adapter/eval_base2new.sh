#!/usr/bin/env bash
# Test again CLIPAdapter: eval_base2new.sh DATASET [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
base2new CLIPAdapter --eval-only "$@"
