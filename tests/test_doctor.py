"""python -m doctor: what is there, what is not, and what mends it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest
import torch

from doctor import machine
from doctor.__main__ import main
from tests.conftest import REPO, write_tiny_biomedclip
from tests.own_images import draw, write_yaml


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No hub, an empty hub cache, one quiet machine."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.1, 0.1))


def report(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, tuple[str, str, str]]]:
    """Exit status, and what was looked at -> (state, said, mend)."""
    status = main([str(word) for word in words])
    found: dict[str, tuple[str, str, str]] = {}
    what = ""
    for line in capsys.readouterr().out.splitlines()[:-2]:
        if line.startswith(" "):
            found[what] = (*found[what][:2], line.split("-> ")[1])
        else:
            state, what, said = line[:5].strip(), line[6:18].strip(), line[19:]
            found[what] = (state, said, "")
    return status, found


def test_a_new_machine_has_no_fault_and_is_told_what_is_missing(tmp_path: Path, capsys) -> None:
    status, found = report(capsys, "--root", tmp_path / "data", "--output", tmp_path / "output")
    assert status == 0 and "FAIL" not in {state for state, *_ in found.values()}
    assert found["Python"][0] == found["dassl"][0] == found["PhantomCLIP"][0] == "OK"
    assert found["btmri"] == (
        "WARN",
        f"not in {tmp_path / 'data'}",
        f"python -m datasets.download btmri --root {tmp_path / 'data'}",
    )
    assert found["BiomedCLIP"][0] == "WARN" and "python -m backbones.download BiomedCLIP" in found["BiomedCLIP"][2]
    assert found["hub"] == ("WARN", "HF_HUB_OFFLINE is set: only what is in its cache can be loaded", "unset HF_HUB_OFFLINE")
    assert len([what for what in found if found[what][1].startswith("not in")]) == 11
    assert not (tmp_path / "data").exists() and not (tmp_path / "output").exists()


def test_what_is_named_must_be_there(tmp_path: Path, btmri_root: Path, capsys) -> None:
    status, found = report(capsys, "busi", "btmri", "--root", btmri_root, "--backbone", "BiomedCLIP")
    assert status == 1 and found["busi"][0] == found["BiomedCLIP"][0] == "FAIL"
    state, said, mend = found["btmri"]
    assert state == "WARN" and "other counts" in said and "datasets.download btmri" in mend
    weights = write_tiny_biomedclip(tmp_path / "weights")
    status, found = report(capsys, "btmri", "--root", btmri_root, "--backbone", "BiomedCLIP", "--backbone-path", weights)
    assert status == 0 and found["BiomedCLIP"] == ("OK", f"its files are in {weights}", "")
    (weights / "open_clip_model.safetensors").unlink()
    status, found = report(capsys, "btmri", "--root", btmri_root, "--backbone", "BiomedCLIP", "--backbone-path", weights)
    assert status == 1 and "open_clip_model.safetensors" in found["BiomedCLIP"][1]


def test_a_dataset_with_holes_is_a_fault(tmp_path: Path, btmri_root: Path, capsys) -> None:
    shutil.copytree(btmri_root, tmp_path / "data")
    next((tmp_path / "data" / "BTMRI" / "BTMRI").rglob("*.png")).unlink()
    status, found = report(capsys, "btmri", "--root", tmp_path / "data")
    assert status == 1 and found["btmri"][0] == "FAIL" and found["btmri"][1].startswith("1 of the 48 images")


def test_own_images_are_counted_or_refused(tmp_path: Path, capsys) -> None:
    for kind in ("bright", "dark"):
        draw(tmp_path / "i" / kind, kind, 10)
    config = write_yaml(tmp_path / "mine.yaml", FOLDER=str(tmp_path / "i"))
    status, found = report(capsys, config)
    assert status == 0 and found["mine"] == ("OK", f"20 images (train 10, val 4, test 6) in {tmp_path / 'i'}", "")
    shutil.rmtree(tmp_path / "i" / "dark")
    (tmp_path / "i" / "dark").mkdir()
    status, found = report(capsys, config)
    assert status == 1 and found["mine"][0] == "FAIL" and "holds 0 images" in found["mine"][1]


@pytest.mark.parametrize("words, said", [(["brmri"], 'Did you mean "btmri"?'), (["--backbone", "BiomedClop"], "BiomedCLIP")])
def test_unknown_names_end_it_at_once(words: list[str], said: str, capsys) -> None:
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("error: ") and said in told.err and told.err.count("\n") == 1


def test_packages_are_held_against_both_lists(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    real = metadata.version
    (found,) = machine.packages(None)
    assert found.state in ("OK", "WARN")  # on other versions than the lock's these tests run too

    def but(**others: str | None):
        def version(name: str) -> str:
            if name in others:
                if others[name] is None:
                    raise metadata.PackageNotFoundError(name)
                return others[name]
            return real(name)

        monkeypatch.setattr(metadata, "version", version)
        (found,) = machine.packages(None)
        return found

    assert (but(gdown=None).state, but(gdown=None).mend) == ("FAIL", "bash scripts/setup.sh --locked")
    assert "absent: gdown" in but(gdown=None).said
    assert "too old: gdown 4.0 (>=6.5.1)" in but(gdown="4.0").said
    newer = but(gdown="99.0")
    assert newer.state == "WARN" and "gdown 99.0 (" in newer.said


Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_a_busy_machine_and_a_file_in_the_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1e12, 1e12 - 1e9, 1e9))
    monkeypatch.setattr(os, "getloadavg", lambda: (500.0, 0, 0))
    (tmp_path / "file").touch()
    status, found = report(capsys, "--root", tmp_path, "--output", tmp_path / "file" / "output")
    assert found["data"][0] == "WARN" and "1 GB free" in found["data"][1] and "make room" in found["data"][2]
    assert found["threads"][0] == "WARN" and "load 500.0" in found["threads"][1]
    assert status == 1 and found["output"][0] == "FAIL" and "is no folder" in found["output"][1]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 10_000)
    assert "OMP_NUM_THREADS=" in report(capsys, "--root", tmp_path)[1]["threads"][2]


def test_the_hub_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert report(capsys, "--root", tmp_path)[1]["hub"] == ("OK", "127.0.0.1 is reachable", "")
    assert report(capsys, "--root", tmp_path)[1]["hub"][0] == "WARN"


def test_without_packages_it_still_reports(tmp_path: Path) -> None:
    call = [sys.executable, "-S", "-m", "doctor"]
    done = subprocess.run(call, cwd=REPO, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "FAIL  packages" in done.stdout and "-> bash scripts/setup.sh --locked" in done.stdout
