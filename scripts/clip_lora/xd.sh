#!/usr/bin/env bash
# Train CLIPLoRA on one dataset, test it on others: [TARGETS="DATASET …"] xd.sh SOURCE [SEED] [-- KEY VALUE …]
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
xd CLIPLoRA "$@"
