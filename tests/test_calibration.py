"""``predict.py --calibrate``, ``--evaluate`` and ``--calibrated`` on a run: what is written, what is said, what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import predict
from analysis.conformal import nonconformity, parts, tempered
from analysis.metrics import metrics
from dassl.utils import UserError
from datasets.labelled import labelled_images
from runs.calibration import FILE, read_calibration
from runs.inference import load_run
from tests.conftest import BTMRI_CLASSES, REPO, write_dataset
from tests.helpers import quick
from tests.image_files import write_dicom
from tests.test_predict import keep

pytestmark = pytest.mark.usefixtures("log_off_stdout")


@pytest.fixture(scope="module")
def made(tiny_biomedclip, btmri_root, tmp_path_factory) -> Path:
    """A run of CoOp whose context is not what it started from."""
    trainer = quick("CoOp", tiny_biomedclip, btmri_root, tmp_path_factory.mktemp("was"))
    drawn = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in trainer.prompt_learner.state_dict().values():
            value += 0.2 * torch.randn(value.shape, generator=drawn)
    return keep(trainer, tmp_path_factory.mktemp("made") / "run")


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """Forty images in four class folders."""
    root = write_dataset(tmp_path_factory.mktemp("labelled"), "BTMRI", BTMRI_CLASSES, per_class=10)
    return root / "BTMRI" / "BTMRI"


def raw_of(run: Path, folder: Path, tmp_path: Path) -> tuple[list[str], np.ndarray]:
    """Paths and probabilities of plain predictions."""
    assert predict.main([str(run), str(folder), "-o", str(tmp_path / "raw.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "raw.csv").open()))
    return [row["image"] for row in rows], np.array([[float(row[name]) for name in BTMRI_CLASSES] for row in rows])


def test_a_calibration_is_written_and_used_only_when_asked(run, labelled, tmp_path, capsys) -> None:
    paths, raw = raw_of(run, labelled, tmp_path)
    before = (tmp_path / "raw.csv").read_bytes()
    assert predict.main([str(run), "--calibrate", str(labelled)]) == 0
    said = capsys.readouterr().out
    record = json.loads((run / FILE).read_text())
    assert f"written: {run / FILE}" in said and f"temperature {record['temperature']:.3f}" in said
    assert record["images"] == {"temperature": 10, "threshold": 20, "held out": 10}
    labels = np.array([BTMRI_CLASSES.index(Path(path).parent.name.replace("_", " ")) for path in paths])
    own, calm = parts(40, 1), tempered(raw, record["temperature"])
    wanted = sorted(nonconformity(calm)[number, labels[number]] for number in own["threshold"])
    np.testing.assert_allclose(record["scores"], wanted, rtol=1e-5)
    # not asked for, not used
    assert predict.main([str(run), str(labelled), "-o", str(tmp_path / "raw.csv")]) == 0
    assert (tmp_path / "raw.csv").read_bytes() == before
    # asked for
    out = tmp_path / "sets.csv"
    capsys.readouterr()
    assert predict.main([str(run), str(labelled), "--calibrated", "--coverage", "0.8", "-o", str(out)]) == 0
    assert "calibrated on 40 images" in capsys.readouterr().err
    limit = wanted[int(np.ceil(21 * 0.8)) - 1]
    for row, p in zip(csv.DictReader(out.open()), calm, strict=True):
        np.testing.assert_allclose([float(row[name]) for name in BTMRI_CLASSES], p, rtol=1e-4)
        inside = (nonconformity(p[None])[0] <= limit * (1 + 1e-6)) | (p == p.max())
        assert set(row["prediction_set"].split("; ")) == {n for n, yes in zip(BTMRI_CLASSES, inside, strict=True) if yes}
        assert row["prediction_set"].split("; ")[0] == row["prediction"]


def test_the_same_images_give_the_same_file(run, labelled) -> None:
    for _ in range(2):
        assert predict.main([str(run), "--calibrate", str(labelled), "--penalty", "0.1"]) == 0
        text = (run / FILE).read_text()
        (run / FILE).unlink()
    assert predict.main([str(run), "--calibrate", str(labelled), "--penalty", "0.1"]) == 0
    assert (run / FILE).read_text() == text and json.loads(text)["score"] == "raps"


def test_sets_in_a_table_and_in_json(run, labelled, tmp_path, capsys) -> None:
    assert predict.main([str(run), "--calibrate", str(labelled)]) == 0
    capsys.readouterr()
    image = str(labelled / "normal_brain" / "000.png")
    assert predict.main([str(run), image, "--calibrated"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[-1] == "set"
    assert predict.main([str(run), image, "--calibrated", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["calibrated"]["coverage"] == 0.9 and told["calibrated"]["source"] == str(labelled)
    assert told["images"][0]["prediction_set"][0] == told["images"][0]["prediction"]
    assert predict.main([str(run), image, "--format", "json"]) == 0
    assert not {"calibrated", "prediction_set"} & {*(told := json.loads(capsys.readouterr().out)), *told["images"][0]}
    assert predict.main([str(run), image, "--calibrated", "--top-k", "1", "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "image,class_1,probability_1,prediction_set"


def test_metrics_of_labelled_images(run, labelled, tmp_path, capsys) -> None:
    paths, raw = raw_of(run, labelled, tmp_path)
    labels = [BTMRI_CLASSES.index(Path(path).parent.name.replace("_", " ")) for path in paths]
    capsys.readouterr()
    out = tmp_path / "new" / "metrics.json"
    assert predict.main([str(run), "--evaluate", str(labelled), "-o", str(out)]) == 0
    said, told = capsys.readouterr().out, json.loads(out.read_text())
    wanted = metrics(labels, raw, BTMRI_CLASSES)
    for name, value in wanted["metrics"].items():
        assert told["metrics"][name] == pytest.approx(value, rel=1e-4)
        low, high = told["intervals"][name]
        assert low <= high
    assert told["confusion_matrix"] == wanted["confusion_matrix"] and told["calibrated"] is None
    assert told["metrics"]["brier"] == pytest.approx(((raw - np.eye(4)[labels]) ** 2).sum(axis=1).mean(), rel=1e-4)
    assert "not calibrated (--calibrated)" in said and f"{told['metrics']['accuracy']:.2f} %" in said
    assert "1 glioma tumor" in said and f"written: {out}" in said


def test_calibrated_metrics_warn_of_images_that_were_seen(run, labelled, tmp_path, capsys) -> None:
    assert predict.main([str(run), "--calibrate", str(labelled)]) == 0
    other = tmp_path / "other"
    for name in BTMRI_CLASSES:
        folder = other / name.replace(" ", "_").upper()
        folder.mkdir(parents=True)
        shutil.copy(labelled / name.replace(" ", "_") / "001.png", folder / "again.png")
    new = write_dataset(tmp_path / "new", "BTMRI", BTMRI_CLASSES[:1], per_class=3, size=50) / "BTMRI" / "BTMRI"
    shutil.copytree(new / "glioma_tumor", other / "GLIOMA_TUMOR", dirs_exist_ok=True)
    out = tmp_path / "m.json"
    capsys.readouterr()
    assert predict.main([str(run), "--evaluate", str(other), "--calibrated", "-o", str(out)]) == 0
    said, told = capsys.readouterr().out, json.loads(out.read_text())
    assert told["calibrated"]["images_of_the_calibration"] == 4 and "warning: 4 of the 7 images" in said
    record = json.loads((run / FILE).read_text())
    assert told["calibrated"]["temperature"] == record["temperature"]
    assert 0 <= told["calibrated"]["coverage"] <= 1 and "here, sets of 90 % hold the true class" in said


def test_unreadable_labelled_images_are_named(run, labelled, tmp_path, capsys) -> None:
    folder = Path(shutil.copytree(labelled, tmp_path / "some"))
    (folder / "glioma_tumor" / "bad.png").write_text("no image")
    out = tmp_path / "m.json"
    assert predict.main([str(run), "--evaluate", str(folder), "-o", str(out)]) == 3
    assert "unreadable, skipped" in capsys.readouterr().err
    told = json.loads(out.read_text())
    assert told["num_test"] == 40 and told["unreadable"][0]["image"].endswith("bad.png")
    assert predict.main([str(run), "--calibrate", str(folder)]) == 3
    assert sum(json.loads((run / FILE).read_text())["images"].values()) == 40


# -- another model, a damaged file ------------------------------------------------------------------------


def test_a_calibration_of_another_model_is_refused(run, labelled) -> None:
    assert predict.main([str(run), "--calibrate", str(labelled)]) == 0
    trainer = load_run(run)
    assert read_calibration(run, trainer).record["classes"] == list(BTMRI_CLASSES)
    with pytest.raises(UserError, match="another checkpoint, backbone or list of classes"):
        read_calibration(run, load_run(run, classnames=[*BTMRI_CLASSES[:3], "healthy brain"]))
    with torch.no_grad():
        trainer.prompt_learner.ctx[0, 0] += 1e-3
    with pytest.raises(UserError, match="another checkpoint"):
        read_calibration(run, trainer)


DAMAGED = {
    "cut short": lambda text: text[:40],
    "no JSON of ours": lambda text: "[]",
    "no scores": lambda text: json.dumps(json.loads(text) | {"scores": []}),
    "no number": lambda text: json.dumps(json.loads(text) | {"temperature": "warm"}),
    "NaN": lambda text: json.dumps(json.loads(text) | {"temperature": float("nan")}),
    "negative": lambda text: json.dumps(json.loads(text) | {"temperature": -1.0}),
    "another form": lambda text: json.dumps(json.loads(text) | {"form": 2}),
    "lacks": lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != "held_out"}),
}


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_calibration_is_one_line(how: str, run, labelled, capsys) -> None:
    assert predict.main([str(run), "--calibrate", str(labelled)]) == 0
    (run / FILE).write_text(DAMAGED[how]((run / FILE).read_text()))
    capsys.readouterr()
    assert predict.main([str(run), str(labelled), "--calibrated"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "is damaged" in said and "--calibrate" in said


MISTAKES = [
    (["--calibrated", "{images}"], "no {run}/calibration.json: make it of labelled images"),
    (["--calibrate", "{images}", "--coverage", "0.95"], "40 labelled images"),
    (["--calibrate", "{images}", "--coverage", "1"], "--coverage is 1, must be between 0 and 1"),
    (["--calibrate", "{images}", "--penalty", "-1"], "--penalty is -1"),
    (["--calibrate", "{images}", "--evaluate", "{images}"], "exclude each other"),
    (["--calibrate", "{images}", "-o", "x.json"], "leave out -o"),
    (["--evaluate", "{images}", "-o", "x.csv"], "ends in .json"),
    (["--evaluate", "{images}", "--top-k", "2"], "no --top-k"),
    (["--evaluate", "{images}", "--batch-size", "0"], "must be 1 or more"),
    (["--evaluate", "/nowhere"], "no such file or folder: /nowhere"),
    (["--evaluate", "{images}", "--part", "test"], "is not divided into parts"),
    (["{images}", "--part", "test"], "--part is read with --calibrate or --evaluate only"),
    (["{images}", "--data", "DATASET.ROOT", "x"], "--data is read with --calibrate or --evaluate only"),
    (["{images}", "--penalty", "0"], "--penalty is read with --calibrate only"),
    (["--evaluate", "{images}", "--penalty", "0.1"], "--penalty is read with --calibrate only"),
    (["{images}", "--coverage", "0.9"], "--coverage is read with --calibrate or --calibrated only"),
    (["{images}", "--map", "rollout"], "--map is read with --explain only"),
]


@pytest.mark.parametrize("words, what", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(words, what, run, labelled, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    if "0.95" in words:  # which needs 37
        labelled = Path(shutil.copytree(labelled, tmp_path / "some"))
        for path in [*labelled.rglob("00[6-9].png")]:
            path.unlink()
        what = "24 labelled images: sets of 95 % need 37"
    assert predict.main([str(run), *(word.format(images=labelled) for word in words)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ") and what.format(run=run) in said[-1] and len(said) == 1
    assert not (run / FILE).exists() and not list(tmp_path.glob("x.*"))


def test_images_or_labelled_images_are_required(run, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        predict.main([str(run)])
    assert ended.value.code == 2 and "required: images" in capsys.readouterr().err


# -- where labels come from -------------------------------------------------------------------------------


def read(source: Path, *words: str, part: str = "", **mapping: str) -> dict[str, list[int]]:
    """Labels by the first letter of each image's name."""
    found = labelled_images(source, BTMRI_CLASSES, words, part, mapping)
    return dict(zip([path.name for path in found.paths], found.labels, strict=True)) | {"notes": found.notes}


