#!/usr/bin/env bash
# Train and test SSText: base2new.sh DATASET [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
base2new SSText "$@"
