"""``python -m share push``: what is sent to the hub, what is not, and what is said where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from share.command import main
from share.pack import FILES, pack
from tests.fake_hub import FakeHub, Served
from tests.synthetic_runs import write_run
from tests.test_share_hub import NAME, hub  # noqa: F401  (a fixture)
from trainers.checkpoints import LEARNER


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run, written without a model."""
    folder = write_run(tmp_path / "runs")
    (folder / "config.yaml").write_text("TRAINER:\n  NAME: CoOp\nDATASET:\n  NAME: BTMRI\n")
    torch.save({"state_dict": {"ctx": torch.zeros(4, 2)}, "epoch": 50}, folder / LEARNER / "model.pth.tar-50")
    record = json.loads((folder / "results.json").read_text()) | {"files": {}}
    (folder / "results.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")


def sent(hub: FakeHub) -> list[dict[str, bytes]]:  # noqa: F811
    return hub.uploads.commits.get(NAME, [])


@pytest.mark.usefixtures("login")
def test_one_commit_with_the_four_files(hub, run, capsys) -> None:  # noqa: F811
    assert main(["push", str(run), NAME, "--license", "mit"]) == 0
    ((files),) = sent(hub)
    assert sorted(files) == sorted(FILES)
    assert f"predict.py hf://{NAME} images/".encode() in files["README.md"]
    assert hub.uploads.repositories[0]["organization"] == "org" and hub.uploads.repositories[0]["visibility"] == "private"
    said = capsys.readouterr().out
    assert f"use it: python predict.py hf://{NAME} images/" in said and f"{NAME} (private" in said
    # what came there is what is read from there
    for name, data in files.items():
        hub.files[f"/{NAME}/resolve/main/{name}"] = Served(data)
    from runs.hub import fetched

    folder = fetched(f"hf://{NAME}")
    assert (folder / "config.yaml").read_bytes() == files["config.yaml"]


@pytest.mark.usefixtures("login")
def test_a_package_goes_as_it_lies_there(hub, run, tmp_path) -> None:  # noqa: F811
    folder = pack(run, tmp_path / "packed", "mit").folder
    card = folder / "README.md"
    card.write_text(card.read_text() + "\nWritten by hand.\n")
    assert main(["push", str(folder), NAME, "--public"]) == 0
    ((files),) = sent(hub)
    assert files["README.md"].endswith(b"Written by hand.\n") and b"hf://ORG/NAME" not in files["README.md"]
    assert files["prompt.safetensors"] == (folder / "prompt.safetensors").read_bytes()
    assert hub.uploads.repositories[0]["visibility"] == "public"
    assert "hf://ORG/NAME" in card.read_text()  # the folder itself stays as it was


def test_a_dry_run_sends_nothing_and_needs_no_login(hub, run, capsys, monkeypatch) -> None:  # noqa: F811
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for _ in range(2):
        assert main(["push", str(run), NAME, "--dry-run"]) == 0
        said = capsys.readouterr().out
        assert "nothing was uploaded" in said and "# CoOp on BTMRI" in said and f"hf://{NAME}" in said
    assert sent(hub) == [] and hub.uploads.repositories == []


def refused(capsys, *words: str) -> str:
    assert main(["push", *words]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and told.startswith("error: ")
    return told


def test_what_cannot_be_pushed_is_one_line(hub, run, tmp_path, capsys, monkeypatch) -> None:  # noqa: F811
    with monkeypatch.context() as nobody:
        nobody.setattr("huggingface_hub.get_token", lambda: None)
        assert "there is no login for the Hugging Face hub here" in refused(capsys, str(run), NAME)
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    for name in ("name", "a/b/c", "../b", "a/b--c", "a/" + "b" * 200):
        assert "is no name of a repository" in refused(capsys, str(run), name)
    hub.uploads.refuses = {"whoami": 401}
    assert "does not take this machine's login" in refused(capsys, str(run), NAME)
    hub.uploads.refuses = {"/commit/": 403}
    assert f"{NAME} could not be written" in refused(capsys, str(run), NAME)
    hub.uploads.refuses = {}
    folder = pack(run, tmp_path / "packed").folder
    assert "packed already" in refused(capsys, str(folder), NAME, "--license", "mit")
    (folder / "README.md").unlink()
    assert "lacks README.md" in refused(capsys, str(folder), NAME)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused(capsys, str(run), NAME)
    assert sent(hub) == []
