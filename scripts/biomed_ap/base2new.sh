#!/usr/bin/env bash
# Train and test BiomedAP: base2new.sh DATASET [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
base2new BiomedAP "$@"
