#!/usr/bin/env bash
# Train and test GDA: base2new.sh DATASET [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
base2new GDA "$@"
