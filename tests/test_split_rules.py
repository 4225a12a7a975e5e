"""What a split file may hold, how a split is drawn by images and by groups, and what is said of it."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from dassl.utils import UserError
from datasets import splits
from datasets.grouped import groups_to_parts, regrouped
from datasets.groups import Grouping, Groups, by_pattern, groups_of
from datasets.made_splits import Sample, part_of, split_of
from tests.test_parts import SPLIT

CLASSES = {"b": (0, "beta"), "a": (1, "alpha")}  # label order is not that of names


def written(path: Path, **parts: list) -> Path:
    path.write_text(json.dumps({"train": [["a.png", 0, "x"]], "val": [], "test": [["b.png", 0, "x"]]} | parts))
    return path


@pytest.mark.parametrize(
    "row, said",
    [
        (["c.png", 2, "y"], "no image has the label 1"), (["c.png", 1, "  "], "label 1 has no class name"),
        (["c.png", 1, "x"], 'the labels 0 and 1 are both called "x"'), (["c.png", 0, "x", "more"], "is not"),
        (["c.png", True, "y"], "is not"), (["C:/c.png", 0, "x"], "below"), (["/c.png", 0, "x"], "below"),
        (["a/../c.png", 0, "x"], "below"), (["c.png", -1, "y"], "below"), (["c.png", 0, "z"], 'label 0 is "z" here'),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_is_refused(row: list, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        splits.read_split(written(tmp_path / "s.json", val=[row]))


def test_what_a_split_file_says_is_what_is_read(tmp_path: Path) -> None:
    split = splits.read_split(written(tmp_path / "s.json", val=[["d\\e.png", 1, "y"]]))
    assert split == {"train": [("a.png", 0, "x")], "val": [("d/e.png", 1, "y")], "test": [("b.png", 0, "x")]}
    for part in ("train", "test"):
        with pytest.raises(UserError, match=f"no images to {part}"):
            splits.read_split(written(tmp_path / "s.json", **{part: []}))


def test_the_hash_covers_every_part() -> None:
    seen = {splits.split_hash(SPLIT | {part: SPLIT[part][1:]}) for part in splits.PARTS} | {splits.split_hash(SPLIT)}
    assert len(seen) == 4


@pytest.mark.parametrize("shots", [4, 16])
def test_the_draw_is_that_of_the_seed_and_leaves_the_stream_alone(shots: int) -> None:
    random.seed(5)
    before = random.getstate()
    one, two = (splits.draw_few_shot(SPLIT, shots, seed) for seed in (1, 2))
    assert random.getstate() == before and one["train"] != two["train"]
    assert Counter(label for _, label, _ in one["val"]) == {0: 4, 1: 4, 2: 4}
    assert Counter(label for _, label, _ in one["train"]) == {0: shots, 1: shots, 2: shots}


def test_draws_are_kept_once_by_seed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "data"
    folder.mkdir()
    for seed in (1, 2, 1):
        assert splits.cached_few_shot(SPLIT, 4, seed, folder) == splits.draw_few_shot(SPLIT, 4, seed)
    assert len(list((folder / "split_fewshot").iterdir())) == 2 and not (tmp_path / "home").exists()


def test_halves_of_the_classes_count_from_0() -> None:
    split = {part: [(f"{n}{part}.png", n, str(n)) for n in range(5)] for part in splits.PARTS}
    base, new = (splits.select_classes(split, half) for half in ("base", "new"))
    for part in splits.PARTS:
        assert base[part] == [(f"{n}{part}.png", n, str(n)) for n in (0, 1, 2)]
        assert new[part] == [(f"{n}{part}.png", n - 3, str(n)) for n in (3, 4)]
    with pytest.raises(UserError, match="1 classes leave none for the new half"):
        splits.select_classes({part: [("a.png", 0, "x")] for part in splits.PARTS}, "new")


def test_what_is_repeated_is_told() -> None:
    empty = {part: [] for part in splits.PARTS}
    row, other = ("a.png", 0, "x"), ("a.png", 1, "y")
    assert splits.repeated(empty | {"train": [row], "val": [row]}) == []
    assert splits.repeated(empty | {"train": [row], "test": [row]}) == [
        "1 test images are training or validation images too, first a.png"
    ]
    assert splits.repeated(empty | {"train": [row], "val": [other]}) == ["1 images have two labels, first a.png"]
    assert splits.repeated(empty | {"test": [row, row]}) == ["1 images stand twice in a part, first a.png"]


def test_what_is_short_is_told() -> None:
    rows = [("1.png", 0, "x"), ("2.png", 0, "x"), ("3.png", 1, "y")]
    split = {"train": rows, "val": [], "test": [("t.png", 0, "x"), ("u.png", 2, "z")]}
    assert splits.shortages(split, 2, trained=True) == [
        "no training images of z", "no test images of y", "fewer training images than 2 shots, all of them taken: y 1",
    ]  # fmt: skip
    assert splits.shortages(split, 2, trained=False) == ["no test images of y"]


def test_shots_that_nobody_can_mean() -> None:
    for shots in (0, -2, splits.MOST_SHOTS + 1):
        with pytest.raises(UserError, match=f"NUM_SHOTS is {shots},"):
            splits.check_shots(shots)
    for shots in (-1, 1, splits.MOST_SHOTS):
        splits.check_shots(shots)


def test_the_hash_of_files_is_of_paths_labels_parts_and_sizes(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"x")
    split = {"train": [("a", 0, "x")], "val": [], "test": [("b", 0, "x")]}
    seen = [splits.files_hash(tmp_path, split)]
    seen.append(splits.files_hash(tmp_path, split | {"test": [("b", 1, "x")]}))
    seen.append(splits.files_hash(tmp_path, split | {"val": [("b", 0, "x")], "test": []}))
    (tmp_path / "b").write_bytes(b"xy")
    seen.append(splits.files_hash(tmp_path, split))
    assert len(set(seen)) == 4
    with pytest.raises(UserError, match=r"1 images of the split are not in .*, first c"):
        splits.files_hash(tmp_path, split | {"val": [("c", 0, "x")]})
    (tmp_path / "d").mkdir()
    with pytest.raises(UserError, match="is a folder or a device"):
        splits.files_hash(tmp_path, split | {"val": [("d", 0, "x")]})


# -- splits that are made ---------------------------------------------------------------------------------


def samples(count: int, part: str = "", group: str = "") -> list[Sample]:
    return [Sample(f"{key}/{n}.png", key, part, group and f"{group}{key}{n // 2}") for key in CLASSES for n in range(count)]


@pytest.mark.parametrize("count, sizes", [(3, (1, 1, 1)), (4, (2, 1, 1)), (5, (2, 1, 2)), (10, (5, 2, 3)), (33, (16, 7, 10))])
def test_every_part_has_an_image_of_each_class(count: int, sizes: tuple[int, int, int]) -> None:
    split, _ = split_of(samples(count), CLASSES, 1, "here")
    for part, size in zip(splits.PARTS, sizes, strict=True):
        assert Counter(name for _, _, name in split[part]) == {"alpha": size, "beta": size}
        assert [label for _, label, _ in split[part]] == [0] * size + [1] * size
    assert all(CLASSES[path[0]] == (label, name) for rows in split.values() for path, label, name in rows)


def test_a_made_split_is_drawn_by_seed_and_class() -> None:
    one, same, other = (split_of(samples(20), CLASSES, seed, "here")[0] for seed in (1, 1, 2))
    assert one == same != other
    assert len({tuple(path[2:] for path, label, _ in one["train"] if label == n) for n in (0, 1)}) == 2
    order = [f"b/{n}.png" for n in range(20)]
    random.Random("split/1/beta").shuffle(order)
    assert [path for path, label, _ in one["train"] if label == 0] == order[:10]


def test_parts_that_are_given_stay() -> None:
    given = [*samples(8, "train"), *(Sample(f"{key}/t{n}.png", key, "test") for key in CLASSES for n in range(3))]
    split, notes = split_of(given, CLASSES, 1, "here")
    assert len(split["test"]) == 6 and all("/t" in path for path, _, _ in split["test"])
    assert len(split["train"]) + len(split["val"]) == 16 and len(split["val"]) == 4
    assert notes[0] == "parts as given: 16 train, 6 test"
    with pytest.raises(UserError, match="b holds 2 images; a split needs at least 3"):
        split_of(samples(2), CLASSES, 1, "here")
    whole = [*samples(2, "train"), *samples(2, "val"), Sample("a/t.png", "a", "test")]
    assert split_of(whole, CLASSES, 1, "here")[1][-1] == 'no test images of the class "beta"'
    with pytest.raises(UserError, match='no training images of the class "beta"'):
        split_of([one for one in whole if one.part != "train" or one.key == "a"], CLASSES, 1, "here")


def test_groups_stay_whole_and_torn_ones_are_told() -> None:
    split, notes = split_of(samples(40, group="g"), CLASSES, 1, "here")
    part = {path: part for part, rows in split.items() for path, _, _ in rows}
    assert all(part[f"{key}/{n}.png"] == part[f"{key}/{n + 1}.png"] for key in CLASSES for n in range(0, 40, 2))
    for name in ("alpha", "beta"):
        counts = [sum(row[2] == name for row in split[one]) for one in splits.PARTS]
        assert all(abs(count - wanted) <= 2 for count, wanted in zip(counts, (20, 8, 12), strict=True))
    assert notes == ["40 groups, each whole in one part"]
    torn = [Sample(f"{key}/{one}{n}.png", key, one, f"{key}{n}") for key in CLASSES for one in splits.PARTS[:2] for n in (0, 1)]
    _, notes = split_of([*torn, *(Sample(f"{key}/t", key, "test") for key in CLASSES)], CLASSES, 1, "here")
    assert notes[-1] == "4 of 4 groups have images in more than one part of the split"
    two = [Sample(f"{key}/{n}", key, "", f"{key}{n % 2}") for key in CLASSES for n in range(9)]
    with pytest.raises(UserError, match="the groups leave no"):
        split_of([one for one in two if one.group != "a1"], CLASSES, 1, "here")


@pytest.mark.parametrize("folder, part", [("Training_set", "train"), ("valid", "val"), ("Test images", "test"), ("tests", "")])
def test_folders_named_as_parts(folder: str, part: str) -> None:
    assert part_of(folder) == part


def best_part(groups: dict, wanted: dict, seed: int) -> dict[str, str]:
    """The rule of the docstring, written out: each group to the part whose squared misses it lessens most."""
    draw = random.Random(f"split/{seed}/groups")
    weight = {name: sum(groups[name].values()) * (1 + draw.random()) for name in sorted(groups)}
    have = dict.fromkeys(wanted, 0)
    chosen = {}
    for name in sorted(weight, key=lambda one: -weight[one]):

        def after(part: str, name: str = name) -> float:
            return sum(((have[part, k] + n - wanted[part, k]) ** 2 - (have[part, k] - wanted[part, k]) ** 2) / wanted[part, k]
                       for k, n in groups[name].items())  # fmt: skip

        chosen[name] = min(dict.fromkeys(part for part, _ in wanted), key=after)
        for k, n in groups[name].items():
            have[chosen[name], k] += n
    return chosen


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_groups_go_where_they_lessen_the_misses_most(seed: int) -> None:
    draw = random.Random(seed)
    groups = {f"g{n}": {key: draw.randint(1, 9) for key in "xyz"[: draw.randint(1, 3)]} for n in range(40)}
    totals = Counter()
    for own in groups.values():
        totals.update(own)
    wanted = {
        (part, key): totals[key] * share for part, share in (("train", 0.5), ("val", 0.2), ("test", 0.3)) for key in totals
    }
    chosen = groups_to_parts(groups, wanted, seed)
    assert chosen == best_part(groups, wanted, seed) and chosen != groups_to_parts(groups, wanted, seed + 1)


def test_a_split_by_groups_keeps_lone_images_apart() -> None:
    split = {
        part: [(f"{n}{part}", n % 2, str(n % 2)) for n in range(size)]
        for part, size in (("train", 20), ("val", 8), ("test", 12))
    }
    new, notes = regrouped(split, {f"{n}train": "p" for n in range(4)}, "patients", 1, "here")
    assert {row for rows in new.values() for row in rows} == {row for rows in split.values() for row in rows}
    assert len({part for part in splits.PARTS for path, _, _ in new[part] if path in {f"{n}train" for n in range(4)}}) == 1
    assert all(abs(len(new[part]) - len(split[part])) <= 3 for part in splits.PARTS)
    assert notes[1] == "36 of 40 images are of none of the patients: each was drawn alone"
    assert notes[0].startswith("split by groups: 1 patients, each whole")
    with pytest.raises(UserError, match="the groups leave no (test|train) images"):
        regrouped(split, {path: label and "odd" for rows in split.values() for path, label, _ in rows}, "patients", 1, "here")


def test_series_are_cut_into_stretches() -> None:
    paths = [f"s{n}.png" for n in range(100)]
    found = by_pattern(paths, Grouping(r"s(?P<number>\d+)", "slice"), "names")
    assert found.numbers["s7.png"] == 7 and found.of["s7.png"] == "all"
    whole = found.whole()
    sizes = Counter(whole.values())
    assert len(sizes) == 20 and set(sizes.values()) == {5} and whole["s4.png"] == whole["s0.png"] != whole["s5.png"]
    two = by_pattern(["a_01.png", "b_02.png"], Grouping(r"([ab])_(?P<number>\d+)"), "names")
    assert two.of == {"a_01.png": "a", "b_02.png": "b"} and two.numbers == {"a_01.png": 1, "b_02.png": 2}
    with pytest.raises(UserError, match="has no group"):
        by_pattern(paths, Grouping("s"), "names")
    assert isinstance(found, Groups)


def test_group_by_that_fits_nothing_or_twice_is_refused(tmp_path: Path) -> None:
    own = SimpleNamespace(GROUP_BY="(nothing)")
    with pytest.raises(UserError, match="fits none of the 2 images"):
        groups_of(["a/1.png", "b/1.png"], own, Grouping(""), {}, tmp_path, tmp_path)
