"""``DATASET.SPLIT grouped``: no group in two parts, sizes as before, seeded; told apart from the dataset's own split."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import parse_results
import train
from analysis.overview import Contents, built
from analysis.published import caveats
from analysis.results import read_runs
from datasets.grouped import groups_to_parts, regrouped
from datasets.groups import STRETCHES, Grouping, by_pattern
from datasets.splits import PARTS, Split
from runs.config import configured
from runs.identity import config_hash, variant_of
from tests.conftest import BTMRI_CLASSES, REPO, write_dataset
from tests.own_images import dataset, draw, parts, records, refused, run, write_yaml

SHARES = {"train": 0.5, "val": 0.2, "test": 0.3}


def split_by_image(sizes: list[int], classes: int) -> tuple[Split, dict[str, str]]:
    """Images of patients with these numbers of images, dealt to the parts one by one; and their groups."""
    paths = [(f"p{patient}_{n}.png", patient % classes) for patient, size in enumerate(sizes) for n in range(size)]
    order = ("train", "test", "train", "val", "train", "test", "train", "val", "train", "test")
    split: Split = {part: [] for part in PARTS}
    for number, (path, label) in enumerate(paths):
        split[order[number % 10]].append((path, label, f"class {label}"))
    return split, {path: path.split("_")[0] for path, _ in paths}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=60, max_size=150), st.integers(1, 4), st.integers(0, 10**6))
def test_no_group_is_in_two_parts_and_sizes_are_near(sizes: list[int], classes: int, seed: int) -> None:
    split, groups = split_by_image(sizes, classes)
    new, notes = regrouped(split, groups, "patients", seed, "here")
    where: dict[str, set[str]] = {}
    for part in PARTS:
        for path, _, _ in new[part]:
            where.setdefault(groups[path], set()).add(part)
    assert all(len(found) == 1 for found in where.values())
    assert sorted(row for part in PARTS for row in new[part]) == sorted(row for part in PARTS for row in split[part])
    for part in PARTS:  # by as many images as a few groups have
        assert abs(len(new[part]) - len(split[part])) <= 4 * classes
        for label in range(classes):
            counts = [sum(row[1] == label for row in one[part]) for one in (new, split)]
            assert abs(counts[0] - counts[1]) <= 4
    assert notes[0].startswith(f"split by groups: {len(sizes)} patients, each whole in one part, drawn by seed {seed}")
    assert regrouped(split, groups, "patients", seed, "here") == (new, notes)


def test_seeds_differ_with_groups_of_different_sizes_too() -> None:
    groups = {f"slide {n}": Counter({"a": 40 + 7 * n, "b": 90 - 5 * n}) for n in range(10)}
    total = Counter()
    for own in groups.values():
        total.update(own)
    wanted = {(part, key): total[key] * SHARES[part] for part in PARTS for key in total}
    drawn = [groups_to_parts(groups, wanted, seed) for seed in range(6)]
    assert len({tuple(sorted(one.items())) for one in drawn}) > 2
    assert drawn[0] == groups_to_parts(groups, wanted, 0)
    for one in drawn:
        for part in PARTS:
            have = sum(sum(groups[name].values()) for name, chosen in one.items() if chosen == part)
            assert abs(have / sum(total.values()) - SHARES[part]) < 0.08


def test_series_of_numbers_are_cut_into_stretches() -> None:
    paths = [f"{name} ({n}).jpg" for name in ("Cyst", "Stone") for n in range(1, 201)]
    groups = by_pattern(paths, Grouping(r"(\w+) \((?P<number>\d+)\)", "slice"), "names")
    whole = groups.whole()
    assert len(set(whole.values())) == 2 * STRETCHES and set(whole) == set(paths)
    divided = [n for n in range(1, 200) if whole[f"Cyst ({n}).jpg"] != whole[f"Cyst ({n + 1}).jpg"]]
    assert len(divided) == STRETCHES - 1  # a stretch is unbroken


def eyes(root: Path) -> Path:
    """RETINA with patients whose two eyes are in different parts."""
    names = ("diabetic retinopathy", "glaucoma", "cataract", "normal retina")
    write_dataset(root, "RETINA", names, per_class=12)
    path = root / "RETINA" / "split_RETINA.json"
    split = json.loads(path.read_text())
    renamed: dict[str, str] = {}
    for part in PARTS:
        for row in split[part]:
            folder, number = row[0][:-4].split("/")
            side = "left" if int(number) < 6 else "right"
            new = f"{folder}/{100 * row[1] + int(number) % 6}_{side}.png"
            (path.parent / "RETINA" / row[0]).rename(path.parent / "RETINA" / new)
            renamed[row[0]] = row[0] = new
    path.write_text(json.dumps(split))
    return root


def quick(root: Path, out: Path, *words: str, method: str = "ZeroshotCLIP", key: str = "retina") -> int:
    config = REPO / "configs" / "trainers" / method / "few_shot.yaml"
    more = ["--config-file", str(config)] if config.is_file() else []
    call = ["--root", str(root), "--trainer", method, "--backbone", "PhantomCLIP", "--dataset-config-file",
            str(REPO / "configs" / "datasets" / f"{key}.yaml"), *more, "--task", "few_shot", "--shots", "2", "--seeds", "1",
            "--output-root", str(out), "DATALOADER.NUM_WORKERS", "0", "USE_CUDA", "False", *words]  # fmt: skip
    return train.main(call)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on RETINA's own split, on a grouped one by two seeds, and on another dataset, in one output."""
    place = tmp_path_factory.mktemp("both")
    root = eyes(place / "data")
    write_dataset(root, "BTMRI", BTMRI_CLASSES)
    for method, more in (("ZeroshotCLIP", ()), ("CoOp", ("OPTIM.MAX_EPOCH", "1"))):
        assert quick(root, place / "out", *more, method=method) == 0
        assert quick(root, place / "out", *more, "DATASET.SPLIT", "grouped", method=method) == 0
        assert quick(root, place / "out", *more, method=method, key="btmri") == 0
    assert quick(root, place / "out", "DATASET.SPLIT", "grouped", "DATASET.SPLIT_SEED", "2") == 0
    return place


