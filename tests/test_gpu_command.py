"""benchmarks/gpu.sh on a CPU: its wheels, its environment, every step and its table, before a GPU is at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import environment, measure, pack, rows, steps, whole
from benchmarks.setting import MeasurementFailed, Setting, isolated
from tests.conftest import BTMRI_CLASSES, REPO, THREADS, write_dataset
from tests.test_benchmarks import KVASIR

PYTHON = ".".join(map(str, sys.version_info[:2]))


def script(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": str(THREADS)} | settings
    return subprocess.run(["bash", "benchmarks/gpu.sh", *words], cwd=REPO, env=env, capture_output=True, text=True, timeout=500)


@pytest.fixture
def setting(tiny_biomedclip: Path, tmp_path: Path) -> Setting:
    write_dataset(tmp_path / "data", "BTMRI", BTMRI_CLASSES, per_class=20)
    write_dataset(tmp_path / "data", "Kvasir", KVASIR, per_class=6)
    work = tmp_path / "work"
    return Setting("BiomedCLIP", str(tiny_biomedclip), str(tmp_path / "data"), str(work), threads=1, repeats=1, quick=True)


# -- the run ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_runs_on_a_cpu_and_says_so(tmp_path: Path) -> None:
    done = script("run", str(tmp_path / "out"), "--device", "cpu", "--minutes", "8", "--tiny", "--only",
                  "steps-graphs", "base2new-first", GPU_WHEELS=str(tmp_path / "none"), TMPDIR=str(tmp_path))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no wheels in" in done.stderr
    results = json.loads((tmp_path / "out" / "gpu.json").read_text())
    states = {name: step["state"] for name, step in results["steps"].items()}
    assert states == {"base2new-first": "done", "steps-graphs": "left out"}
    text = (tmp_path / "out" / "gpu.md").read_text()
    assert text.strip() == done.stdout.strip() and "its numbers mean nothing" in text and rows.NONE in text
    assert "2 epochs" in text and "CUDA graphs are a GPU's" in text
    assert "=> result" in (tmp_path / "out" / "log.txt").read_text()
    told = script("run", str(tmp_path / "out"), "--minutes", "1", "--tiny", CUDA_VISIBLE_DEVICES="", TMPDIR=str(tmp_path))
    assert told.returncode == 2 and "no CUDA device here" in told.stderr and "Traceback" not in told.stderr


@pytest.mark.slow
def test_every_step_measures_and_has_its_lines(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, where the steps' own processes would import everything again."""

    def here(setting: Setting, call: str, timeout: float | None = None, **arguments: Any) -> Any:
        return isolated(setting, call, **arguments)

    monkeypatch.setattr(steps, "in_process", here)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(steps, "ON_A_CPU", "tf32 or bit and TipAdapterF")
    results = {
        "device": "cuda", "machine": isolated(setting, "machine:describe"), "setting": vars(setting), "steps": {},
    }  # fmt: skip
    for name in ("tests", "rates", "steps-eager", "steps-bf16", "steps-reference", "seeds", "profile", "memory"):
        results["steps"][name] = gpu.outcome(steps.PARTS[name], setting, 400.0, "cuda") | {"took_s": 1.0}
    assert {name: step["state"] for name, step in results["steps"].items()} == dict.fromkeys(results["steps"], "done")
    assert len(results["steps"]["tests"]["result"]["outcomes"]) == 2
    results["steps"]["memory"]["result"]["ours"]["gpu_bytes"] = 2**30  # a CPU has none
    results["steps"]["memory"]["result"]["reference"]["gpu_bytes"] = 2**31
    text = rows.tables(json.loads(json.dumps(results)))
    for line in ("2 passed", "| fp32", "| bf16", "CoOp, 8 classes", "BiomedDPT, 2 classes, 3 seeds", "a training step of",
                 "images/s by", "| 2048 MiB", "2x"):  # fmt: skip
        assert line in text, line
    assert not rows.wrong(results)
    results["steps"]["tests"]["result"]["outcomes"]["test_x"] = "FAILED"
    assert rows.wrong(results) and "`test_x`: see log.txt" in rows.tables(results)