def test_a_table_by_class_and_by_number(labelled, tmp_path) -> None:
    files = {name: f"{name.replace(' ', '_')}_000.png" for name in BTMRI_CLASSES}
    for name, file in files.items():
        shutil.copy(labelled / name.replace(" ", "_") / "000.png", tmp_path / file)
    write_dicom(tmp_path / "scan.dcm", np.arange(64 * 64).reshape(64, 64))
    rows = [*((file, name, label) for label, (name, file) in enumerate(files.items())), ("scan.dcm", "normal brain", 3)]
    for columns, pick in (("path,class", 1), ("file,label", 2)):
        table = tmp_path / "list.csv"
        table.write_text("\n".join([columns, *(f"{row[0]},{row[pick]}" for row in rows)]) + "\n")
        for source in (table, tmp_path):  # a table alone among loose images
            found = read(source)
            assert {file: found[file] for file in [*files.values(), "scan.dcm"]} == {row[0]: row[2] for row in rows}
        assert any("0 = glioma tumor" in note for note in found["notes"]) == (pick == 2)
    table.write_text("path,class,split\n" + "".join(f"{row[0]},{row[1]},{'test' if row[2] else 'train'}\n" for row in rows))
    with pytest.raises(UserError, match=r"parts of a split \(train 1, test 4\): say which, --part test"):
        read(table)
    assert set(read(table, part="test")) == {*list(files.values())[1:], "scan.dcm", "notes"}
    table.write_text("path,class\n" + "".join(f"{row[0]},{'brain' if row[2] else 'glioma tumor'}\n" for row in rows))
    with pytest.raises(UserError, match="the label brain is no class of the run"):
        read(table)


