#!/usr/bin/env bash
# Test again ZeroshotCLIP: eval_base2new.sh DATASET [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
base2new ZeroshotCLIP --eval-only "$@"
