"""Splits, statistics, prompts, phantoms and the engine's schedule, each against its definition."""

from __future__ import annotations

import json
import math
import os
import random
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis import stats
from analysis.files import write_whole
from analysis.results import read_log
from dassl.config import get_cfg_default
from dassl.optim import build_lr_scheduler
from dassl.utils import UserError, write_json
from datasets import phantom, splits
from datasets.prompts import load_prompts

SPLIT = {
    "train": [(f"c{n % 3}/{n}.png", (n + 1) % 3, f"class {(n + 1) % 3}") for n in range(60)],
    "val": [(f"c{n % 3}/v{n}.png", n % 3, f"class {n % 3}") for n in range(21)],
    "test": [(f"c{n % 3}/t{n}.png", n % 3, f"class {n % 3}") for n in range(9)],
}


@pytest.mark.parametrize("shots, seed", [(1, 1), (4, 2), (16, 3), (64, 1)])
def test_few_shot_draw_is_random_sample_per_label_in_order_of_appearance(shots: int, seed: int) -> None:
    random.seed(seed)
    want = {}
    for part, k in (("train", shots), ("val", min(shots, 4))):
        groups: dict[int, list] = {}
        for row in SPLIT[part]:
            groups.setdefault(row[1], []).append(row)
        want[part] = [r for rows in groups.values() for r in (random.sample(rows, k) if len(rows) >= k else rows)]
    random.seed(99)
    before = random.getstate()
    drawn = splits.draw_few_shot(SPLIT, shots, seed)
    assert random.getstate() == before
    assert {part: drawn[part] for part in want} == want and drawn["test"] == SPLIT["test"]


def test_the_draw_is_kept_and_read_back(tmp_path: Path) -> None:
    first = splits.cached_few_shot(SPLIT, 4, 1, tmp_path)
    (kept,) = (tmp_path / "split_fewshot").iterdir()
    assert json.loads(kept.read_text())["split"] == splits.split_hash(SPLIT)
    assert splits.cached_few_shot(SPLIT, 4, 1, tmp_path) == first == splits.draw_few_shot(SPLIT, 4, 1)
    record = json.loads(kept.read_text())
    assert record["num_shots"] == 4 and record["seed"] == 1 and len(record["train"]) == 12
    marked = [*record["train"][1:], ["c0/other.png", 1, "class 1"]]  # another draw than that of the seed: it is what is read
    kept.write_text(json.dumps(record | {"train": marked}))
    again = splits.cached_few_shot(SPLIT, 4, 1, tmp_path)
    assert again["train"] == [tuple(row) for row in marked] and again["test"] == SPLIT["test"] and again["val"] == first["val"]
    assert splits.cached_few_shot(SPLIT, 4, 2, tmp_path)["train"] == splits.draw_few_shot(SPLIT, 4, 2)["train"]
    other = SPLIT | {"test": SPLIT["test"][1:]}  # another split of the same place: never this draw
    assert splits.cached_few_shot(other, 4, 1, tmp_path) == splits.draw_few_shot(other, 4, 1)
    for bad in (
        "",
        "[1]",
        json.dumps(record | {"split": "of another", "train": marked}),
        json.dumps({"split": splits.split_hash(SPLIT)}),
        json.dumps(record | {"train": 3}),
    ):
        kept.write_text(bad)
        assert splits.cached_few_shot(SPLIT, 4, 1, tmp_path) == first and json.loads(kept.read_text()) == record


@given(st.integers(1, 12))
def test_base_and_new_share_all_classes(count: int) -> None:
    split = {part: [(f"{n}.png", n, str(n)) for n in range(count)] for part in splits.PARTS}
    base = splits.select_classes(split, "base")["train"]
    assert [name for _, _, name in base] == [str(n) for n in range(math.ceil(count / 2))]
    if count > 1:
        new = splits.select_classes(split, "new")["train"]
        assert [label for _, label, _ in new] == list(range(count // 2))
        assert len(base) + len(new) == count


@pytest.mark.parametrize(
    "bad, what",
    [({"train": []}, "must hold the lists"), ({"train": [["a", "0", "x"]], "val": [], "test": []}, r"train\[0\]"),
     ({"train": [["../a", 0, "x"]], "val": [], "test": [["b", 0, "x"]]}, "below the image folder"),
     ({"train": [["a", 0, "x"], ["b", 0, "y"]], "val": [], "test": []}, "label 0")],
)  # fmt: skip
def test_a_bad_split_file_is_named(bad, what, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(bad))
    with pytest.raises(UserError, match=what):
        splits.read_split(path)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=8))
def test_interval_from_the_definition(values: list[float]) -> None:
    t = {2: 12.7062, 3: 4.3027, 4: 3.1824, 5: 2.7764, 6: 2.5706, 7: 2.4469, 8: 2.3646}[len(values)]
    want = t * statistics.stdev(values) / math.sqrt(len(values))
    assert stats.ci95(values) == pytest.approx(want, rel=1e-4, abs=1e-9)


def test_the_three_averages_called_hm() -> None:
    pairs = [(90.0, 60.0), (50.0, 80.0)]
    assert stats.average_hm(pairs, "of-averages") == pytest.approx(2 * 70 * 70 / 140)
    assert stats.average_hm(pairs, "of-datasets") == pytest.approx((72 + 2 * 50 * 80 / 130) / 2)
    assert stats.average_hm(pairs, "arithmetic") == pytest.approx(70)


def test_dassl_logs_are_read(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("=> result\n* total: 9\n* accuracy: 83.21%\n* macro_f1: 80.5%\n")
    assert read_log(log) == {"accuracy": 83.21, "macro_f1": 80.5}


def test_missing_or_too_few_prompts_are_errors() -> None:
    with pytest.raises(UserError, match="no LLM prompts"):
        load_prompts("no_such_dataset", ["x"], 50)
    with pytest.raises(UserError, match="50 prompts"):
        load_prompts("btmri", ["normal brain"], 51)


@pytest.mark.parametrize("key", phantom.KEYS)
def test_phantoms_are_a_function_of_their_number(key: str) -> None:
    for name in phantom.module(key).CLASSES:
        one, same, other = (phantom.draw(key, name, 0, n, 64) for n in (0, 0, 1))
        assert np.array_equal(one.image, same.image) and not np.array_equal(one.image, other.image)
        assert one.image.dtype == np.uint8 and one.image.shape[:2] == one.mask.shape == (64, 64)
        drawn = np.random.default_rng(5)
        captions = [phantom.caption(key, name, one.attributes, drawn) for _ in range(40)]
        assert any(one.attributes["finding"] in text for text in captions) and any(name in text for text in captions)


def test_cosine_with_constant_warm_up_from_the_definition() -> None:
    cfg = get_cfg_default().OPTIM
    cfg.merge_from_list(["LR_SCHEDULER", "cosine", "MAX_EPOCH", 50, "WARMUP_EPOCH", 1, "WARMUP_TYPE", "constant"])
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.0025)
    scheduler = build_lr_scheduler(optimiser, cfg)
    rates = []
    for _ in range(50):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    want = [1e-5] + [0.5 * 0.0025 * (1 + math.cos(math.pi * (k - 2) / 50)) for k in range(2, 51)]
    assert rates == pytest.approx(want, rel=1e-9)


def test_nothing_is_written_over_what_is_no_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for write in (lambda: write_json({}, str(pipe)), lambda: write_whole(pipe, "text")):
        with pytest.raises(OSError, match="not a regular file"):
            write()
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]
