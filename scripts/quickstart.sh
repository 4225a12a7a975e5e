#!/usr/bin/env bash
# From nothing to a comparison table on generated brain MRI; needs Python and a package registry, no GPU.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
export DATA="${DATA:-data/phantom}" BACKBONE="${BACKBONE:-PhantomCLIP}" OUTPUT="${OUTPUT:-output/quickstart}"
[ -d "$DATA/BTMRI" ] || "$PYTHON" -m datasets.phantom --root "$DATA" --datasets btmri
METHODS="ZeroshotCLIP CoOp BiomedDPT" TASKS=base2new bash scripts/compare.sh btmri 1
cat <<TEXT

That was the rehearsal world: generated images, a small backbone. For real images:
  DOWNLOAD=1 DATA=data bash scripts/biomed_dpt/base2new.sh btmri 1   (fetches the images; docs/DATASETS.md: data and weights)
  bash scripts/compare.sh btmri                                      (all methods, shots and seeds)
TEXT
