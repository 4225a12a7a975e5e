"""Features on disk: equal to direct encoding, shared by methods, whole whatever happens to a writer or a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dassl.utils import NotFiniteError
from features.__main__ import main as command
from features.disk import Space, digest, prune, read_segment, spaces, verify
from tests.conftest import REPO
from tests.helpers import arguments, quick

KEYS = [digest(str(number)) for number in range(40)]
ROWS = torch.arange(40 * 8, dtype=torch.float32).view(40, 8)


def filled(root: Path, **about: object) -> Space:
    space = Space(root, about)
    space.put(KEYS[:25], ROWS[:25])
    space.put(KEYS[25:], ROWS[25:])
    return space


def segments(root: Path) -> list[Path]:
    return sorted(root.glob("*/[!.]*.safetensors"))


def test_rows_come_back_in_another_process_and_for_their_space_only(tmp_path: Path) -> None:
    filled(tmp_path, kind="image")
    again = Space(tmp_path, {"kind": "image"}).get(KEYS)
    assert torch.equal(torch.stack([again[key] for key in KEYS]), ROWS)
    assert Space(tmp_path, {"kind": "other"}).get(KEYS) == {}
    with pytest.raises(NotFiniteError, match="infinite or NaN"):
        Space(tmp_path, {}).put(KEYS[:1], torch.full((1, 8), float("nan")))


def changed_row(raw: bytes) -> bytes:
    """Another byte in the middle of the rows, wherever the file has them; the keys are whole."""
    start = 8 + int.from_bytes(raw[:8], "little")
    begin, end = json.loads(raw[8:start])["rows"]["data_offsets"]
    place = start + (begin + end) // 2
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


def changed_key(raw: bytes) -> bytes:
    start = 8 + int.from_bytes(raw[:8], "little")
    place = start + json.loads(raw[8:start])["keys"]["data_offsets"][0]
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


@pytest.mark.parametrize("harm", [lambda raw: raw[: len(raw) // 2], changed_row, changed_key])
def test_a_damaged_file_is_left_out_named_and_removed(harm, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path, kind="image")
    path = segments(tmp_path)[0]
    lost = len(read_segment(path)[0])
    path.write_bytes(harm(path.read_bytes()))
    assert len(Space(tmp_path, {"kind": "image"}).get(KEYS)) == len(KEYS) - lost
    assert len(verify(tmp_path)) == 1
    assert command(["--root", str(tmp_path), "verify"]) == 1 and path.name in capsys.readouterr().out
    assert command(["--root", str(tmp_path), "verify", "--remove"]) == 0
    assert verify(tmp_path) == []


def test_prune_removes_what_was_read_longest_ago(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, kind in enumerate(("old", "new")):
        space = filled(tmp_path, kind=kind)
        for path in space.folder.glob("*.safetensors"):
            os.utime(path, (1e9 + number, 1e9 + number))
    each = spaces(tmp_path)[0]["bytes"]
    assert command(["--root", str(tmp_path), "ls"]) == 0 and "old" in capsys.readouterr().out
    prune(tmp_path, each)
    assert [space["about"]["kind"] for space in spaces(tmp_path)] == ["new"]


WRITER = """
import sys, torch
from features.disk import Space, digest
space, mark = Space(sys.argv[1], {"kind": "image"}), int(sys.argv[2])
for turn in range(400):
    keys = [digest(f"{mark}/{turn}/{n}") for n in range(50)]
    with space.filling():
        space.put(keys, torch.full((50, 64), float(turn)))
    print(turn, flush=True)
"""


def test_two_writers_one_killed_lose_and_corrupt_nothing(tmp_path: Path) -> None:
    call = [sys.executable, "-c", WRITER, str(tmp_path)]
    one, two = (subprocess.Popen([*call, str(mark)], cwd=REPO, stdout=subprocess.PIPE, text=True) for mark in (1, 2))
    told = [one.stdout.readline() for _ in range(20)]
    os.kill(one.pid, signal.SIGKILL)
    told += one.stdout.readlines()
    assert two.wait(timeout=120) == 0 and one.wait() == -signal.SIGKILL
    assert verify(tmp_path) == []
    there = Space(tmp_path, {"kind": "image"})
    for mark, turns in ((1, len([line for line in told if line.endswith("\n")])), (2, 400)):
        for turn in range(turns):
            keys = [digest(f"{mark}/{turn}/{n}") for n in range(50)]
            found = there.get(keys)
            assert len(found) == 50 and all((row == turn).all() for row in found.values())


def ctx_after(method: str, mode: str, folder: Path, root: Path, out: Path) -> tuple[torch.Tensor, dict]:
    import train

    words = arguments(method, folder, root, out / mode, split="base", epochs=12, TEXT_DROPOUT=False)
    store = [] if mode == "direct" else ["FEATURES.ROOT", str(out / "features")]
    assert train.main([*words, "FEATURES.MODE", mode, *store]) == 0
    (path,) = (out / mode / "prompt_learner").glob("model.pth.tar-*")
    record = json.loads((out / mode / "results.json").read_text())
    return torch.load(path, weights_only=True)["state_dict"]["ctx"], record


@pytest.mark.parametrize("method", ["BiomedDPT", "CoOp", "CoCoOp", "KgCoOp", "ProGrad", "BiomedCoOp"])
def test_stored_features_train_as_direct_ones_do(method, tiny_biomedclip, btmri_root, tmp_path) -> None:
    direct, of_direct = ctx_after(method, "direct", tiny_biomedclip, btmri_root, tmp_path)
    stored, of_stored = ctx_after(method, "store", tiny_biomedclip, btmri_root, tmp_path)
    torch.testing.assert_close(stored, direct, rtol=0, atol=1e-4)
    assert of_direct["confusion_matrix"] == of_stored["confusion_matrix"]
    assert (of_direct["features"], of_stored["features"]) == ("direct", "store")


def test_a_second_method_encodes_no_image(tiny_biomedclip, btmri_root, tmp_path) -> None:
    extra = ("FEATURES.ROOT", str(tmp_path / "features"))
    first = quick("CoOp", tiny_biomedclip, btmri_root, tmp_path / "a", extra=extra)
    first.train()
    second = quick("KgCoOp", tiny_biomedclip, btmri_root, tmp_path / "b", extra=extra)
    second.encoder.encode = lambda images: pytest.fail("an image was encoded twice")
    second.train()
    direct = quick("KgCoOp", tiny_biomedclip, btmri_root, tmp_path / "c", extra=("FEATURES.MODE", "direct"))
    direct.train()
    assert second.last_results["accuracy"] == direct.last_results["accuracy"]
    learned = (one.prompt_learner.ctx.detach() for one in (second, direct))
    torch.testing.assert_close(*learned, rtol=0, atol=1e-4)


def test_a_bank_of_views_goes_round(tiny_biomedclip, btmri_root, tmp_path) -> None:
    extra = ("FEATURES.ROOT", str(tmp_path / "features"), "FEATURES.VIEWS", "2")
    trainer = quick("CoOp", tiny_biomedclip, btmri_root, tmp_path / "a", extra=extra)
    views = [trainer.store.views(epoch).features for epoch in range(4)]
    assert torch.equal(views[0], views[2]) and torch.equal(views[1], views[3]) and not torch.equal(views[0], views[1])
    assert any("FEATURES.VIEWS 2" in said for said in type(trainer).departures(trainer.cfg))