def test_the_results_say_which_split_it_was(both: Path) -> None:
    found = [record for record in records(both / "out") if record["dataset"] == "RETINA"]
    kinds = Counter((record["method"], record["split_kind"]) for record in found)
    assert kinds == {("ZeroshotCLIP", "own"): 1, ("ZeroshotCLIP", "grouped"): 1, ("ZeroshotCLIP", "grouped-seed2"): 1,
                     ("CoOp", "own"): 1, ("CoOp", "grouped"): 1}  # fmt: skip
    for record in found:
        grouped = record["split_kind"] != "own"
        assert any("24 patients, each whole in one part" in note for note in record["notes"]) == grouped
        assert record["variant"].endswith(record["split_kind"]) == grouped
    assert len({record["fingerprints"]["split"] for record in found}) == 3
    assert (both / "out/few_shot/retina/shots_2/ZeroshotCLIP_PhantomCLIP").is_dir()


def test_tables_show_both_side_by_side_and_average_neither_with_the_other(both: Path, capsys: pytest.CaptureFixture) -> None:
    runs, defects = read_runs(both / "out")
    assert defects == [] and len(runs) == 7
    tables, _ = built(runs, contents=Contents(modalities=True, published=True))
    of_retina = next(table for table in tables if "RETINA:" in table.title)
    rows = [names for names, _ in of_retina.rows if names[0] == "CoOp"]
    assert len(rows) == 2 and sum("split=grouped" in names[2] for names in rows) == 1
    average = next(table for table in tables if "average over 2 datasets" in table.title)
    cells = {names[2]: row for names, row in average.rows if names[0] == "CoOp"}
    for name, (cell,) in cells.items():
        want = [
            run.metrics["accuracy"] for run in runs if run.method == "CoOp" and ("split=" in name) == (run.split_kind != "own")
        ]
        assert cell.value == pytest.approx(sum(want) / len(want))
        assert ("1 of 2 datasets" in cell.note) == ("split=" in name)
    for table in tables:
        if "ours / " in table.title:
            assert all("split=" not in name for names, _ in table.rows for name in names)
    assert "another split than the published one: RETINA" in caveats(runs)
    assert parse_results.main([str(both / "out"), "--datasets", "retina"]) == 0
    out = capsys.readouterr().out
    assert "split=grouped (unlike the config files)" in out and "split=grouped-seed2 (unlike the config files)" in out


