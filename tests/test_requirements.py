"""requirements.txt, -dev.txt, .lock and .lowest against each other, and the ruff of .pre-commit-config.yaml."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import REPO

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PLATFORMS = ("linux", "darwin")
TORCH = {"torch", "torchvision"}  # never lowered in CI: a second copy costs gigabytes


def read(name: str) -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in (REPO / name).read_text().splitlines())
    return [Requirement(line) for line in lines if line and line != "./engine"]


def version(requirement: Requirement) -> str:
    """The version of an exact pin."""
    (only,) = requirement.specifier
    assert only.operator == "==" and "*" not in only.version, requirement
    return only.version


def pins(name: str, python: str = "3.11", platform: str = "linux") -> dict[str, str]:
    """``{name: version}`` that one Python gets; a distribution pinned twice for it fails."""
    taken = [one for one in read(name) if one.marker is None or one.marker.evaluate(
        {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": platform})]  # fmt: skip
    found = {canonicalize_name(one.name): version(one) for one in taken}
    assert len(found) == len(taken), f"pinned twice for Python {python}"
    return found


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_holds_every_requirement_in_its_range(python: str, platform: str) -> None:
    locked = pins("requirements.lock", python, platform)
    for one in [*read("requirements.txt"), *read("requirements-dev.txt")]:
        name = canonicalize_name(one.name)
        assert name in locked, f"{name} is not locked for Python {python}"
        assert one.specifier.contains(locked[name]), f"{name} {locked[name]} is outside {one}"
    assert any(name.startswith("nvidia-") for name in locked) == (platform == "linux")


def test_the_engine_needs_nothing_that_is_not_required() -> None:
    text = (REPO / "engine" / "pyproject.toml").read_text()
    (listed,) = re.findall(r"^dependencies = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    required = {canonicalize_name(one.name): one for one in read("requirements.txt")}
    for one in map(Requirement, re.findall(r'"(.*?)"', listed)):
        ours = required[canonicalize_name(one.name)]
        lowest = [one.version for one in ours.specifier]
        assert all(one.specifier.contains(version) for version in lowest), f"{ours} is below the engine's {one}"


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements.lock", "requirements.lowest"])
def test_no_file_names_a_host_or_a_path(name: str) -> None:
    text = (REPO / name).read_text().replace("./engine", "")
    assert not re.search(r"://|^-|@ |/\w+/", text, re.MULTILINE)


def test_the_lowest_versions_are_the_claimed_ones() -> None:
    claimed = {
        canonicalize_name(one.name): [(s.operator, s.version) for s in one.specifier] for one in read("requirements.txt")
    }
    unbounded = {name for name, bounds in claimed.items() if [operator for operator, _ in bounds] != [">="]}
    assert unbounded == {"ruff"}  # the lint: not a test, and its newest version is as good
    lowest = pins("requirements.lowest")
    assert not TORCH & set(lowest)
    for name in set(claimed) - unbounded - TORCH:
        assert lowest.get(name) == claimed[name][0][1], f"{name}: {lowest.get(name)} is run, {claimed[name][0][1]} is claimed"


def test_pre_commit_runs_the_locked_ruff() -> None:
    (repository,) = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert [hook["entry"].split()[:2] for hook in repository["hooks"]] == [["ruff", "check"], ["ruff", "format"]]
    for hook in repository["hooks"]:
        assert hook["additional_dependencies"] == [f"ruff=={pins('requirements.lock')['ruff']}"]


# -- scripts ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lock() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lock", REPO / "scripts" / "lock.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_locked_versions_get_the_pythons_that_take_them(lock: ModuleType) -> None:
    found = {
        "3.10": {"a": "1", "b": "1", "nvidia-x": "5", "only-old": "1", "c": "1"},
        "3.11": {"a": "1", "b": "2", "nvidia-x": "5", "c": "2"},
        "3.12": {"a": "1", "b": "2", "nvidia-x": "6", "c": "1"},
    }
    assert lock.merged(found) == [
        "a==1",
        'b==1; python_version <= "3.10"',
        'b==2; python_version >= "3.11"',
        'c==1; python_version <= "3.10"',
        'c==1; python_version >= "3.12"',
        'c==2; python_version == "3.11"',
        'nvidia-x==5; sys_platform == "linux" and python_version <= "3.11"',
        'nvidia-x==6; sys_platform == "linux" and python_version >= "3.12"',
        'only-old==1; python_version <= "3.10"',
    ]


def test_locking_reads_the_requirements_without_the_engine(lock: ModuleType) -> None:
    assert [Requirement(line) for line in lock.wanted()] == read("requirements.txt") + read("requirements-dev.txt")


def script(name: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    call = ["bash", str(REPO / "scripts" / name), *words]
    return subprocess.run(call, env={"PATH": "/usr/bin:/bin"} | environment, capture_output=True, text=True, timeout=60)


def test_an_unknown_word_of_setup_is_named() -> None:
    done = script("setup.sh", "--lock")
    assert done.returncode == 2 and "takes --locked or nothing, not: --lock" in done.stderr


def copied(folder: Path, pip: str) -> dict[str, str]:
    """A copy of what setup.sh reads, with an interpreter that answers for pip; what to call it with."""
    for name in ("requirements.txt", "requirements.lock", "engine/pyproject.toml", "scripts/setup.sh", "scripts/help.sh"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text((REPO / name).read_text())
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then exit 0; fi\necho "$@" >> {folder}/calls\n{pip}\n')
    python.chmod(0o755)
    return {"PATH": "/usr/bin:/bin"}


@pytest.mark.parametrize("words, installed", [((), "requirements.txt"), (("--locked",), "requirements.lock")])
def test_setup_installs_once_per_change_of_its_list(words: tuple[str, ...], installed: str, tmp_path: Path) -> None:
    env = copied(tmp_path, "exit 0")
    for _ in range(2):
        subprocess.run(["bash", "scripts/setup.sh", *words], cwd=tmp_path, env=env, check=True, capture_output=True)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split("check ")[1] for call in calls] == [f"--no-compile -r {installed}", "--no-deps -e ./engine"]
    (tmp_path / installed).write_text("torch\n")
    subprocess.run(["bash", "scripts/setup.sh", *words], cwd=tmp_path, env=env, check=True, capture_output=True)
    assert len((tmp_path / "calls").read_text().splitlines()) == 4


def test_a_failed_installation_is_tried_again(tmp_path: Path) -> None:
    env = copied(tmp_path, "exit 1")
    for _ in range(2):
        assert subprocess.run(["bash", "scripts/setup.sh"], cwd=tmp_path, env=env, capture_output=True).returncode == 1
    assert len((tmp_path / "calls").read_text().splitlines()) == 2
