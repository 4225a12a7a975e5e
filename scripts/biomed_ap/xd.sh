#!/usr/bin/env bash
# Train BiomedAP on one dataset, test it on others: [TARGETS="DATASET …"] xd.sh SOURCE [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
xd BiomedAP "$@"
