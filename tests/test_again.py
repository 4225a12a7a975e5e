"""``train.py --from-results``: the same run again, equal to the bit; what differs is named, and other data are refused."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path

import pytest

import train
from tests.own_images import draw, run, write_yaml


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run of CoOp on own images, finished a while ago."""
    for kind in ("bright", "dark", "grey"):
        draw(tmp_path / "images" / kind, kind, 8)
    config = write_yaml(tmp_path / "mine.yaml", FOLDER="images")
    assert run(config, tmp_path / "out") == 0
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return next((tmp_path / "out").rglob("results.json"))


def again(path: Path, out: Path, *words: object) -> int:
    return train.main([str(word) for word in ("--from-results", path, "--output-dir", out, *words)])


def test_the_same_seed_gives_the_same_context_to_the_bit(finished: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # the config holds absolute places
    assert again(finished, tmp_path / "new") == 0
    out = capsys.readouterr().out
    assert "learned tensors: equal to the bit: ctx" in out and "predictions: equal to the bit" in out
    assert "differs" not in out and "NOT" not in out
    first, second = (json.loads(path.read_text()) for path in (finished, tmp_path / "new" / "results.json"))
    assert first["config_hash"] == second["config_hash"] and first["metrics"] == second["metrics"]
    assert again(finished, tmp_path / "new") == 0  # nothing is trained twice
    out = capsys.readouterr().out
    assert f"done already: {tmp_path / 'new'}" in out and "equal to the bit: ctx" in out


def test_a_changed_image_is_refused_by_name(finished: Path, tmp_path: Path, capsys) -> None:
    images = [tmp_path / "images" / row.split(",")[0] for row in _predictions(finished)]
    with images[0].open("ab") as file:
        file.write(b"\0")
    assert again(finished, tmp_path / "new") == 2
    said = capsys.readouterr()
    assert f"written after the results file: {images[0]}\n" in said.out and "differs: the run's images" in said.out
    assert said.err.startswith("error: data not as in ") and said.err.count("\n") == 1
    assert not (tmp_path / "new").exists()
    # a test image encoded in another batch may move a prediction's last bit; the training images are as they were
    assert again(finished, tmp_path / "new", "--despite-differences") in (0, 1)
    assert "learned tensors: equal to the bit: ctx" in capsys.readouterr().out


def test_versions_are_told_and_another_split_refused(finished: Path, tmp_path: Path, capsys) -> None:
    record = json.loads(finished.read_text())
    record["versions"]["numpy"], record["git"]["revision"] = "1.0", "f" * 40
    finished.write_text(json.dumps(record))
    assert again(finished, tmp_path / "new") == 0
    out = capsys.readouterr().out
    assert "note: numpy 1.0 then," in out and f"note: git revision {'f' * 40} then" in out
    record["fingerprints"] |= {"split": "0" * 64, "backbone": "1" * 64}
    record["metrics"]["accuracy"] = 1.5
    finished.write_text(json.dumps(record))
    assert again(finished, tmp_path / "other") == 2
    said = capsys.readouterr()
    assert "split, backbone not as in" in said.err and "differs: the backbone's weights: 1111111111111111 then" in said.out
    assert again(finished, tmp_path / "other", "--despite-differences") == 1  # the accuracy is not that of the file
    assert "accuracy: 1.5 then" in (out := capsys.readouterr().out) and "NOT equal" in out


def test_only_places_can_be_set_and_the_run_itself_is_left_alone(finished: Path, tmp_path: Path, capsys) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(tmp_path / "images", moved / "images")  # with its times
    shutil.rmtree(tmp_path / "images")
    assert again(finished, tmp_path / "new") == 2
    assert "images" in capsys.readouterr().err
    assert again(finished, tmp_path / "new", "--root", moved) == 0
    assert "equal to the bit: ctx" in (out := capsys.readouterr().out) and "hash of the settings" in out
    for words, line in (
        (["OPTIM.LR", "0.5"], "OPTIM.LR would make it another run"),
        (["--seed", "3"], "leave out --seed"),
        (["--task", "few_shot"], "leave out --task"),
    ):
        options, pairs = (words, []) if words[0].startswith("--") else ([], words)
        assert again(finished, tmp_path / "x", *options, *pairs) == 2
        assert line in capsys.readouterr().err
    assert again(finished, finished.parent) == 2
    assert "is the folder of the run itself" in capsys.readouterr().err
    assert train.main(["--from-results", str(finished)]) == 2
    assert "needs --output-dir" in capsys.readouterr().err


def test_what_only_tested_names_the_run_that_trained(tmp_path: Path, capsys) -> None:
    for kind in ("bright", "dark", "grey"):
        draw(tmp_path / "images" / kind, kind, 8)
    config = write_yaml(tmp_path / "mine.yaml", FOLDER=str(tmp_path / "images"))
    assert run(config, tmp_path / "out", task="base2new") == 0
    base, new = sorted((tmp_path / "out").rglob("results.json"), key=lambda path: "test_new" in path.parts)
    assert again(new, tmp_path / "new") == 2
    assert "only tested what another run learned" in capsys.readouterr().err
    assert again(base, tmp_path / "new") == 0


def _predictions(finished: Path) -> list[str]:
    return gzip.decompress((finished.parent / "predictions.csv.gz").read_bytes()).decode().splitlines()[1:]
