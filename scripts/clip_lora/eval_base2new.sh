#!/usr/bin/env bash
# Test again CLIPLoRA: eval_base2new.sh DATASET [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
base2new CLIPLoRA --eval-only "$@"
