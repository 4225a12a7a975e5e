#!/usr/bin/env bash
# Test again PromptSRC: eval_base2new.sh DATASET [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
base2new PromptSRC --eval-only "$@"
