"""LOGGER: where a training's scalars go. wandb and trackio are stood for by modules with their signatures."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import predict
import train
from dassl.utils import UserError
from dassl.utils.trackers import open_tracker, require_tracker, settings_of, title_of
from tests.helpers import arguments, build

pytestmark = pytest.mark.usefixtures("log_off_stdout")


class FakeRun:
    """What ``init`` of both packages returns, as far as it is used."""

    def __init__(self, **asked: Any) -> None:
        self.asked, self.rows, self.axes, self.finished = asked, [], {}, 0

    def log(self, row: dict[str, float]) -> None:
        assert not self.finished
        self.rows.append(row)

    def define_metric(self, name: str, *, step_metric: str) -> None:
        self.axes[name] = step_metric

    def finish(self) -> None:
        self.finished += 1

    def series(self, tag: str) -> list[tuple[float, float]]:
        """(step, value) of one scalar."""
        step = f"{tag.split('/')[0]}/step"
        return [(row[step], row[tag]) for row in self.rows if tag in row]


class Fake(ModuleType):
    """``wandb`` or ``trackio``; ``runs`` are those that were begun."""

    def __init__(self, name: str, error: Exception | None = None) -> None:
        super().__init__(name)
        self.runs: list[FakeRun] = []
        self.error = error
        self.__spec__ = sys.__spec__  # which find_spec asks for

    def init(
        self, *, project: str, name: str, config: dict[str, Any], dir: str = "", reinit: str = "", settings: Any = None
    ) -> FakeRun:
        if self.error:
            raise self.error
        assert (self.__name__ == "wandb") == bool(dir) == (reinit == "create_new") == bool(settings)
        if settings:  # neither the log nor the command line, where paths are
            assert settings["console"] == "off" and settings["x_disable_meta"] and settings["disable_git"]
        self.runs.append(FakeRun(project=project, name=name, config=config, dir=dir))
        return self.runs[-1]


@pytest.fixture(params=["wandb", "trackio"])
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fake:
    module = Fake(request.param)
    monkeypatch.setitem(sys.modules, request.param, module)
    for name in ("WANDB_PROJECT", "TRACKIO_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    return module


def words(folder: Path, root: Path, out: Path, logger: str, method: str = "CoOp") -> list[str]:
    return [*arguments(method, folder, root, out, split="all", epochs=2), "LOGGER", logger]


def test_a_training_is_told_whole(fake: Fake, tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train.main(words(tiny_biomedclip, btmri_root, out, fake.__name__)) == 0
    (run,) = fake.runs
    assert run.finished == 1 and not (out / "tensorboard").exists()
    assert (run.asked["project"], run.asked["name"]) == ("biomed-dpt", "CoOp_BiomedCLIP BTMRI all 2 shots seed 1")
    steps = [step for step, _ in run.series("train/loss")]
    assert steps == list(range(len(steps))) and len(steps) == 2  # 8 images are a batch
    assert [step for step, _ in run.series("train/lr")] == steps
    ((epoch, accuracy),) = run.series("test/accuracy")
    assert epoch == 1 and 0 <= accuracy <= 100
    assert {"train/loss", "train/acc", "train/lr", "train/step"} <= set(run.rows[0])  # a step is one row
    if fake.__name__ == "wandb":
        assert run.asked["dir"] == str(out) and run.axes["train/*"] == "train/step"
    text = str(run.asked["config"])
    assert str(tmp_path) not in text and str(btmri_root) not in text and str(tiny_biomedclip) not in text
    assert run.asked["config"]["TRAINER.COOP.N_CTX"] == 4 and "TRAINER.BIOMEDDPT.N_CTX" not in run.asked["config"]
    # what was computed does not depend on it, nor which run it is
    plain = tmp_path / "plain"
    assert train.main(words(tiny_biomedclip, btmri_root, plain, "none")) == 0
    assert (plain / "predictions.csv.gz").read_bytes() == (out / "predictions.csv.gz").read_bytes()
    assert len(fake.runs) == 1 and not (plain / "tensorboard").exists()
    hashes = [yaml.safe_load((one / "results.json").read_text())["config_hash"] for one in (plain, out)]
    assert hashes[0] == hashes[1]


def test_predicting_needs_no_tracker(fake: Fake, tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "run"
    assert train.main(words(tiny_biomedclip, btmri_root, out, fake.__name__)) == 0
    monkeypatch.setitem(sys.modules, fake.__name__, None)
    image = next(btmri_root.rglob("*.png"))
    assert predict.main([str(out), str(image), "-o", str(tmp_path / "out.csv")]) == 0
    assert len(fake.runs) == 1


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_absent_is_one_line_before_anything_is_loaded(name, tiny_biomedclip, btmri_root, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("dassl.utils.trackers.find_spec", lambda package: None)
    out = tmp_path / "run"
    assert train.main(words(tiny_biomedclip, btmri_root, out, name)) == 2
    told = capsys.readouterr().err
    assert told == f"error: LOGGER is {name}, and the package {name} is not installed: pip install {name}\n"
    assert not out.exists()
    require_tracker("tensorboard"), require_tracker("none")  # which need none of these


def test_an_unknown_one_is_named(tiny_biomedclip, btmri_root, tmp_path, capsys) -> None:
    assert train.main(words(tiny_biomedclip, btmri_root, tmp_path / "run", "mlflow")) == 2
    assert "LOGGER is 'mlflow', must be tensorboard, wandb, trackio or none" in capsys.readouterr().err
    with pytest.raises(UserError, match='"wandbb" is unknown. Did you mean "wandb"'):
        require_tracker("wandbb")


def test_one_that_does_not_start_is_one_line(fake: Fake, tiny_biomedclip, btmri_root, tmp_path, capsys) -> None:
    fake.error = RuntimeError("api_key not configured\n(no-tty)")
    assert train.main(words(tiny_biomedclip, btmri_root, tmp_path / "run", fake.__name__)) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"error: LOGGER is {fake.__name__}, and it does not start (api_key not configured (no-tty)): ")


def test_rows_never_mix_parts_steps_or_values(fake: Fake, tmp_path: Path) -> None:
    tracker = open_tracker(fake.__name__, str(tmp_path))
    for tag, value, step in [("train/a", 1, 0), ("train/b", 2, 0), ("train/a", 3, 0), ("val/a", 4, 0), ("train/a", 5, 1)]:
        tracker.add_scalar(tag, value, step)
    tracker.add_scalar("free", 6)
    tracker.close()
    assert fake.runs[0].rows == [
        {"train/a": 1, "train/b": 2, "train/step": 0},
        {"train/a": 3, "train/step": 0},
        {"val/a": 4, "val/step": 0},
        {"train/a": 5, "train/step": 1},
        {"free": 6},
    ]


def test_what_a_tracker_is_told_names_no_place(tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path) -> None:
    extra = ("MODEL.BACKBONE.NAME", f"local-dir:{tiny_biomedclip}", "OUTPUT_DIR", str(tmp_path / "out"))
    cfg = build("CoOp", tiny_biomedclip, btmri_root, tmp_path / "out", split="all").cfg.clone()
    cfg.defrost()
    cfg.merge_from_list(list(extra))
    told = settings_of(cfg, "COOP")
    assert told["MODEL.BACKBONE.NAME"] == "local-dir" and str(tiny_biomedclip) not in str(told) + title_of(cfg)
    assert not [key for key in told if key.endswith((".ROOT", ".FOLDER", ".PATH", ".CSV", "_DIR"))]
    assert told["OPTIM.LR"] == cfg.OPTIM.LR and told["SEED"] == 1