def test_folders_with_other_names_are_mapped_or_refused(labelled, tmp_path) -> None:
    folder = Path(shutil.copytree(labelled, tmp_path / "x"))
    (folder / "normal_brain").rename(folder / "ok")
    with pytest.raises(UserError, match="the folder ok is no class of the run .*DATASET.EXCLUDE"):
        read(folder)
    by_word = ["DATASET.CLASS_FOLDERS", '["ok"]', "DATASET.CLASSNAMES", '["normal brain"]']
    for found in (read(folder, *by_word), read(folder, ok="normal brain")):
        assert found["000.png"] in range(4) and not any("no images of" in note for note in found["notes"])
    found = labelled_images(folder, BTMRI_CLASSES, ["DATASET.EXCLUDE", '["ok"]'])
    assert set(found.labels) == {0, 1, 2} and "no images of normal brain" in found.notes
    with pytest.raises(UserError, match="DATASET.FOLDER is told by"):
        read(folder, "DATASET.FOLDER", "y")
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no class folders"):
        read(tmp_path / "none")
    with pytest.raises(UserError, match="is no folder of class folders, no CSV"):
        read(folder / "ok" / "000.png")


def test_parts_must_be_named(labelled, btmri_root, tmp_path) -> None:
    for part in ("train", "test"):
        shutil.copytree(labelled, tmp_path / "own" / part)
    with pytest.raises(UserError, match="parts of a split"):
        read(tmp_path / "own")
    found = labelled_images(tmp_path / "own", BTMRI_CLASSES, part="test")
    assert len(found.paths) == 40 and {path.parts[-3] for path in found.paths} == {"test"}
    assert len(labelled_images(tmp_path / "own" / "test", BTMRI_CLASSES).paths) == 40
    shutil.rmtree(tmp_path / "own" / "train")
    with pytest.raises(UserError, match="name one of them, .*own/test"):
        read(tmp_path / "own")
    file = REPO / "configs" / "datasets" / "btmri.yaml"
    with pytest.raises(UserError, match="say which, --part test"):
        read(file, "DATASET.ROOT", str(btmri_root))
    found = labelled_images(file, BTMRI_CLASSES, ["DATASET.ROOT", str(btmri_root)], "test")
    split = json.loads((btmri_root / "BTMRI" / "split_BTMRI.json").read_text())["test"]
    assert [(path.relative_to(btmri_root / "BTMRI" / "BTMRI").as_posix(), label) for path, label in zip(
        found.paths, found.labels, strict=True)] == [(path, label) for path, label, _ in split]  # fmt: skip


def test_one_class_alone_calibrates_nothing_and_a_flat_interval_is_no_certainty(run, labelled, tmp_path, capsys) -> None:
    folder = next(path for path in sorted(labelled.iterdir()) if path.is_dir())
    shutil.copytree(folder, tmp_path / "one" / folder.name)
    some = sorted((tmp_path / "one" / folder.name).iterdir())
    for number in range(20 - len(some)):
        shutil.copy(some[0], some[0].with_name(f"more{number}.png"))
    assert predict.main([str(run), "--calibrate", str(tmp_path / "one")]) == 2
    assert "a calibration on one class says nothing of the others" in capsys.readouterr().err and not (run / FILE).exists()
    for path in sorted((tmp_path / "one" / folder.name).iterdir())[1:]:
        path.unlink()
    assert predict.main([str(run), "--evaluate", str(tmp_path / "one")]) == 0
    said = capsys.readouterr().out
    assert "of 1 image " in said and "an interval without width is no certainty" in said
