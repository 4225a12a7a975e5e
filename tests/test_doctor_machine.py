"""python -m doctor on other machines than this one: Pythons, packages, another dassl, GPUs, threads, read-only folders."""

from __future__ import annotations

import os
import sys
from collections import namedtuple
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from doctor import __main__ as doctor
from doctor import inputs, machine
from doctor.findings import FAIL, OK, WARN, Asked, Finding
from features import disk
from runs import own_dassl

ASKED = Asked((), "", "", Path("data"), Path("output"))
Version = namedtuple("Version", "major minor micro")


@pytest.mark.parametrize("minor, state", [(9, FAIL), (10, OK), (11, OK), (13, OK), (14, WARN)])
def test_pythons_from_3_10_to_that_of_the_lock(minor: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", Version(3, minor, 1))
    (found,) = machine.python(ASKED)
    assert found.state == state and found.said.startswith(f"3.{minor}.1, ") and bool(found.mend) == (state != OK)


def lists(
    monkeypatch: pytest.MonkeyPatch, folder: Path, locked: dict[str, str], have: dict[str, str], more: str = ""
) -> Finding:
    """What is said of packages ``have`` where the lock names ``locked``; nothing else is asked for."""
    (folder / "requirements.txt").write_text(f"one>=1\nelsewhere>=9; sys_platform == 'plan9'\n{more}")
    (folder / "requirements.lock").write_text("".join(f"{name}=={version}\n" for name, version in locked.items()))
    monkeypatch.setattr(machine, "REPO", folder)

    def version(name: str) -> str:
        if name not in have:
            raise metadata.PackageNotFoundError(name)
        return have[name]

    monkeypatch.setattr(metadata, "version", version)
    (found,) = machine.packages(ASKED)
    return found


def test_a_build_for_a_gpu_is_the_locked_version_and_another_systems_package_is_not_missed(tmp_path, monkeypatch) -> None:
    found = lists(monkeypatch, tmp_path, {"one": "1.2"}, {"one": "1.2+cu130"})
    assert (found.state, found.said) == (OK, "all 1 as in requirements.lock")


def test_a_package_that_this_system_needs_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = lists(monkeypatch, tmp_path, {"one": "1.2"}, {"one": "1.2"}, "here; python_version >= '3'\n")
    assert (found.state, found.said) == (FAIL, "absent: here")


@pytest.mark.parametrize("number, end", [(4, "d 2 (1)"), (5, "d 2 (1), …")])
def test_four_packages_of_other_versions_are_named_and_more_are_hinted_at(number: int, end: str, tmp_path, monkeypatch) -> None:
    names = "abcde"[:number]
    have = dict.fromkeys(names, "2") | {"one": "1"}
    found = lists(monkeypatch, tmp_path, dict.fromkeys(names, "1"), have)
    assert found.state == WARN and found.said.startswith(f"{number} of {number} are not as") and found.said.endswith(end)


def test_another_dassl_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_dassl, "other_dassl", lambda: "not ours")
    assert list(machine.engine(ASKED)) == [Finding(FAIL, "dassl", "not ours")]
    monkeypatch.setattr(own_dassl, "other_dassl", lambda: "")
    assert next(machine.engine(ASKED)).state == OK


def test_a_gpu_with_less_than_4_gb_free_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    free = [3e9, 70e9]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(name="Card", total_memory=80e9))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (free[number], 80e9))
    full, empty = machine.gpu(ASKED)
    assert (full.state, full.what, full.said) == (WARN, "GPU 0", "Card, 3 of 80 GB free") and "nvidia-smi" in full.mend
    assert empty == Finding(OK, "GPU 1", "Card, 70 of 80 GB free")


@pytest.mark.parametrize("more, state", [(0, OK), (1, WARN)])
def test_as_many_threads_as_cores_and_no_more(more: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import dassl.utils

    monkeypatch.setattr(dassl.utils, "cores", lambda: 6)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6 + more)
    monkeypatch.setattr(os, "getloadavg", lambda: (8.9, 0, 0))
    (found,) = machine.threads(ASKED)
    assert found.state == state and ("export OMP_NUM_THREADS=6" in found.mend) == (state == WARN)


def test_what_cannot_be_written_is_a_fault_and_data_is_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    monkeypatch.setattr(disk, "default_root", lambda: tmp_path / "cache")
    found = list(machine.disk(Asked((), "", "", tmp_path, tmp_path)))
    assert [(one.what, one.state) for one in found] == [("data", WARN), ("output", FAIL), ("cache", FAIL)]
    assert all(one.said.endswith("read-only") and one.mend for one in found)


def test_the_files_of_all_stored_features_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "default_root", lambda: tmp_path)
    monkeypatch.setattr(disk, "spaces", lambda root: [{"segments": 3, "bytes": 1e6}, {"segments": 4, "bytes": 2e6}])
    assert [one.said for one in machine.stored(ASKED)] == [f"7 files, 3 MB in {tmp_path}"]


def test_absent_weights_are_to_be_put_where_they_were_looked_for(tmp_path: Path) -> None:
    (found,) = inputs.weights(Asked((), "BiomedCLIP", str(tmp_path), tmp_path, tmp_path))
    assert found.state == FAIL and f"backbones.download BiomedCLIP --to {tmp_path};" in found.mend


def test_what_needs_an_absent_package_fails_and_each_state_is_counted(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def lacking(_: Asked) -> Iterator[Finding]:
        raise ImportError("no module a")

    def there(_: Asked) -> Iterator[Finding]:
        yield Finding(OK, "there", "is")
        yield Finding(WARN, "slow", "is", "wait")
        yield Finding(WARN, "late", "is")

    monkeypatch.setattr(doctor, "CHECKS", (there, lacking))
    assert doctor.main([]) == 1
    said = capsys.readouterr().out
    assert "FAIL  lacking      cannot be looked at: no module a\n" in said and said.endswith("\n1 OK, 2 WARN, 1 FAIL\n")