def test_a_comparison_that_does_not_end_in_time_counts_what_it_has(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    found = whole.compare(setting, together=False, timeout=1.0)
    assert found["cut"] and found["runs"] == 0 and found["wanted_runs"] == 4
    monkeypatch.setattr(whole, "_overrides", lambda setting, store: ["OPTIM.LRR", "1"])
    with pytest.raises(MeasurementFailed, match=r"(?s)ended with 2.*OPTIM\.LRR"):
        whole.base2new(setting, "first", 100.0)


def test_steps_without_time_or_with_an_error_are_named(setting: Setting) -> None:
    def broken(setting: Setting, seconds: float) -> dict[str, Any]:
        raise MeasurementFailed("first\nlast")

    assert gpu.outcome(steps.Part(broken), setting, 10.0, "cpu")["state"] == "left out"
    failed = gpu.outcome(steps.Part(broken), setting, 100.0, "cpu") | {"took_s": 0.0}
    assert failed["state"] == "failed"
    text = "\n".join(rows.absent({"steps": {"x": failed}}))
    assert "x: failed: last" in text and rows.wrong({"steps": {"x": failed}})


def test_earlier_runs_are_one_table_of_one_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def kept(name: str, card: str, **states: str) -> Path:
        step = {name: {"state": state, "why": name, "took_s": 60.0, "result": {}} for name, state in states.items()}
        about = {"gpu": card, "processor": "P", "cores": 2, "versions": {"torch": "2", "transformers": "5", "timm": "1"}}
        path = tmp_path / name
        path.write_text(json.dumps({"device": "cuda", "machine": about, "setting": {"backbone": "BiomedCLIP", "repeats": 5},
                                    "steps": step}))  # fmt: skip
        return path

    first = kept("a", "Card", seeds="failed", compare="done")
    second = kept("b", "Card", seeds="left out", compare="failed", profile="left out")
    joined = gpu.joined([first, second])["steps"]
    assert {name: step["state"] for name, step in joined.items()} == {
        "seeds": "failed",
        "profile": "left out",
        "compare": "done",
    }
    with pytest.raises(MeasurementFailed, match="Other"):
        gpu.joined([first, kept("c", "Other")])
    page = tmp_path / "page.md"
    page.write_text("no markers")
    assert gpu.main(["--from", str(first), "--out", str(page)]) == 2
    page.write_text(f"before\n{gpu.BEGIN}\nold\n{gpu.END}\nafter\n")
    capsys.readouterr()
    third = kept("d", "Card", seeds="left out")
    assert gpu.main(["--from", str(third), "--out", str(page)]) == 0
    assert "Card; P, 2 cores" in page.read_text() and "old" not in page.read_text() and page.read_text().endswith("after\n")


# -- the wheels ---------------------------------------------------------------------------------------------


def wheel(folder: Path, name: str = "onlyhere", version: str = "1.0", bulk: int = 0) -> Path:
    """A wheel with a module, a test suite and a RECORD."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": "VALUE = 7\n",
        f"{name}/tests/test_it.py": "never packed\n",
        f"{name}/data.bin": os.urandom(bulk).hex(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{one},,\n" for one in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as file:
        for one, text in (files | {f"{info}/RECORD": record}).items():
            file.writestr(one, text)
    return path


def test_an_environment_of_wheels_lies_on_top_of_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    wheel(tmp_path / "wheels")
    manifest = {"python": PYTHON, "expected": {"torch": "0.0"}, "packages": {"onlyhere": "1.0"}}
    (tmp_path / "wheels" / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    python = environment.python_for(tmp_path / "wheels")
    said = capfd.readouterr().err
    assert "expected here: torch 0.0; found: " in said and "installing 1 wheels" in said
    code = "import onlyhere, torch, timm, sys; print(onlyhere.VALUE, sys.prefix)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["7", str(Path(python).parents[1])]
    assert environment.python_for(tmp_path / "wheels") == python and "installing" not in capfd.readouterr().err


@pytest.mark.parametrize("lacking", [[], ["timm"]])
def test_without_fitting_wheels_this_interpreter_must_have_all(lacking: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(environment, "missing", lambda: lacking)
    other = {"python": "3.5", "expected": {}, "packages": {}}
    for present in (False, True):
        if present:
            (tmp_path / "manifest.json").write_text(json.dumps(other))
        if lacking:
            with pytest.raises(environment.CannotRun, match="timm.*gpu.sh pack"):
                environment.python_for(tmp_path)
        else:
            assert environment.python_for(tmp_path) == sys.executable


def test_wheels_are_packed_by_need_below_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, folder: Path) -> Path:
        return wheel(folder, name.replace("-", "_"), "1.0", bulk=300_000 if name == "matplotlib" else 10)

    monkeypatch.setattr(pack, "download", download)
    monkeypatch.setattr(pack, "LIMIT", 200_000)
    manifest = pack.pack(tmp_path / "out")
    assert {"open-clip-torch", "timm", "yacs", "ftfy", "wcwidth", "tabulate", "gdown", "scipy"} <= set(manifest["packages"])
    assert not {"torch", "torchvision", "transformers", "numpy", "pillow", "pip"} & set(manifest["packages"])
    assert set(manifest["left_out"]) == {"matplotlib"} and "onnxruntime" in manifest["packages"]
    files = sorted((tmp_path / "out").glob("*.whl"))
    assert len(files) == len(manifest["packages"]) and sum(one.stat().st_size for one in files) == manifest["bytes"] <= 200_000
    with zipfile.ZipFile(tmp_path / "out" / "yacs-1.0-py3-none-any.whl") as slim:
        assert "yacs/__init__.py" in slim.namelist() and not [name for name in slim.namelist() if "tests" in name]
        assert "tests" not in slim.read("yacs-1.0.dist-info/RECORD").decode()
    text = pack.report(tmp_path / "out", manifest)
    assert "torch 2.11" in text and "left out: matplotlib" in text
    monkeypatch.setattr(pack, "LIMIT", 1_000)
    with pytest.raises(ValueError, match="do not fit"):
        pack.pack(tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").is_file()  # what was there stays


def test_a_wrong_call_is_told() -> None:
    for words in ((), ("fly",), ("run",), ("run", "--tiny")):
        done = script(*words)
        assert done.returncode == 2 and "gpu.sh pack" in done.stderr


def test_profiles_count_each_kernel_once(setting: Setting) -> None:
    found = measure.profiles(setting)
    assert found["step"]["top"] and found["encode"]["images"] >= 1 and found["step"]["kernels"] == 0
    assert all(line["cpu_us"] >= 0 and line["calls"] > 0 for line in found["step"]["top"])
    assert all(rate > 0 for rate in found["read"].values())
