"""Classes of own images that say little: names that a tower cannot tell apart, one class, few images; no LLM prompts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import parse_results
import train
from backbones import build_backbone
from backbones.vocabulary import unknown_words
from dassl.utils import UserError
from datasets.prompts import prompts_for
from datasets.prompts.templates import MOST, template_sentences
from datasets.splits import read_split, shortages
from tests.conftest import REPO
from tests.own_images import draw, records, refused, run, write_yaml
from trainers.class_words import check_class_words


def folders(place: Path, **counts: int) -> Path:
    for kind, count in counts.items():
        draw(place / kind, kind, count)
    return place


# -- names ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def phantom():
    return build_backbone("PhantomCLIP", "", True, "cpu")


def test_two_names_of_the_same_tokens_are_refused(phantom) -> None:
    with pytest.raises(UserError) as caught:
        check_class_words(phantom, ["良性", "恶性", "normal"], "a photo of a {}.")
    for part in ('"良性"', '"恶性"', "PhantomCLIP", "DATASET.CLASSNAMES", "LinearProbe"):
        assert part in str(caught.value)
    assert check_class_words(phantom, ["glioma", "no_tumor"], "a photo of a {}.") == []


def test_numbers_that_stand_in_for_names_are_taken_and_said(phantom) -> None:
    (said,) = check_class_words(phantom, ["0", "1", "2"], "a photo of a {}.")
    assert "numbers that PhantomCLIP does not tell apart" in said and "DATASET.CLASSNAMES" in said


def test_names_that_differ_behind_the_cut_are_refused(phantom) -> None:
    long = "tumor " * phantom.context_length
    with pytest.raises(UserError, match=f"it reads {phantom.context_length} tokens at most"):
        check_class_words(phantom, [long + "a", long + "b"], "{}")


def test_names_of_which_most_pieces_are_unknown_are_refused(phantom) -> None:
    """Though no two of them are the same tokens; half is still said and taken, and numbers are the labels of a table."""
    with pytest.raises(
        UserError, match=r'PhantomCLIP has no pieces for 67 % of the class names "☃ ☃ tumor", "☃ ☃ normal".*LinearProbe'
    ):
        check_class_words(phantom, ["☃ ☃ tumor", "☃ ☃ normal"], "a photo of a {}.")
    assert len(check_class_words(phantom, ["☃ tumor", "☃ normal"], "a photo of a {}.")) == 1
    assert len(check_class_words(phantom, ["3", "4"], "a photo of a {}.")) == 1


def test_unknown_words_are_named(phantom) -> None:
    assert unknown_words(phantom, "glioma ☃☃ tumor") == ["☃☃"]
    (said,) = check_class_words(phantom, ["glioma ☃", "tumor"], "a photo of a {}.")
    assert '"glioma ☃": "☃"' in said


def test_a_vocabulary_of_bytes_knows_everything() -> None:
    import open_clip

    class Bytes:
        tokenizer = open_clip.tokenizer.SimpleTokenizer()

    assert unknown_words(Bytes(), "良性 ☃") == []


def test_a_run_on_such_names_stops_and_a_probe_does_not(tmp_path: Path, capfd) -> None:
    names = {"bright": "良性", "dark": "恶性"}
    config = write_yaml(tmp_path / "mine.yaml", FOLDER=str(folders(tmp_path / "i", bright=8, dark=8)), CLASSNAMES=names)
    assert run(config, tmp_path / "out") == 2
    told = [line for line in capfd.readouterr().err.splitlines() if "error:" in line]
    assert len(told) == 1 and '"良性"' in told[0] and not list((tmp_path / "out").rglob("config.yaml"))
    assert run(config, tmp_path / "out", method="LinearProbe") == 0
    (record,) = records(tmp_path / "out")
    assert record["classnames"] == ["良性", "恶性"]


# -- how many ---------------------------------------------------------------------------------------------


def test_one_class_is_nothing_to_tell_from(tmp_path: Path) -> None:
    config = write_yaml(tmp_path / "mine.yaml", FOLDER=str(folders(tmp_path / "i", bright=8)))
    assert 'one class, "bright"' in refused(config)
    (tmp_path / "i" / "empty").mkdir()
    assert "holds 0 images" in refused(config) and "DATASET.EXCLUDE" in refused(config)


def test_fewer_images_than_shots_stand_in_log_results_and_table(tmp_path: Path, capfd) -> None:
    config = write_yaml(tmp_path / "mine.yaml", FOLDER=str(folders(tmp_path / "i", bright=20, dark=6, grey=20)))
    assert run(config, tmp_path / "out", method="ZeroshotCLIP", shots=4) == 0
    assert "fewer training images than 4 shots, all of them taken: dark 3" in capfd.readouterr().out
    (record,) = records(tmp_path / "out")
    assert record["warnings"] == ["fewer training images than 4 shots, all of them taken: dark 3"]
    assert run(config, tmp_path / "out", method="ZeroshotCLIP", shots=2) == 0
    capfd.readouterr()
    assert parse_results.main([str(tmp_path / "out")]) == 0
    table = capfd.readouterr().out
    assert table.count("mine: fewer training images than 4 shots, all of them taken: dark 3.") == 1 and "2 shots," not in table


def test_halves_of_one_class_are_told_in_the_table(tmp_path: Path, capfd) -> None:
    config = write_yaml(tmp_path / "mine.yaml", FOLDER=str(folders(tmp_path / "i", bright=8, dark=8)))
    assert run(config, tmp_path / "out", method="ZeroshotCLIP", task="base2new") == 0
    capfd.readouterr()
    assert parse_results.main([str(tmp_path / "out")]) == 0
    table = capfd.readouterr().out
    for name in ("bright", "dark"):
        assert f'mine: one class ("{name}"): any method classifies all of its images right.' in table


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), min_size=2, max_size=5), st.integers(-1, 8))
def test_shortages_by_counting(sizes: list[tuple[int, int]], shots: int) -> None:
    split = {"train": [], "val": [("v", label, f"c{label}") for label in range(len(sizes))], "test": []}
    for label, (of_train, of_test) in enumerate(sizes):
        split["train"] += [(f"a{n}", label, f"c{label}") for n in range(of_train)]
        split["test"] += [(f"b{n}", label, f"c{label}") for n in range(of_test)]
    said = " | ".join(shortages(split, shots, trained=True))
    without_training = [f"c{label}" for label, (count, _) in enumerate(sizes) if not count]
    without_test = [f"c{label}" for label, (_, count) in enumerate(sizes) if not count]
    few = [f"c{label} {count}" for label, (count, _) in enumerate(sizes) if 0 < count < shots]
    assert (
        ("no training images of " + ", ".join(without_training) in said)
        if without_training
        else "training images of" not in said
    )
    assert ("no test images of " + ", ".join(without_test) in said) if without_test else "test images of" not in said
    assert ("all of them taken: " + ", ".join(few) in said) if few else "taken" not in said
    assert "training" not in " | ".join(shortages(split, shots, trained=False))


# -- no LLM prompts ---------------------------------------------------------------------------------------


@given(st.sampled_from(["", "CT", "X-ray"]), st.sampled_from(["", "knee"]), st.integers(1, MOST))
def test_template_sentences_differ_and_name_the_class(modality: str, organ: str, count: int) -> None:
    template = f"a {modality} photo of a {{}}."
    sentences = template_sentences("no_tumor", template, modality, organ, count)
    assert len(set(sentences)) == count and sentences[0] == template.format("no tumor")
    assert all("no tumor" in sentence and "{" not in sentence and "  " not in sentence[3:] for sentence in sentences)


def test_more_templates_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match=f"has 1 to {MOST} sentences"):
        prompts_for("template", "x", ["a"], MOST + 1, template="{}", modality="", organ="")


def test_without_prompts_three_ways_are_told_and_templates_are_said(tmp_path: Path, capfd) -> None:
    images = folders(tmp_path / "i", bright=8, dark=8, grey=8)
    config = write_yaml(tmp_path / "mine.yaml", FOLDER=str(images), MODALITY="X-ray")
    quick = ("OPTIM.MAX_EPOCH", 1)
    for method in ("BiomedDPT", "BiomedCoOp"):
        assert run(config, tmp_path / "out", *quick, method=method) == 2
        told = capfd.readouterr().err
        for way in ("datasets.prompts.generate --dataset", "DATASET.PROMPTS mine.json", "DATASET.PROMPTS template"):
            assert way in told
        assert run(config, tmp_path / "out", *quick, "DATASET.PROMPTS", "template", method=method) == 0
    for record in records(tmp_path / "out"):
        (warning,) = record["warnings"]
        assert warning == f"{record['method']} with templates in place of LLM-written prompts (DATASET.PROMPTS template)"
        assert record["prompts"]["file"] == "template" and record["fingerprints"]["prompts"]
    capfd.readouterr()
    assert parse_results.main([str(tmp_path / "out")]) == 0
    assert "mine: BiomedDPT with templates in place of LLM-written prompts" in capfd.readouterr().out
    # a second dataset asks for them in its YAML, and a method that reads none says nothing
    other = write_yaml(tmp_path / "other.yaml", FOLDER=str(images), PROMPTS="template")
    assert run(other, tmp_path / "out2", *quick, method="BiomedDPT") == 0
    assert run(other, tmp_path / "out2", method="CoOp") == 0
    assert sorted(len(record["warnings"]) for record in records(tmp_path / "out2")) == [0, 1]


def test_comparison_goes_on_without_the_methods_that_cannot_run(tmp_path: Path) -> None:
    images = folders(tmp_path / "i", bright=10, dark=10, grey=10)
    config = write_yaml(tmp_path / "mine.yaml", FOLDER=str(images))
    env = os.environ | {"METHODS": "ZeroshotCLIP BiomedDPT LinearProbe", "SHOTS": "1", "BACKBONE": "PhantomCLIP",
                        "OUTPUT": str(tmp_path / "out"), "HF_HUB_OFFLINE": "1", "PYTHON": sys.executable}  # fmt: skip
    config = config.rename(config.with_suffix(".yml"))
    call = ["bash", "scripts/compare.sh", str(config), "1", "--", "DATALOADER.NUM_WORKERS", "0"]
    wrong = subprocess.run(call, cwd=REPO, env=env | {"METHODS": "ZeroShot"}, capture_output=True, text=True, timeout=300)
    assert wrong.returncode == 2 and wrong.stderr.startswith('error: METHODS: no method "ZeroShot"; methods: ')
    done = subprocess.run(call, cwd=REPO, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    few, both = done.stdout.split("Base-to-new accuracy", 1)
    assert few.count("not in this table:\nBiomedDPT: no LLM prompts for this dataset") == 1 and "Few-shot accuracy" in few
    assert "BiomedDPT: no LLM prompts" in both and "LinearProbe: LinearProbe learns a classifier" in both
    ran = {record["method"] for record in records(tmp_path / "out")}
    assert ran == {"ZeroshotCLIP", "LinearProbe"}


def test_what_no_method_can_run_with_ends_a_comparison_at_once(tmp_path: Path, capfd, log_off_stdout) -> None:
    config = write_yaml(tmp_path / "mine.yaml", FOLDER=str(folders(tmp_path / "i", grey=8)))
    assert train.main(["--list-methods", "few_shot", "--dataset-config-file", str(config)]) == 2
    told = capfd.readouterr()
    assert told.out == "" and told.err.count("error: ") == 1 and 'one class, "grey"' in told.err


def test_the_results_file_of_before_has_no_warnings(tmp_path: Path, capfd) -> None:
    config = write_yaml(tmp_path / "mine.yaml", FOLDER=str(folders(tmp_path / "i", bright=8, dark=8)))
    assert run(config, tmp_path / "out", method="ZeroshotCLIP") == 0
    (path,) = (tmp_path / "out").rglob("results.json")
    record = json.loads(path.read_text())
    assert record.pop("warnings") == []
    path.write_text(json.dumps(record))
    capfd.readouterr()
    assert parse_results.main([str(tmp_path / "out")]) == 0 and "mine" in capfd.readouterr().out
    assert yaml.safe_load(path.with_name("config.yaml").read_text())["DATASET"]["TITLE"] == "mine"


# -- names of all parts -----------------------------------------------------------------------------------


def with_a_hole(place: Path) -> Path:
    """Four classes by a split file, the second without training images."""
    split: dict[str, list[list[object]]] = {"train": [], "val": [], "test": []}
    for label, kind in enumerate(("bright", "dark", "grey", "other")):
        for number, path in enumerate(draw(place / "i" / kind, kind, 10)):
            part = "train" if number < 5 else "val" if number < 7 else "test"
            if (kind, part) != ("dark", "train"):
                split[part].append([f"{kind}/{path.name}", label, f"{kind} one"])
    (place / "i" / "split.json").write_text(json.dumps(split))
    return write_yaml(place / "mine.yaml", FOLDER=str(place / "i"))


def test_a_class_without_training_images_shifts_no_name(tmp_path: Path, capfd) -> None:
    config, names = with_a_hole(tmp_path), ["bright one", "dark one", "grey one", "other one"]
    assert run(config, tmp_path / "out", method="ZeroshotCLIP") == 0
    assert run(config, tmp_path / "out") == 0
    assert run(config, tmp_path / "out", method="ZeroshotCLIP", task="base2new") == 0
    for record in records(tmp_path / "out"):
        new = record["split"] == "new"
        assert record["classnames"] == {"all": names, "base": names[:2], "new": names[2:]}[record["split"]]
        assert record["warnings"] == ([] if new else ["no training images of dark one"])
        assert [row["support"] for row in record["per_class"]] == [3] * len(record["classnames"])
    capfd.readouterr()
    assert parse_results.main([str(tmp_path / "out")]) == 0
    assert "mine: no training images of dark one." in capfd.readouterr().out


@pytest.mark.parametrize("method", ["LinearProbe", "GDA", "LPPlusPlus", "TIMO"])
def test_methods_that_learn_from_images_alone_refuse_it(method: str, tmp_path: Path, capfd) -> None:
    assert run(with_a_hole(tmp_path), tmp_path / "out", method=method) == 2
    assert f'no training images of the class "dark one": {method} learns' in capfd.readouterr().err


BROKEN = {
    "gap": ([["a.png", 0, "a"], ["b.png", 2, "b"]], "no image has the label 1"),
    "two names": ([["a.png", 0, "a"], ["b.png", 0, "b"]], 'label 0 is "b" here and "a" before'),
    "two labels": ([["a.png", 0, "a"], ["b.png", 1, "a"]], 'the labels 0 and 1 are both called "a"'),
    "empty": ([["a.png", 0, "a"], ["b.png", 1, " "]], "label 1 has no class name"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_split_file_that_contradicts_itself_is_refused(name: str, tmp_path: Path) -> None:
    rows, said = BROKEN[name]
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": rows, "val": [], "test": rows}))
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        read_split(path)


def test_images_that_stand_twice_are_told() -> None:
    split = {
        "train": [("a.png", 0, "a"), ("b.png", 1, "b"), ("b.png", 1, "b"), ("c.png", 0, "a")],
        "val": [],
        "test": [("a.png", 0, "a"), ("c.png", 1, "b"), ("d.png", 0, "a")],
    }
    said = shortages(split, 1, trained=True)
    assert "2 test images are training or validation images too, first a.png" in said
    assert "1 images have two labels, first c.png" in said and "1 images stand twice in a part, first b.png" in said
    clean = {"train": split["train"][:2], "val": [], "test": [("d.png", 0, "a"), ("e.png", 1, "b")]}
    assert len(said) == 3 and shortages(clean, 1, trained=True) == []
