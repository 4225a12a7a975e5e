"""predict.py and export.py without a model: forms of output, what is refused before a run is loaded, what is passed on."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import export
import predict
from dassl.utils import UserError
from predict import Row, as_csv, as_table
from runs import inference

ROWS = [
    Row("=1+1.png", [("@b", 0.5), ("a", 0.25), ("c", 0.15), ("d", 0.1)]),
    Row("two.png", [("a", 0.7), ("d", 0.2), ("c", 0.07), ("@b", 0.03)]),
]


# -- forms ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top, columns", [(None, 3), (2, 2), (4, 4)])
def test_a_table_shows_three_classes_in_percent_or_as_many_as_asked(top: int | None, columns: int) -> None:
    heads, _, first, _ = as_table(ROWS, top).splitlines()
    assert heads.split() == ["image", *(word for rank in range(columns) for word in ("likeliest", str(rank + 1)))]
    assert first.split()[:7] == ["=1+1.png", "@b", "50.0", "%", "a", "25.0", "%"] and first.count("%") == columns


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_a_spreadsheet_takes_no_name_for_a_formula() -> None:
    heads, first, second = cells(as_csv(ROWS, None, ["@b", "a", "c", "d"]))
    assert heads == ["image", "prediction", "probability", "'@b", "a", "c", "d"]
    assert first == ["'=1+1.png", "'@b", "0.5", "0.5", "0.25", "0.15", "0.1"]
    assert second == ["two.png", "a", "0.7", "0.03", "0.7", "0.07", "0.2"]


def test_the_likeliest_come_first_where_some_are_asked_for() -> None:
    heads, first, second = cells(as_csv(ROWS, 2, ["@b", "a", "c", "d"]))
    assert heads == ["image", "class_1", "probability_1", "class_2", "probability_2"]
    assert first == ["'=1+1.png", "'@b", "0.5", "a", "0.25"] and second == ["two.png", "a", "0.7", "d", "0.2"]


# -- before a run is loaded ---------------------------------------------------------------------------------


class Loaded(Exception):
    """A run would be loaded now."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """With what ``load_run`` is called; nothing is loaded."""
    told: dict[str, Any] = {}

    def load_run(run: Path, **how: Any) -> None:
        told.update(how, run=run)
        raise Loaded

    monkeypatch.setattr(inference, "load_run", load_run)
    monkeypatch.setattr(inference, "require_run", lambda run: None)
    monkeypatch.setattr(inference, "find_images", lambda images: [Path("a.png")])
    return told


@pytest.mark.parametrize("option", ["-o", "--explain"])
def test_predictions_that_could_not_be_written_are_not_made(option: str, asked, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    assert predict.main([str(tmp_path), "a.png", option, str(tmp_path / "file" / "out.csv")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err and not asked


@pytest.mark.parametrize("words", [["--workers", "-1"], ["--top-k", "0"], ["--batch-size", "0"]], ids=" ".join)
def test_numbers_that_are_none_are_refused(words: list[str], asked, tmp_path: Path, capsys) -> None:
    assert predict.main([str(tmp_path), "a.png", *words]) == 2
    assert "--workers 0 or more" in capsys.readouterr().err and not asked


def test_what_is_said_of_the_run_is_passed_on(asked, tmp_path: Path) -> None:
    words = ["--epoch", "3", "--backbone-path", "w", "--device", "cuda:1", "--classnames", "x", "y"]
    with pytest.raises(Loaded):
        predict.predict(predict.parse_arguments([str(tmp_path), "a.png", *words]))
    assert (asked["epoch"], str(asked["backbone_path"]), asked["device"]) == (3, "w", "cuda:1")
    assert list(asked["classnames"]) == ["x", "y"]


def test_an_export_is_of_the_checkpoint_and_classes_that_are_named_and_in_float32(asked, tmp_path: Path) -> None:
    with pytest.raises(Loaded):
        export.main.__wrapped__([str(tmp_path), "-o", str(tmp_path / "served"), "--epoch", "3", "--classnames", "x", "y"])
    assert (asked["epoch"], asked["device"], asked["full_precision"]) == (3, "cpu", True)
    assert list(asked["classnames"]) == ["x", "y"]


@pytest.mark.parametrize("where", ["file", f"full/{export.MODEL}", f"full/{export.FACTS}"])
def test_an_export_that_could_not_be_written_is_not_begun(where: str, asked, tmp_path: Path, capsys) -> None:
    place = tmp_path / where
    place.parent.mkdir(exist_ok=True)
    if where == "file":
        place.touch()  # in place of the folder
    else:
        place.mkdir()  # in place of a file
    folder = place if where == "file" else place.parent
    assert export.main([str(tmp_path), "-o", str(folder)]) == 2
    assert str(place) in capsys.readouterr().err and not asked


# -- what can be exported -----------------------------------------------------------------------------------


def trainer(no_transform: bool, *transforms: str) -> Any:
    own = SimpleNamespace(
        NO_TRANSFORM=no_transform, TRANSFORMS=transforms, INTERPOLATION="bicubic", PIXEL_MEAN=[1], PIXEL_STD=[2]
    )
    return SimpleNamespace(cfg=SimpleNamespace(INPUT=own), backbone=SimpleNamespace(image_size=8), text_sees_image=False)


@pytest.mark.parametrize(
    "one", [trainer(True, "normalize"), trainer(False, "normalize", "instance_norm")], ids=["none", "norm"]
)
def test_another_transform_is_refused_before_the_graph_is_made(one: Any, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(export, "Classifier", lambda trainer: pytest.fail("made a graph"))
    with pytest.raises(UserError, match="test transform cannot be exported"):
        export.export(one, tmp_path, tmp_path / "served")
    assert not (tmp_path / "served").exists()
    plain, normalised = (export.preprocessing(trainer(False, *names)) for names in ((), ("normalize",)))
    assert (normalised["mean"], normalised["std"]) == ([1], [2])
    assert (plain["mean"], plain["std"]) == ([0, 0, 0], [1, 1, 1])


def test_absent_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(UserError, match=r"^exporting needs onnxscript: pip install onnxscript$"):
        export.export(trainer(False), tmp_path, tmp_path)


@pytest.mark.parametrize("difference, kept", [(1.1e-4, False), (float("nan"), False), (0.9e-4, True)])
def test_a_graph_that_departs_by_more_than_a_ten_thousandth_is_not_kept(
    difference: float, kept: bool, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: name)
    monkeypatch.setattr(export.torch.onnx, "export", lambda *graph, dynamic_shapes=None: None)
    monkeypatch.setattr(export, "Classifier", lambda trainer: SimpleNamespace(eval=lambda: None))
    monkeypatch.setattr(export, "write_onnx", lambda classifier, size, path: Path(path).write_bytes(b"graph"))
    monkeypatch.setattr(export, "largest_difference", lambda *graph: difference)
    monkeypatch.setattr(export, "facts", lambda *about: {"largest_difference": difference})
    if kept:
        assert export.export(trainer(False), tmp_path, tmp_path) == difference
    else:
        with pytest.raises(UserError, match="nothing is kept"):
            export.export(trainer(False), tmp_path, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == ({export.MODEL, export.FACTS} if kept else set())
