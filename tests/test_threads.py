"""How many threads PyTorch gets for a tower, and who may say so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from backbones import threads
from dassl.utils import tools
from tests.conftest import REPO


class Tower(nn.Module):
    """So many parameters, which take no memory."""

    def __init__(self, parameters: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(parameters, device="meta"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine whose PyTorch takes 8 threads by itself; ``count`` is what it has now."""
    held = SimpleNamespace(count=8, cores=16)
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "START", 8)
    monkeypatch.setattr(threads, "cores", lambda: held.cores)
    monkeypatch.setattr(threads, "_ours", 8)
    fake = SimpleNamespace(get_num_threads=lambda: held.count, set_num_threads=lambda count: setattr(held, "count", count))
    monkeypatch.setattr(threads, "torch", fake)
    return held


SMALL, LARGE = Tower(threads.SMALL - 1), Tower(threads.SMALL)


def test_the_tower_decides_and_nothing_else(machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: pytest.fail("a run depends on the load"))
    for tower, count in ((LARGE, 8), (SMALL, 1), (SMALL, 1), (LARGE, 8), (SMALL, 1)):
        threads.set_threads(tower)
        assert machine.count == count


def test_a_container_s_share_is_the_most(machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine.cores = 2
    threads.set_threads(LARGE)
    assert machine.count == 2
    monkeypatch.setattr(tools, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(tools, "seen_cores", lambda: 64)
    assert tools.cores() == 64
    for text, count in (("max 100000\n", 64), ("150000 100000\n", 2), ("1000 100000\n", 1), ("9900000 100000\n", 64), ("", 64)):
        (tmp_path / "cpu.max").write_text(text)
        assert tools.cores() == count


@pytest.mark.parametrize("name", threads.VARIABLES)
def test_a_variable_wins(name: str, machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "8")
    threads.set_threads(SMALL)
    assert machine.count == 8 and threads.given() == name


def test_a_call_of_torch_s_wins_before_and_after(machine: SimpleNamespace) -> None:
    machine.count = 3
    threads.set_threads(SMALL)
    assert machine.count == 3
    machine.count = 8
    threads.set_threads(SMALL)
    assert machine.count == 1
    machine.count = 8  # once small towers have one thread, PyTorch's own number is a call too
    threads.set_threads(SMALL)
    assert machine.count == 8


ASKED = "from backbones import build_backbone; build_backbone('PhantomCLIP'); import torch; print(torch.get_num_threads())"


@pytest.mark.slow
@pytest.mark.parametrize(
    "before, given, count", [("", "", 1), ("", "2", 2), ("import torch; torch.set_num_threads(5); ", "", 5)]
)
def test_in_a_process_of_its_own(before: str, given: str, count: int) -> None:
    env = {name: value for name, value in os.environ.items() if name not in threads.VARIABLES}
    env |= {"OMP_NUM_THREADS": given} if given else {}
    env |= {"PYTHONPATH": f"{REPO / 'engine'}{os.pathsep}{REPO}", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", before + ASKED], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(count)]
