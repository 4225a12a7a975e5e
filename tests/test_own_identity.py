"""An own dataset is named by its YAML: results, folders, tables; two of them are two, and none is a published one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import parse_results
from analysis.choice import Choice, dataset_of
from analysis.overview import built
from analysis.published import caveats
from analysis.results import folder_name, read_runs
from dassl.utils import UserError
from datasets.config import flat_keys
from datasets.facts import facts_without_images
from datasets.prompts.files import facts_for
from runs import train
from runs.config import configured, default_config
from runs.identity import LATER, config_hash, identity
from runs.inference import load_run
from tests.conftest import REPO
from tests.own_images import draw, records, run, write_yaml


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two own datasets by three methods, two seeds and both protocols in one output."""
    place = tmp_path_factory.mktemp("both")
    for folder, kinds in (("a/images", ("bright", "dark", "grey")), ("b/images", ("dark", "bright"))):
        for kind in kinds:
            draw(place / folder / kind, kind, 10)
    first = write_yaml(place / "chest.yaml", FOLDER=str(place / "a" / "images"), MODALITY="X-ray")
    second = write_yaml(place / "data.yaml", FOLDER=str(place / "b" / "images"), TITLE="My knees / left", MODALITY="MRI")
    for config in (first, second):
        for method in ("ZeroshotCLIP", "CoOp"):
            for task in ("few_shot", "base2new"):
                assert run(config, place / "out", method=method, task=task, seeds=(1, 2)) == 0
        assert run(config, place / "out", method="TipAdapter", seeds=(1, 2)) == 0
    return place


def test_two_own_datasets_are_two(both: Path) -> None:
    named = {(r["dataset"], r["dataset_class"], r["modality"], *sorted(r["classnames"])) for r in records(both / "out")
             if r["split"] == "all"}  # fmt: skip
    assert named == {("chest", "ImageFolderSplit", "X-ray", "bright", "dark", "grey"),
                     ("My knees / left", "ImageFolderSplit", "MRI", "bright", "dark")}  # fmt: skip
    assert {path.name for path in (both / "out" / "few_shot").iterdir()} == {"chest", "My knees _ left"}
    runs, defects = read_runs(both / "out")
    assert len(runs) == 2 * (3 * 2 + 2 * 2 * 2) and defects == [] and all(run.own_images for run in runs)


def test_tables_average_them_as_two(both: Path, capsys) -> None:
    runs, _ = read_runs(both / "out")
    tables, missing = built(runs)
    titles = [table.title for table in tables]
    assert (
        missing == [] and sum("chest" in title for title in titles) == sum("My knees / left" in title for title in titles) == 2
    )
    assert sum("average over 2 datasets" in title for title in titles) == 2
    few = [run for run in runs if run.split == "all" and run.method == "ZeroshotCLIP"]
    mean = {name: sum(r.metrics["accuracy"] for r in few if r.dataset == name) / 2 for name in ("chest", "My knees / left")}
    average = next(t for t in tables if "average" in t.title and "base" not in t.columns)
    cell = next(cells[0] for names, cells in average.rows if names[0] == "ZeroshotCLIP")
    assert cell.value == pytest.approx(sum(mean.values()) / 2)
    assert parse_results.main([str(both / "out"), "--datasets", str(both / "data.yaml"), "--task", "few_shot"]) == 0
    said = capsys.readouterr().out
    assert "My knees / left" in said and "chest" not in said and "missing" not in said
    assert parse_results.main([str(both / "out"), "--modalities"]) == 0
    said = capsys.readouterr().out
    assert "X-ray" in said and "MRI" in said
    assert "own images among them: My knees / left, chest" in caveats(runs)


def test_a_run_knows_its_name_without_the_images(both: Path) -> None:
    runs, _ = read_runs(both / "out")
    folder = next(
        run.folder for run in runs if run.dataset == "My knees / left" and run.method == "CoOp" and run.split == "all"
    )
    assert load_run(folder).facts.name == "My knees / left"


