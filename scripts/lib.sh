# What the scripts of the methods share, arguments, environment, loops: lib.sh
#
#   DATA      folder of the datasets (data)              BACKBONE  BiomedCLIP, CLIP, PhantomCLIP, … (BiomedCLIP)
#   OUTPUT    folder of all runs (output)                SHOTS     shots of base2new (16)
#   SEEDS     seeds where none is named (1 2 3)          PYTHON    interpreter (.venv's, else python)
#   TARGETS   of xd.sh: datasets or YAML files to test on (all published ones in DATA)
#   DOWNLOAD=1        a published dataset that is not in DATA is fetched first (python -m datasets.download)
#   SEEDS_TOGETHER=1  the seeds of a setting are trained as one batch, by the methods that can
#
# DATASET is the name of a file in configs/datasets, or the path of your own dataset's YAML file.
# Arguments in the form KEY=VALUE or "KEY VALUE" pairs behind "--" are config overrides, passed through.
set -euo pipefail
MORE_HELP="${MORE_HELP:-} ${BASH_SOURCE[0]}"
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"
REPO="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
DATA="${DATA:-data}"
BACKBONE="${BACKBONE:-BiomedCLIP}"
OUTPUT="${OUTPUT:-output}"
SEEDS="${SEEDS:-1 2 3}"
if [ -z "${PYTHON:-}" ]; then
    if [ -x "$REPO/.venv/bin/python" ]; then PYTHON="$REPO/.venv/bin/python"; else PYTHON=python; fi
fi

fail() { echo "error: $*" >&2; exit 2; }

