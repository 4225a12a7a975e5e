"""Programs called with drawn command lines and overrides, and with files of which bytes or nodes were changed.

Whatever comes, ``main`` returns a status that is documented, or argparse ends with 2: nothing is raised, no traceback printed.
``FUZZ`` in the environment is how many cases each test takes.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from datasets.config import flat_keys
from runs.config import default_config
from tests.faults.running import End, called
from tests.faults.world import words
from tests.test_faults import world

__all__ = ["world"]  # the fixture

CASES = int(os.environ.get("FUZZ", "0"))
STATUSES = {0, 1, 2, 3, 130}


def cases(default: int) -> Any:
    """Hypothesis's settings for a test that takes so many cases when nobody asks for more."""
    return settings(
        max_examples=CASES or default,
        deadline=None,
        derandomize=not CASES,  # the same cases in every plain run
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def sound(end: End) -> None:
    """What holds of every end."""
    assert end.code in STATUSES and "Traceback" not in end.out + end.err, (end.out + end.err)[-3000:]
    if end.code == 2 and "usage: " not in end.err:
        assert any(line.startswith("error: ") for line in end.err.splitlines()), end.err  # datasets.check: a line for each


# -- command lines and overrides ----------------------------------------------------------------------------

KEYS = sorted(flat_keys(default_config()))
ODD = [
    *"nan inf -inf 1e999 -1 0 1 2 0.5 -0.0 True None '' [] [1] () (0,) {} x é 1_0 0x10 1j b'x' ... [None] [[]] %s {}{}".split(),
    *(
        "\ud800",
        "\x1b",
        " ",
        "--",
        "[" * 300,
        "9" * 4500,
        str(2**64),
        "lambda: 0",
        "__import__('os')",
        "a\nb",
        "['a', 'a']",
        "${HOME}",
    ),
]
# what would load large weights, take long by rights, or write elsewhere
LEFT_OUT = (
    "MODEL.BACKBONE.COMPILE OPTIM.MAX_EPOCH MODEL.BACKBONE.NAME OUTPUT_DIR FEATURES.ROOT RESUME DATALOADER.NUM_WORKERS "
    "TRAINER.NAME USE_CUDA FEATURES.VIEWS INPUT.SIZE"
).split()
KEY = st.one_of(
    st.sampled_from([key for key in KEYS if key not in LEFT_OUT]), st.sampled_from(["", "OPTIM", "X.Y", "OPTIM.LRR"])
)
VALUE = st.one_of(st.sampled_from(ODD), st.integers(-3, 10**6).map(str), st.floats().map(str), st.text(max_size=12))
PAIRS = st.lists(st.tuples(KEY, VALUE), min_size=1, max_size=3)
OPTIONS = (
    "--root --output-dir --task --shots --seeds --seed --trainer --backbone --config-file --map --dataset-config-file "
    "--eval-only "
    "--model-dir --load-epoch --no-train --list-methods --top-k --batch-size --format --epoch --classnames --device --metric "
    "--paired --ablation --datasets --json --max-gb ls verify prune --show --bands --hm few_shot base2new"
).split()
WORD = st.one_of(
    st.sampled_from(OPTIONS),
    st.sampled_from(ODD),
    st.sampled_from(
        ["{run}", "{world}", "{world}/mine.yaml", "CoOp", "fifo", "fifo.json", "/dev/zero", "/dev/stdin", "999999999"]
    ),
)
PROGRAMS = (
    "train.py predict.py parse_results.py features datasets.check datasets.new analysis.metrics analysis.check "
    "datasets.prompts.check datasets.prompts.convert doctor explain export.py"
).split()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder of the cases, with files in it that never end."""
    folder = tmp_path_factory.mktemp("cases").resolve()
    for name in ("fifo", "fifo.json"):
        os.mkfifo(folder / name)
    yield folder


@cases(1000)
@given(pairs=PAIRS)
def test_overrides(pairs: list[tuple[str, str]], world: Path, place: Path) -> None:
    """A config that is taken is built and not trained: what training refuses is in the table of faults."""
    known = words(world)
    command = "{base} {own} {method} --seed 1 --no-train --output-dir out DATASET.NUM_SHOTS 1".format(**known).split()
    sound(called("train.py", [*command, *(word for pair in pairs for word in pair), "USE_CUDA", "False"], place))


@cases(1000)
@given(program=st.sampled_from(PROGRAMS), line=st.lists(WORD, max_size=5))
def test_command_lines(program: str, line: list[str], world: Path, place: Path) -> None:
    """What needs a network is refused offline; what trains is cut short by the world's few images."""
    known = words(world)
    sound(
        called(program, [word.format(**known) if word.startswith("{") and word[1:2] in "rw" else word for word in line], place)
    )


# -- files ---------------------------------------------------------------------------------------------------

SEEDS = st.integers(0, 2**32)
NODES = [None, True, -1, 0, 1, 1.5, 10**30, float("nan"), float("inf"), "", "x", "\ud800", "\0", "../x", [], [1], {}, {"x": 1}]


def nodes(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all nodes below the root."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inside:
        yield (*path, key)
        yield from nodes(value, (*path, key))


def changed_tree(text: str, stream: random.Random) -> str:
    """JSON with a node replaced, removed or doubled."""
    tree = json.loads(text)
    for _ in range(stream.randint(1, 3)):
        places = list(nodes(tree))
        if not places:
            break
        *above, last = stream.choice(places)
        node = tree
        for key in above:
            node = node[key]
        kind = stream.random()
        if kind < 0.7:
            node[last] = copy.deepcopy(stream.choice(NODES))
        elif kind < 0.85:
            del node[last]
        elif isinstance(node, list):
            node.append(node[last])
        else:
            node[f"{last}x"] = node[last]
    return json.dumps(tree)


def changed_bytes(raw: bytes, stream: random.Random) -> bytes:
    """Bytes flipped, cut out, doubled, or the end lost."""
    data = bytearray(raw)
    for _ in range(stream.randint(1, 4)):
        at = stream.randrange(len(data) + 1)
        kind = stream.randrange(4)
        if kind == 0 and at < len(data):
            data[at] = stream.randrange(256)
        elif kind == 1:
            del data[at : at + stream.randint(1, 30)]
        elif kind == 2:
            data[at:at] = data[at : at + 30]
        elif stream.random() < 0.3:
            del data[at:]
    return bytes(data)


def changed(text: str, seed: int) -> bytes:
    """One of the two."""
    stream = random.Random(seed)
    return changed_tree(text, stream).encode() if stream.random() < 0.6 else changed_bytes(text.encode(), stream)


@cases(120)
@given(seed=SEEDS)
def test_results_files(seed: int, world: Path, place: Path) -> None:
    folder = place / "all" / "few_shot" / "mine" / "shots_2" / "CoOp_PhantomCLIP" / "x" / "seed1"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "log.txt", "predictions.csv.gz", "prompt_learner", "tensorboard"):
        if not (folder / name).exists():
            (folder / name).symlink_to(world / "finished" / name)
    (folder / "results.json").write_bytes(changed((world / "finished" / "results.json").read_text(), seed))
    program = ("parse_results.py", "analysis.metrics", "analysis.check")[seed % 3]
    sound(called(program, ["all" if seed % 3 != 1 else str(folder)], place))


@cases(120)
@given(seed=SEEDS)
def test_split_files(seed: int, world: Path, place: Path) -> None:
    folder = place / "data" / "BTMRI"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "BTMRI").exists():
        (folder / "BTMRI").symlink_to(world / "images")
    (folder / "split_BTMRI.json").write_bytes(changed((world / "split.json").read_text(), seed))
    sound(called("datasets.check", ["btmri", "--root", "data"], place))
    if seed % 4 == 0:
        line = "--root data --trainer CoOp --backbone PhantomCLIP --dataset-config-file {configs}/datasets/btmri.yaml {method} "
        line += "--no-train --output-dir out DATASET.NUM_SHOTS 1 USE_CUDA False"
        sound(called("train.py", line.format(**words(world)).split(), place))


NAMES = {"dark": "a", "grey": "b", "bright": "c"}
WORDS = {"NAME": "ImageFolderSplit", "FOLDER": "images", "MODALITY": "photograph", "ORGAN": "skin", "TITLE": "mine"}
OWN = {**WORDS, "TEMPLATE": "a {}.", "CLASSNAMES": NAMES, "EXCLUDE": ["x*"], "INCLUDE": [], "SPLIT_SEED": 3}
DATASET = {"DATASET": OWN, "INPUT": {"WINDOW": [0, 255], "SLICE": -1, "EXIF": False}}


@cases(120)
@given(seed=SEEDS)
def test_dataset_files(seed: int, world: Path, place: Path) -> None:
    raw = changed(json.dumps(DATASET), seed)
    if seed % 2 and not raw.startswith(b"{"):
        raw = yaml.safe_dump(DATASET).encode()
    (place / "mine.yaml").write_bytes(raw)
    sound(called("datasets.check", ["mine.yaml", "--root", str(world)], place))
    if seed % 4 == 0:
        line = "{base} --dataset-config-file mine.yaml {method} --no-train --output-dir out DATASET.NUM_SHOTS 1 USE_CUDA False"
        sound(called("train.py", line.format(**words(world)).split(), place))
