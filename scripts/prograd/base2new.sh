#!/usr/bin/env bash
# Train and test ProGrad: base2new.sh DATASET [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
base2new ProGrad "$@"
