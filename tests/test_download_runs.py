"""Downloads in processes of their own: killed, two at once, and before a script's first run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import BTMRI_CLASSES, REPO, THREADS, write_dataset
from tests.fake_hub import FakeHub, Served, left, serving, whole, zipped


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A server for HF_ENDPOINT of a process."""
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """BTMRI.zip as published, small."""
    folder = tmp_path_factory.mktemp("made")
    return zipped(write_dataset(folder / "root", "BTMRI", BTMRI_CLASSES, per_class=6), folder / "BTMRI.zip")


def spawned(root: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    call = [sys.executable, "-m", "datasets.download", "btmri", "--root", str(root), *words]
    return subprocess.Popen(call, cwd=REPO, env=os.environ | environment, stdout=subprocess.PIPE, text=True)


def test_a_kill_while_unpacking_leaves_nothing_that_a_run_takes(tmp_path: Path) -> None:
    root = tmp_path / "data"
    made = write_dataset(tmp_path / "made", "BTMRI", BTMRI_CLASSES, per_class=6)
    many = made / "BTMRI" / "BTMRI" / "many"
    many.mkdir()
    for number in range(6000):
        (many / f"{number}.txt").write_text("x" * 500)
    root.mkdir()
    (root / "BTMRI.zip").write_bytes(zipped(made, tmp_path / "BTMRI.zip"))
    process = spawned(root)
    deadline = time.monotonic() + 60
    while not (root / ".BTMRI.unpacking" / "BTMRI" / "BTMRI").exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert (root / ".BTMRI.unpacking").is_dir() and not (root / "BTMRI").exists()
    again = spawned(root)
    out = again.communicate(timeout=120)[0]
    assert again.returncode == 0 and "24 images" in out and whole(tmp_path) and left(tmp_path) == ["BTMRI", "BTMRI.zip"]


def test_two_processes_at_once_fetch_once(hub: FakeHub, good: bytes, tmp_path: Path) -> None:
    served = hub.dataset("BTMRI", Served(good, stall=1, after=100))
    env = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    both = [spawned(tmp_path / "data", "--timeout", "1", **env) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0] and whole(tmp_path)
    assert served.gets == [0, 100] and not any("HTTP" in out for out in said)
    assert sum("there already" in out for out in said) == 1


def script(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    call = ["bash", *words, "--", "DATALOADER.NUM_WORKERS", "0"]
    env = os.environ | {"BACKBONE": "PhantomCLIP", "OMP_NUM_THREADS": str(THREADS)} | environment
    return subprocess.run(call, cwd=REPO, env=env, capture_output=True, text=True, timeout=300)


def test_download_in_a_script(hub: FakeHub, good: bytes, tmp_path: Path) -> None:
    served = hub.dataset("BTMRI", Served(good))
    done = script("scripts/zero_shot/few_shot.sh", "btmri", "1", "1", DOWNLOAD="1", PYTHON=sys.executable, HF_ENDPOINT=hub.url,
                  HF_HUB_OFFLINE="0", DATA=str(tmp_path / "data"), OUTPUT=str(tmp_path / "out"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "BTMRI: 24 images" in done.stdout and "ZeroshotCLIP" in done.stdout and served.gets == [0] and whole(tmp_path)


@pytest.mark.parametrize("name", ["compare.sh", "coop/base2new.sh", "coop/eval_few_shot.sh"])
def test_scripts_download_once_before_their_first_run(name: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *--list*) echo CoOp ZeroshotCLIP;; *) echo "$@" >> {tmp_path}/calls;; esac\n')
    python.chmod(0o755)
    env = {"PYTHON": str(python), "DATA": "some where", "METHODS": "CoOp ZeroshotCLIP"}
    done = script(f"scripts/{name}", "btmri", **env, DOWNLOAD="1")
    assert done.returncode == 0, done.stderr
    first, *rest = (tmp_path / "calls").read_text().splitlines()
    assert first == "-m datasets.download btmri --root some where" and not any("download" in call for call in rest) and rest
    (tmp_path / "calls").unlink()
    assert script(f"scripts/{name}", "btmri", **env).returncode == 0
    assert "download" not in (tmp_path / "calls").read_text()
    mine = tmp_path / "btmri.yaml"  # its name is a published one's
    mine.write_text((REPO / "configs/datasets/example_folder.yaml").read_text())
    for own, called in (("example_folder", "example_folder"), (str(mine), "btmri")):
        done = script(f"scripts/{name}", own, **env, DOWNLOAD="1")
        assert done.stdout.count(f"{called} is no published dataset, nothing is fetched") == 1
