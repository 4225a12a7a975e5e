"""features, backbones.download, doctor, explain.prompts; and a dozen lines for a shell."""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.torch import save

from features.disk import KEY_BYTES, checksum
from tests.faults.fault import FIFO, FOLDER, Fault, link, sealed
from tests.faults.table_predict import png
from tests.faults.table_train import NESTED

STORE, PLACE, NAME, NUMBER, NETWORK, SHELL = (
    "the feature store", "a place to write", "an unknown name", "a setting's value", "the network", "a script's arguments")  # fmt: skip
ABOUT = json.dumps({"kind": "image", "backbone": "x"})


def store(what: str, command: str, line: str, code: int, **given: Any) -> Fault:
    """A store of this content."""
    things = {name.replace("__", "/").replace("_dot_", "."): content for name, content in given.items()}
    return Fault(STORE, what, f"-m features --root store {command}", line, code, given=things)


def segment(**changed: torch.Tensor) -> bytes:
    """A segment of two rows that fits its checksum, with another tensor in place of one of its own."""
    whole = {"keys": torch.zeros(2, KEY_BYTES, dtype=torch.uint8), "rows": torch.ones(2, 4)} | changed
    return save(whole, metadata={"checksum": checksum(whole["keys"], whole["rows"])})


STORES = [
    store("not there", "ls", "store: 0.0 MiB", 0),
    store("a file", "ls", "store: 0.0 MiB", 0, store="mine"),
    store("a segment of garbage", "verify", "cannot be read", 1, store__a__space_dot_json=ABOUT, store__a__x_dot_safetensors=b"garbage"),
    store("a segment that is empty", "verify", "cannot be read", 1, store__a__space_dot_json=ABOUT, store__a__x_dot_safetensors=b""),
    store("a negative size to prune to", "prune --max-gb -1", "--max-gb", 2),
    store("a size of NaN to prune to", "prune --max-gb nan", "--max-gb", 2),
    store("an endless size to prune to", "prune --max-gb inf", "--max-gb", 2),
    store("a link among the spaces, pruned", "prune --max-gb 0", "store/a is a link", 2, mine__space_dot_json=ABOUT,
          mine__x_dot_safetensors=b"0" * 99, store__a=link("../mine")),
    store("a link as a segment, pruned", "prune --max-gb 0", "removed store/a", 0, mine="precious", store__a__space_dot_json=ABOUT,
          store__a__x_dot_safetensors=link("../../mine")),
    store("keys without dimension", "verify", "segment", 1, store__a__space_dot_json=ABOUT, store__a__x_dot_safetensors=segment(keys=torch.tensor(3, dtype=torch.uint8))),
    store("rows without dimension", "verify", "segment", 1, store__a__space_dot_json=ABOUT, store__a__x_dot_safetensors=segment(rows=torch.tensor(3.0))),
    store("keys of a wrong width", "verify", "segment", 1, store__a__space_dot_json=ABOUT,
          store__a__x_dot_safetensors=segment(keys=torch.zeros(2, 7, dtype=torch.uint8))),
    store("rows of integers", "verify", "segment", 1, store__a__space_dot_json=ABOUT, store__a__x_dot_safetensors=segment(rows=torch.ones(2, 4, dtype=torch.int64))),
    store("space.json of garbage", "ls", "no readable space.json", 0, store__a__space_dot_json="{"),
    store("space.json a list", "ls", "no readable space.json", 0, store__a__space_dot_json="[1]"),
    store("space.json nested 100,000 deep", "ls", "no readable space.json", 0, store__a__space_dot_json=NESTED),
    store("space.json that is no UTF-8", "prune --max-gb 9", "", 0, store__a__space_dot_json=b"\xff\xfe"),
    store("no command", "", "required", 2),
]  # fmt: skip

DOWNLOADS = [
    Fault(NAME, "backbones.download: no such backbone", "-m backbones.download Clipp", "Clipp"),
    Fault(NUMBER, "backbones.download: --timeout 0", "-m backbones.download CLIP --to x --timeout 0", "--timeout"),
    Fault(NUMBER, "backbones.download: --attempts 0", "-m backbones.download CLIP --to x --attempts 0", "--attempts"),
    Fault(PLACE, "backbones.download: --to is a file", "-m backbones.download CLIP --to x --attempts 1 --timeout 1", "x", given={"x": "mine"}),
    Fault(PLACE, "backbones.download: --to below a file", "-m backbones.download CLIP --to x/y --attempts 1 --timeout 1", "x", given={"x": "mine"}),
    Fault(PLACE, "backbones.download: nobody may write there", "-m backbones.download CLIP --to x/y --attempts 1 --timeout 1", "x",
          given={"x": sealed(FOLDER, 0o555)}),
    Fault("arguments that do not fit", "backbones.download: a backbone that ships with the project", "-m backbones.download PhantomCLIP --to x",
          "PhantomCLIP"),
]  # fmt: skip

