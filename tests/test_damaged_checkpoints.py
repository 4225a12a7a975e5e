"""Checkpoints that are cut, changed or of something else: one line each, and what a rerun goes on from."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import predict
import train
from dassl.utils import UserError, last_good, load_checkpoint, save_checkpoint
from tests.helpers import arguments

LEARNED = "prompt_learner"


@pytest.fixture(scope="module")
def unfinished(tiny_biomedclip: Path, btmri_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the checkpoints of its epochs 1 and 2, of 3, whose last is the file of a killed one."""
    folder = tmp_path_factory.mktemp("run") / "run"
    assert train.main(words(tiny_biomedclip, btmri_root, folder)) == 0
    for name in ("results.json", "predictions.csv.gz", f"{LEARNED}/model.pth.tar-3"):
        (folder / name).unlink()
    (folder / LEARNED / "checkpoint").write_text("model.pth.tar-2\n")
    return folder


def words(weights: Path, root: Path, out: Path, *more: str) -> list[str]:
    call = arguments("CoOp", weights, root, out, split="all", epochs=3)
    return [*more, *call, "TRAIN.CHECKPOINT_FREQ", "1"]


@pytest.fixture
def run(unfinished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(unfinished, tmp_path / "run"))


def checkpoint(run: Path, epoch: int = 2) -> Path:
    return run / LEARNED / f"model.pth.tar-{epoch}"


def rewrite(path: Path, change) -> None:
    state = load_checkpoint(str(path))
    torch.save(change(state), path)


DAMAGE = {
    "cut in the middle": lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
    "cut at its end": lambda p: p.write_bytes(p.read_bytes()[:-1]),
    "cut at its start": lambda p: p.write_bytes(p.read_bytes()[:40]),
    "empty": lambda p: p.write_bytes(b""),
    "text": lambda p: p.write_text("hello"),
    "list": lambda p: torch.save([1, 2], p),
    "bare tensor": lambda p: torch.save(torch.zeros(3), p),
    "no state_dict": lambda p: rewrite(p, lambda s: {k: v for k, v in s.items() if k != "state_dict"}),
    "no tensors": lambda p: rewrite(p, lambda s: s | {"state_dict": {"ctx": 3}}),
    "no epoch": lambda p: rewrite(p, lambda s: {k: v for k, v in s.items() if k != "epoch"}),
    "epoch of text": lambda p: rewrite(p, lambda s: s | {"epoch": "two"}),
    "folder": lambda p: (p.unlink(), p.mkdir()),
}


@pytest.mark.parametrize("kind", [kind for kind in DAMAGE if kind != "folder"])
def test_the_rerun_goes_on_from_the_last_good_epoch(
    kind: str, run: Path, tiny_biomedclip: Path, btmri_root: Path, capsys
) -> None:
    DAMAGE[kind](checkpoint(run))
    assert train.main(words(tiny_biomedclip, btmri_root, run)) == 0
    said = capsys.readouterr().out
    assert f"going on from an earlier epoch, {checkpoint(run, 1)}" in said and str(checkpoint(run)) in said
    assert "epoch [2/3]" in said and "epoch [1/3]" not in said and (run / "results.json").is_file()


def test_it_ends_as_the_undisturbed_run(run: Path, unfinished: Path, tiny_biomedclip: Path, btmri_root: Path, tmp_path) -> None:
    whole = tmp_path / "whole"
    assert train.main(words(tiny_biomedclip, btmri_root, whole)) == 0
    DAMAGE["cut in the middle"](checkpoint(run))
    assert train.main(words(tiny_biomedclip, btmri_root, run)) == 0
    ends = [load_checkpoint(str(checkpoint(one, 3)))["state_dict"]["ctx"] for one in (whole, run)]
    assert torch.equal(*ends)


@pytest.mark.parametrize("kind", ["cut in the middle", "list", "empty"])
def test_without_a_good_one_it_is_told_how_to_begin_anew(
    kind: str, run: Path, tiny_biomedclip: Path, btmri_root: Path, capsys
) -> None:
    for epoch in (1, 2):
        DAMAGE[kind](checkpoint(run, epoch))
    assert train.main(words(tiny_biomedclip, btmri_root, run)) == 2
    told = capsys.readouterr().err
    assert told.count("error: ") == 1 and "Traceback" not in told and "--restart" in told and str(checkpoint(run)) in told
    assert not (run / "results.json").exists()
    assert train.main(words(tiny_biomedclip, btmri_root, run, "--restart")) == 0
    said = capsys.readouterr().out
    assert f"begun anew: {run}" in said and "epoch [1/3]" in said and (run / "results.json").is_file()
    before = (run / "results.json").read_bytes()
    learned = {path.name: path.stat().st_mtime_ns for path in (run / LEARNED).iterdir()}
    assert train.main([*words(tiny_biomedclip, btmri_root, run), "--no-train"][:-1]) == 0  # a finished one stays
    assert {path.name for path in (run / LEARNED).iterdir()} == set(learned) and before