def test_it_is_another_run_and_old_hashes_stay(both: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def config(**own: object):
        return configured(
            "CoOp", "PhantomCLIP", settings={"DATASET.NAME": "RETINA", **{f"DATASET.{k}": v for k, v in own.items()}}
        )

    plain, grouped, other = config(), config(SPLIT="grouped"), config(SPLIT="grouped", GROUP_BY=r"(\d+)")
    assert len({config_hash(one) for one in (plain, grouped, other)}) == 3
    assert config_hash(plain) == config_hash(config(GROUP_BY=r"(\d+)"))  # which no run reads without the split
    assert variant_of(grouped) == f"{variant_of(plain)}_grouped"
    folder = next(path.parent for path in (both / "out/few_shot/retina").rglob("results.json") if "grouped" not in str(path))
    words = ["--root", str(both / "data"), "--trainer", folder.parts[-3].split("_")[0], "--backbone", "PhantomCLIP",
             "--dataset-config-file", str(REPO / "configs/datasets/retina.yaml"), "--output-dir", str(folder), "--seed", "1",
             "DATASET.NUM_SHOTS", "2", "DATASET.SPLIT", "grouped"]  # fmt: skip
    assert train.main(words) == 2
    assert "holds a run with other settings" in capsys.readouterr().err


def patients_of(found: Any) -> dict[str, set[str]]:
    """Who is in each part."""
    return {part: {Path(path).name.split("_")[0] for path in paths} for part, paths in parts(found, "impath").items()}


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    """A folder of images ``p<patient>_<kind>_<n>.png``, four of each patient, two in each class."""
    for kind in ("bright", "dark"):
        for number, path in enumerate(draw(tmp_path / "images" / kind, kind, 24)):
            path.rename(path.with_name(f"p{number // 2}_{path.name}"))
    return tmp_path


def test_own_images_by_pattern(patients: Path) -> None:
    config = write_yaml(patients / "mine.yaml", FOLDER=str(patients / "images"), GROUP_BY=r"/p(\d+)_")
    torn = patients_of(dataset(config))
    assert torn["train"] & torn["test"]  # as the classes are drawn without it
    found = dataset(config, SPLIT="grouped")
    whole, sizes = patients_of(found), {part: len(paths) for part, paths in parts(found).items()}
    assert not whole["train"] & whole["test"] and not whole["train"] & whole["val"] and not whole["val"] & whole["test"]
    assert all(abs(sizes[part] - wanted) <= 2 for part, wanted in {"train": 24, "val": 10, "test": 14}.items())
    assert run(config, patients / "out", "DATASET.SPLIT", "grouped", method="ZeroshotCLIP") == 0
    assert records(patients / "out")[0]["split_kind"] == "grouped"


def test_own_images_by_the_tables_column_whatever_its_split_says(patients: Path) -> None:
    images = patients / "images"
    rows = [(path.relative_to(images).as_posix(), kind, "test" if n % 2 else "train", path.name.split("_")[0])
            for kind in ("bright", "dark") for n, path in enumerate(sorted((images / kind).iterdir()))]  # fmt: skip
    (images / "t.csv").write_text("path,class,split,patient\n" + "".join(",".join(row) + "\n" for row in rows))
    table = write_yaml(patients / "table.yaml", FOLDER=str(images), CSV="t.csv")
    assert any("groups have images in more than one part" in note for note in dataset(table).notes)
    found = dataset(table, SPLIT="grouped")
    whole = patients_of(found)
    assert whole["train"] and whole["test"] and not whole["train"] & whole["test"]
    assert "groups by the table's group column" in found.notes


def test_without_groups_it_is_a_users_mistake(tmp_path: Path) -> None:
    for kind in ("bright", "dark"):
        draw(tmp_path / "images" / kind, kind, 10)
    config = write_yaml(tmp_path / "mine.yaml", FOLDER=str(tmp_path / "images"))
    said = refused(config, SPLIT="grouped")
    assert "no groups are known of mine" in said and "DATASET.GROUP_BY takes a regular expression" in said
    assert "the groups leave no" in refused(config, SPLIT="grouped", GROUP_BY="(bright|dark)")
    assert 'DATASET.SPLIT is "leakfree", must be grouped' in refused(config, SPLIT="leakfree")
    assert quick(tmp_path, tmp_path / "out", "DATASET.GROUP_BY", r"(\d+)_") == 2  # read only with the split