# Splits "$@" into POSITIONAL (before --) and EXTRA (behind it), and takes the published order DATA DATASET MODEL.
parse_arguments() {
    POSITIONAL=() EXTRA=()
    while [ $# -gt 0 ]; do
        if [ "$1" = "--" ]; then shift; EXTRA=("$@"); break; fi
        POSITIONAL+=("$1"); shift
    done
    [ ${#POSITIONAL[@]} -gt 0 ] || fail "no dataset named; datasets: $(dataset_names)"
    if [ ${#POSITIONAL[@]} -ge 2 ] && ! is_dataset "${POSITIONAL[0]}" && is_dataset "${POSITIONAL[1]}"; then
        DATA="${POSITIONAL[0]}"
        POSITIONAL=("${POSITIONAL[@]:1}")
        if [ ${#POSITIONAL[@]} -ge 2 ] && ! [[ "${POSITIONAL[1]}" =~ ^[0-9]+$ ]]; then
            BACKBONE="${POSITIONAL[1]}"
            POSITIONAL=("${POSITIONAL[0]}" "${POSITIONAL[@]:2}")
        fi
    fi
    is_dataset "${POSITIONAL[0]}" || fail "unknown dataset \"${POSITIONAL[0]}\"; datasets: $(dataset_names)(or a YAML file)"
    DATASET_FILE="$(dataset_file "${POSITIONAL[0]}")"
    DATASET="$(basename "$DATASET_FILE")" DATASET="${DATASET%.y*ml}"
    local word
    for word in "${POSITIONAL[@]:1}"; do
        [[ "$word" =~ ^[0-9]+$ ]] || fail "\"$word\" is not a number (shots, seed)"
    done
}

dataset_file() { if [[ "$1" == *.yaml || "$1" == *.yml ]]; then echo "$1"; else echo "$REPO/configs/datasets/$1.yaml"; fi; }
is_dataset() { [ -f "$(dataset_file "$1")" ]; }
dataset_names() { (cd "$REPO/configs/datasets" && ls ./*.yaml | sed 's|^\./||; s|\.yaml$||' | tr '\n' ' '); }

# The dataset's images, fetched where they are asked for and not there; once per script
fetched() {
    [ "${DOWNLOAD:-0}" = 1 ] && [ "${FETCHED:-}" != "$DATASET" ] || return 0
    if [ ! -f "$REPO/datasets/$DATASET.py" ] || [ "$DATASET_FILE" != "$REPO/configs/datasets/$DATASET.yaml" ]; then
        echo "DOWNLOAD=1: $DATASET is no published dataset, nothing is fetched"
    else
        PYTHONPATH="$REPO${PYTHONPATH:+:$PYTHONPATH}" "$PYTHON" -m datasets.download "$DATASET" --root "$DATA"
    fi
    FETCHED="$DATASET"
}

# run METHOD few_shot|base2new|cross_dataset "SHOTS …" "SEEDS …" [train.py arguments]: train.py skips what is done
run() {
    local method="$1" task="$2" shots="$3" seeds="$4"; shift 4
    fetched
    local folder=few_shot config
    [ "$task" != base2new ] || folder=base_to_novel
    config="$REPO/configs/trainers/$method/$folder/$DATASET.yaml"
    [ -f "$config" ] || config="$REPO/configs/trainers/$method/$folder.yaml"
    [ -f "$config" ] || config="$REPO/configs/trainers/$method/few_shot.yaml"  # train.py says why it has no other
    local together=()
    if [ "${SEEDS_TOGETHER:-0}" = 1 ] && [[ " $* " != *" --eval-only "* ]]; then
        STACKABLE="${STACKABLE:-$("$PYTHON" "$REPO/train.py" --list-methods seeds-together)}"
        if [[ " $STACKABLE " == *" $method "* ]]; then
            together=(--seeds-together)
        else
            echo "$method: its seeds cannot be trained together; one after the other"
        fi
    fi
    "$PYTHON" "$REPO/train.py" --root "$DATA" --trainer "$method" --backbone "$BACKBONE" \
        --dataset-config-file "$DATASET_FILE" --config-file "$config" \
        --output-root "$OUTPUT" "$@" ${together[@]+"${together[@]}"} --shots $shots --seeds $seeds --task "$task" ${EXTRA[@]+"${EXTRA[@]}"}
}

# table TASK "SHOTS …" "SEEDS …" METHOD … [parse_results.py arguments]
table() {
    local task="$1" shots="$2" seeds="$3"; shift 3
    "$PYTHON" "$REPO/parse_results.py" "$OUTPUT" --task "$task" --datasets "$DATASET_FILE" --backbones "$BACKBONE" \
        --shots $shots --seeds $seeds --methods "$@"
}

# base2new METHOD [--eval-only] DATASET [SEED]
base2new() {
    local method="$1" flags=(); shift
    if [ "${1:-}" = --eval-only ]; then flags=(--eval-only); shift; fi
    parse_arguments "$@"
    local seeds="${POSITIONAL[1]:-$SEEDS}" shots="${SHOTS:-16}"
    run "$method" base2new "$shots" "$seeds" ${flags[@]+"${flags[@]}"}
    table base2new "$shots" "$seeds" "$method"
}

# few_shot METHOD [--eval-only] DATASET [SHOTS] [SEED]
few_shot() {
    local method="$1" flags=(); shift
    if [ "${1:-}" = --eval-only ]; then flags=(--eval-only); shift; fi
    parse_arguments "$@"
    local shots="${POSITIONAL[1]:-${SHOTS:-1 2 4 8 16}}" seeds="${POSITIONAL[2]:-$SEEDS}"
    run "$method" few_shot "$shots" "$seeds" ${flags[@]+"${flags[@]}"}
    table few_shot "$shots" "$seeds" "$method"
}

# xd METHOD [--eval-only] SOURCE [SEED]: train on SOURCE (its few_shot run, where that is done), test on TARGETS
xd() {
    local method="$1" flags=() targets=(); shift
    if [ "${1:-}" = --eval-only ]; then flags=(--eval-only); shift; fi
    parse_arguments "$@"
    local seeds="${POSITIONAL[1]:-$SEEDS}" shots="${SHOTS:-16}"
    [ -z "${TARGETS:-}" ] || read -r -a targets <<< "$TARGETS"
    run "$method" cross_dataset "$shots" "$seeds" ${flags[@]+"${flags[@]}"} ${targets[@]+--targets "${targets[@]}"}
    "$PYTHON" "$REPO/parse_results.py" "$OUTPUT" --task cross_dataset --sources "$DATASET_FILE" --backbones "$BACKBONE" \
        --shots $shots --seeds $seeds --methods "$method"
}