@pytest.mark.parametrize("pointer", ["", "\n", "../model.pth.tar-1\n", "\0\n"])
def test_a_pointer_to_nothing(pointer: str, run: Path, tiny_biomedclip: Path, btmri_root: Path, capsys) -> None:
    (run / LEARNED / "checkpoint").write_text(pointer)
    assert train.main(words(tiny_biomedclip, btmri_root, run)) == 0
    assert "going on from an earlier epoch" in capsys.readouterr().out


MISFIT = {
    "optimizer": (lambda s: s | {"optimizer": {"state": {}, "param_groups": []}}, "the optimizer's state"),
    "optimizer of text": (lambda s: s | {"optimizer": "sgd"}, "the optimizer's state"),
    "rng": (lambda s: s | {"rng": {"python": (3, (1, 2), None)}}, "the state of the random sources"),
    "rng of another kind": (lambda s: s | {"rng": s["rng"] | {"torch": torch.zeros(3)}}, "the state of the random sources"),
    "names": (lambda s: s | {"state_dict": OrderedDict(other=torch.zeros(2))}, "cannot be resumed from"),
    "shape": (lambda s: s | {"state_dict": OrderedDict(ctx=torch.zeros(2, 2))}, "cannot be resumed from"),
}


@pytest.mark.parametrize("kind", MISFIT)
def test_a_state_of_something_else_is_one_line(kind: str, run: Path, tiny_biomedclip: Path, btmri_root: Path, capsys) -> None:
    change, said = MISFIT[kind]
    rewrite(checkpoint(run), change)
    assert train.main(words(tiny_biomedclip, btmri_root, run)) == 2
    told = capsys.readouterr().err
    assert told.count("error: ") == 1 and said in told and "Traceback" not in told and not (run / "results.json").exists()


@pytest.mark.parametrize(
    "kind", ["cut in the middle", "cut at its end", "empty", "list", "no state_dict", "no tensors", "folder"]
)
def test_eval_only_and_predict_say_it_too(
    kind: str, run: Path, tiny_biomedclip: Path, btmri_root: Path, tmp_path, capsys
) -> None:
    DAMAGE[kind](checkpoint(run))
    call = words(tiny_biomedclip, btmri_root, tmp_path / "test", "--eval-only", "--model-dir", str(run), "--load-epoch", "2")
    assert train.main(call) == 2
    assert predict.main([str(run), str(next(btmri_root.rglob("*.png"))), "--epoch", "2"]) == 2
    told = capsys.readouterr().err
    assert told.count("error: ") == 2 and told.count(str(checkpoint(run))) >= 2 and "Traceback" not in told


def test_resume_of_nothing_is_refused(tiny_biomedclip: Path, btmri_root: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "nothing").mkdir()
    assert train.main(words(tiny_biomedclip, btmri_root, tmp_path / "out", "--resume", str(tmp_path / "nothing"))) == 2
    assert f"--resume {tmp_path / 'nothing'}: no checkpoint in" in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.json").exists()
    assert train.main(words(tiny_biomedclip, btmri_root, tmp_path / "out", "--resume", "x", "--restart")) == 2


@pytest.mark.parametrize("key, value", [("OPTIM.MAX_EPOCH", "0"), ("OPTIM.MAX_EPOCH", "-3"), ("DATASET.NUM_SHOTS", "0"),
                                        ("DATASET.NUM_SHOTS", "-2"), ("DATASET.NUM_SHOTS", "1000000000")])  # fmt: skip
def test_settings_that_nobody_can_mean(key: str, value: str, tiny_biomedclip: Path, btmri_root: Path, tmp_path, capsys) -> None:
    assert train.main([*words(tiny_biomedclip, btmri_root, tmp_path / "out"), key, value]) == 2
    assert f"{key} is {value}, must be 1" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("saved")
    state = {"state_dict": OrderedDict(ctx=torch.randn(4, 32)), "epoch": 2, "optimizer": {"state": {0: {"step": 3}}}}
    return Path(save_checkpoint(state, str(folder))).read_bytes()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_cut_and_any_change_is_told(saved: bytes, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every length, and bytes changed anywhere: read in full, or refused in one line."""
    content = bytearray(saved[: data.draw(st.integers(0, len(saved)))])
    for place in data.draw(st.lists(st.integers(0, max(len(content) - 1, 0)), max_size=4 if content else 0)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("cut") / "model.pth.tar-2"
    path.write_bytes(content)
    (path.parent / "checkpoint").write_text(path.name)
    try:
        _, state = last_good(str(path.parent))
    except UserError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert isinstance(state["state_dict"], dict)