DOCTOR = [
    Fault(NAME, "doctor: no such dataset", "-m doctor btmrii", "btmrii"),
    Fault(NAME, "doctor: no such backbone", "-m doctor --backbone Clipp", "Clipp"),
    Fault(NAME, "doctor: no such dataset's file", "-m doctor nowhere.yaml", "no config file nowhere.yaml", 1),
    Fault("a config file", "doctor: a dataset's file of garbage", "-m doctor own.yaml", "own.yaml", 1, given={"own.yaml": "DATASET: ["}),
    Fault("a config file", "doctor: a dataset's file nested 100,000 deep", "-m doctor own.yaml", "own.yaml", 1, given={"own.yaml": NESTED}),
    Fault(PLACE, "doctor: an output that is a file", "-m doctor {world}/mine.yaml --backbone PhantomCLIP --output out", "FAIL", 1,
          given={"out": "mine"}),
]  # fmt: skip

PROMPTS = [
    Fault("a prompts file", f"explain.prompts: {what}", "-m explain.prompts p.json --backbone PhantomCLIP --dataset {world}/mine.yaml",
          "fault: p.json", 1, given={"p.json": content})
    for what, content in (("empty", ""), ("nested 100,000 deep", NESTED), ("no UTF-8", b"\xff\xfe\0"), ("a list", "[1]"))
] + [
    Fault(NAME, "explain.prompts: no such backbone", "-m explain.prompts --backbone Clipp", "Clipp"),
]  # fmt: skip

PYTHON = '"$PYTHON"'
SHELLS = [
    Fault(SHELL, "none", "$ bash {repo}/scripts/coop/few_shot.sh", "no dataset named"),
    Fault(SHELL, "a dataset that is not known", "$ bash {repo}/scripts/coop/few_shot.sh btmrii", 'unknown dataset "btmrii"'),
    Fault(SHELL, "shots in words", "$ bash {repo}/scripts/coop/few_shot.sh btmri many", 'many" is not a number'),
    Fault(SHELL, "a dataset's file that is a folder", "$ bash {repo}/scripts/coop/few_shot.sh own.yaml", "unknown dataset", given={"own.yaml": FOLDER}),
    Fault(SHELL, "images that are not there", "$ DATA=nowhere BACKBONE=PhantomCLIP OUTPUT=out bash {repo}/scripts/coop/base2new.sh busi 1", "no BUSI images"),
    Fault(SHELL, "an override without value", "$ BACKBONE=PhantomCLIP OUTPUT=out bash {repo}/scripts/coop/few_shot.sh {world}/mine.yaml 2 1 -- OPTIM.LR",
          "has no value"),
    Fault("an image", "is a FIFO, in a process of its own", f"$ {PYTHON} {{repo}}/predict.py {{run}} a.png", "not a regular file", 3, given={"a.png": FIFO}),
    Fault("a file's name", "no UTF-8, in a process of its own under LANG=C",
          f"$ LANG=C LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {PYTHON} {{repo}}/predict.py {{run}} many", "is no UTF-8: rename it", given={"many/caf\udce9.png": png()}),
    Fault("a reader that goes", "head takes one line", f"$ {PYTHON} {{repo}}/parse_results.py {{world}}/out | head -1", "", 0),
    Fault("interruption", "Ctrl-C while training",
          f"$ timeout --preserve-status -s INT 6 {PYTHON} {{repo}}/train.py {{train}} OPTIM.MAX_EPOCH 99999; status=$?; rm -rf out; exit $status",
          "interrupted: what was finished is kept", 130),
    Fault("a place to write", "standard output that is full", f"$ {PYTHON} {{repo}}/parse_results.py {{world}}/out > /dev/full", "No space left on device"),
]  # fmt: skip

FAULTS = [*STORES, *DOWNLOADS, *DOCTOR, *PROMPTS, *SHELLS]
