#!/usr/bin/env bash
# From nothing to tables on generated brain MRI; needs Python and a package registry, no GPU: quickstart.sh
#   DATA (data/phantom), BACKBONE (PhantomCLIP) and OUTPUT (output/quickstart) are read from the environment.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
export DATA="${DATA:-data/phantom}" BACKBONE="${BACKBONE:-PhantomCLIP}" OUTPUT="${OUTPUT:-output/quickstart}"
methods="ZeroshotCLIP CoOp BiomedDPT"
echo "Three methods (${methods// /, }) tell generated brain MRI apart, on $BACKBONE: few-shot on all four classes, then"
echo "base-to-new, which learns from two of them and is tested on the other two as well. The log.txt of each run has the details."
[ -d "$DATA/BTMRI" ] || "$PYTHON" -m datasets.phantom --root "$DATA" --datasets btmri
METHODS="$methods" TASKS="few_shot base2new" SHOTS=16 bash scripts/compare.sh btmri 1 -- FEATURES.VIEWS 8
"$PYTHON" -m analysis.report "$OUTPUT" -o "$OUTPUT/report.html" > /dev/null
cat <<TEXT

A cell is the share of test images that were named rightly, in %, without an image to learn from (ZeroshotCLIP) or from 16 of
each class (CoOp, BiomedDPT), in base-to-new of each base class alone; HM is the harmonic mean of base and new. The images are
generated, so the numbers say that everything works, and nothing of real images.

Report, with figures: $OUTPUT/report.html
Next, real images (docs/DATASETS.md: data and weights): DOWNLOAD=1 DATA=data bash scripts/biomed_dpt/base2new.sh btmri 1
To call python yourself, in every new shell first: source .venv/bin/activate
TEXT