def test_one_name_for_two_folders_is_refused(both: Path, capsys) -> None:
    """Another seed and method, so that no run's own folder would tell."""
    other = write_yaml(both / "other" / "chest.yaml", FOLDER=str(both / "b" / "images"))
    before = len(records(both / "out"))
    assert run(other, both / "out", method="GDA", seeds=(7,)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert '"chest" has runs on other images' in line and "DATASET.TITLE" in line and len(records(both / "out")) == before


def test_results_of_before_stay_readable_and_apart(both: Path, tmp_path: Path) -> None:
    for name in ("mine", "yours"):
        folder = tmp_path / "few_shot" / name / "shots_2" / "CoOp_PhantomCLIP" / "v" / "seed1"
        folder.mkdir(parents=True)
        record = records(both / "out")[-1] | {"dataset": "ImageFolderSplit", "files": {}, "split": "all"}
        record.pop("dataset_class")
        (folder / "results.json").write_text(json.dumps(record))
        (folder / "config.yaml").write_text("SEED: 1\n")
    runs, defects = read_runs(tmp_path)
    assert sorted(run.dataset for run in runs) == ["mine", "yours"] and defects == []


def test_a_config_of_before_is_named_by_its_folder() -> None:
    cfg = default_config()
    cfg.DATASET.NAME, cfg.DATASET.FOLDER = "ImageFolderSplit", "data/scans"
    facts = facts_without_images(cfg, ["a", "b"])
    assert (facts.name, facts.key) == ("scans", "scans")


def own(**keys: object) -> object:
    settings = {"DATASET.NAME": "ImageFolderSplit", "DATASET.FOLDER": "data/x"} | {f"DATASET.{k}": v for k, v in keys.items()}
    return configured("CoOp", settings=settings)


@pytest.mark.parametrize("title", ["BTMRI", "btmri", " Kvasir ", "CTKIDNEY"])
def test_a_published_name_is_not_for_own_images(title: str) -> None:
    with pytest.raises(UserError, match="is a published dataset: give your images another name, DATASET.TITLE"):
        own(TITLE=title)


def test_runs_on_other_images_of_one_folder_are_told_below_every_table(tmp_path: Path, capfd) -> None:
    for kind in ("bright", "dark", "grey"):
        draw(tmp_path / "i" / kind, kind, 8)
    config = write_yaml(tmp_path / "mine.yaml", FOLDER=str(tmp_path / "i"))
    for seeds in ((1,), (2,)):
        for method in ("CoOp", "ZeroshotCLIP"):
            assert run(config, tmp_path / "out", method=method, seeds=seeds) == 0
    capfd.readouterr()
    assert parse_results.main([str(tmp_path / "out")]) == 0 and "NOT COMPARABLE" not in capfd.readouterr().out
    assert run(config, tmp_path / "out", "DATASET.EXCLUDE", "['grey']", method="LinearProbe") == 0
    draw(tmp_path / "i" / "grey", "grey", 2, start=50)
    assert run(config, tmp_path / "out", method="CoOp", seeds=(3,)) == 0
    capfd.readouterr()
    assert parse_results.main([str(tmp_path / "out")]) == 0
    said = "mine: NOT COMPARABLE, its runs differ in images, class names or parts of the split, in 3 ways: as CoOp seed "
    assert said in capfd.readouterr().out


def test_the_folder_of_a_published_name_is_refused_from_python_too(tmp_path: Path) -> None:
    draw(tmp_path / "busi" / "dark", "dark", 3)
    with pytest.raises(UserError, match='"busi" is a published dataset'):
        train("CoOp", tmp_path / "busi", output=tmp_path / "out")


def test_keys_of_own_images_are_refused_elsewhere(tmp_path: Path) -> None:
    btmri = [REPO / "configs" / "datasets" / "btmri.yaml"]
    for key in ("TITLE", "CSV", "CSV_LABEL", "INCLUDE", "EXCLUDE", "CLASS_FOLDERS"):
        value = ["x"] if isinstance(default_config().DATASET[key], list) else "x"
        with pytest.raises(UserError, match=f"DATASET.{key} is read only with DATASET.NAME ImageFolderSplit"):
            configured("CoOp", files=btmri, overrides=[f"DATASET.{key}", value])
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({"DATASET": {"NAME": "BTMRI", key: value}}))
        with pytest.raises(UserError, match=f"DATASET.{key} is read only with DATASET.NAME ImageFolderSplit"):
            configured("CoOp", files=[path])


def test_identity_of_other_runs_is_as_before() -> None:
    """The hash of a run that sets none of the new keys covers the keys that it covered."""
    cfg = configured("CoOp", files=[REPO / "configs" / "datasets" / "btmri.yaml"])
    assert not {*LATER, "DATASET.TITLE"} & set(identity(cfg))
    assert set(LATER) <= set(flat_keys(cfg))
    assert config_hash(own(TITLE="a")) == config_hash(own(TITLE="b")) != config_hash(own(TITLE="a", EXCLUDE=["masks"]))


def test_names() -> None:
    assert [folder_name(t) for t in ("a b", "a/b", "../x", "..", "knee")] == ["a b", "a_b", "_x", "_", "knee"]
    assert dataset_of("btmri") == "btmri" and dataset_of(str(REPO / "configs/datasets/btmri.yaml")) == "btmri"
    assert Choice(datasets=("x",)).datasets == ("x",)


def test_prompts_are_about_the_title(tmp_path: Path) -> None:
    for kind in ("bright", "dark"):
        draw(tmp_path / "images" / kind, kind, 1)
    (tmp_path / "images" / "__MACOSX").mkdir()
    config = write_yaml(tmp_path / "knees.yaml", FOLDER=str(tmp_path / "images"), MODALITY="MRI")
    assert (facts_for(str(config)).name, facts_for(str(config)).classnames) == ("knees", ("bright", "dark"))
    for more in ({"CSV": "table.csv"}, {"EXCLUDE": ["dark"]}, {"INCLUDE": ["bright"]}):
        other = write_yaml(tmp_path / "other.yaml", FOLDER=str(tmp_path / "images"), MODALITY="MRI", **more)
        with pytest.raises(UserError, match="name them in DATASET.CLASSNAMES"):
            facts_for(str(other))
    write_yaml(config, FOLDER=str(tmp_path / "images"), MODALITY="MRI", TITLE="left", CLASSNAMES={"0": "sick", "1": "well"})
    assert (facts_for(str(config)).name, facts_for(str(config)).classnames) == ("left", ("sick", "well"))
