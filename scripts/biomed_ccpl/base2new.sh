#!/usr/bin/env bash
# Train and test BiomedCCPL: base2new.sh DATASET [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
base2new BiomedCCPL "$@"
