"""Sweeps with real runs: from a grid to its tables, twice, killed, with failures and with what cannot run."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sweep.__main__ import main
from sweep.done import done_jobs
from sweep.grids import read_grids
from tests.conftest import REPO, THREADS
from tests.test_sweep import GRID, write


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rehearsal images of two datasets."""
    from datasets.phantom.__main__ import main as draw

    root = tmp_path_factory.mktemp("phantom")
    assert draw(["--root", str(root), "--datasets", "btmri", "busi", "--per-class", "10", "--size", "48"]) == 0
    return root


def sweep(*words: str, data: Path, out: Path) -> int:
    return main(["run", *words[:1], "--root", str(data), "--output", str(out), *words[1:]])


def accuracies(out: Path) -> dict[str, float]:
    return {
        path.parent.relative_to(out).as_posix(): json.loads(path.read_text())["metrics"]["accuracy"]
        for path in out.rglob("results.json")
    }


def ends(out: Path) -> list[tuple[str, int]]:
    with sqlite3.connect(out / "sweep.db") as base:
        return base.execute("SELECT kind, COUNT(*) FROM events WHERE kind != 'start' GROUP BY kind ORDER BY kind").fetchall()


def test_from_a_grid_to_its_tables_twice(data: Path, tmp_path: Path, capfd, log_off_stdout) -> None:
    path, out = (
        write(tmp_path / "g.yaml", blocks=[GRID, GRID | {"task": "base2new", "shots": [2], "methods": ["CoOp"]}]),
        tmp_path / "out",
    )
    assert main(["plan", path, "--root", str(data), "--output", str(out)]) == 0
    told = capfd.readouterr().out
    assert (
        "16 runs: 0 done, 16 to do" in told
        and "OPTIM.MAX_EPOCH is not read by LinearProbe, ZeroshotCLIP" in told
        and not out.exists()
    )
    assert sweep(path, data=data, out=out) == 0
    first, told = accuracies(out), capfd.readouterr()
    assert len(first) == 3 * 2 * 2 + 2 * 2 * 2 and ends(out) == [("done", 16)]
    assert "16 of 16 done" in told.err and "Epoch" not in told.out + told.err  # a run's output is in its log
    for name in ("tables.txt", "tables.md", "tables.csv", "tables.tex", "report.html", "figures"):
        assert (out / name).exists(), name
    tables = (out / "tables.csv").read_text()
    assert sweep(path, "--no-report", data=data, out=out) == 0
    assert accuracies(out) == first and (out / "tables.csv").read_text() == tables and ends(out) == [("done", 16)]
    capfd.readouterr()
    assert main(["status", str(out)]) == 0 and "16 runs: 16 done, 0 to do" in capfd.readouterr().out
    # without its journal, and by the other way in, what is done stays done
    for rest in out.glob("sweep.db*"):
        rest.unlink()
    assert main(["plan", path, "--root", str(data), "--output", str(out)]) == 0
    assert "16 runs: 16 done, 0 to do" in capfd.readouterr().out
    assert sweep(path, "--no-report", data=data, out=out) == 0 and ends(out) == [("found", 16)]
    assert main(["plan", path, "--root", str(data), "--output", str(out), "--", "OPTIM.LR", "0.5"]) == 0
    told = capfd.readouterr().out  # only CoOp reads it
    assert "16 runs: 8 done, 0 to do, 8 cannot run" in told and "(OPTIM.LR 0.002 -> 0.5)" in told


def test_a_run_that_fails_is_told_and_the_others_go_on(data: Path, tmp_path: Path, capfd, log_off_stdout) -> None:
    block = GRID | {"datasets": ["btmri"], "seeds": [1], "methods": ["CoOp", "ZeroshotCLIP"]}
    path = write(
        tmp_path / "g.yaml", blocks=[block | {"overrides": {**GRID["overrides"], "OPTIM.MAX_EPOCH": 3, "OPTIM.LR": 1e38}}]
    )
    assert sweep(path, "--no-report", data=data, out=tmp_path / "out") == 2
    told = capfd.readouterr()
    assert told.err.count("failed, comes again at the end: few_shot btmri CoOp") == 1 and "lower OPTIM.LR" in told.err
    assert ends(tmp_path / "out") == [("done", 1), ("failed", 2)] and "Traceback" not in told.err + told.out
    assert main(["status", str(tmp_path / "out")]) == 2
    assert "failed, attempt 2" in capfd.readouterr().out


def test_what_cannot_run_is_named_with_what_to_do(data: Path, tmp_path: Path, capfd) -> None:
    path = write(
        tmp_path / "g.yaml", blocks=[GRID | {"datasets": ["btmri", "retina"]}, GRID | {"task": "base2new", "methods": "all"}]
    )
    assert main(["plan", path, "--root", str(data), "--output", str(tmp_path / "out")]) == 0
    told = capfd.readouterr().out
    assert "6 cannot run" in told and "cannot run, 6 runs: " in told and "datasets.download" in told
    assert "left out, 4 runs: LinearProbe: LinearProbe learns a classifier" in told and "18 runs" not in told
    assert sweep(path, "--no-report", "--seeds", "1", "--tasks", "few_shot", data=data, out=tmp_path / "out") == 2


def test_a_probe_tells_the_time_before_anything_has_run(data: Path, tmp_path: Path, capfd) -> None:
    path, out = write(tmp_path / "g.yaml", blocks=[GRID]), tmp_path / "out"
    words = ["plan", path, "--root", str(data), "--output", str(out)]
    assert main(words) == 0 and "not known before something has run here; --probe" in capfd.readouterr().out
    assert main([*words, "--probe"]) == 0
    assert "time, from 3 runs tried now: 0:0" in capfd.readouterr().out and not out.exists()
    assert main([*words[:3], str(tmp_path / "none"), *words[4:], "--probe"]) == 0
    assert "tried now" not in capfd.readouterr().out


def test_two_sweeps_in_one_folder(data: Path, tmp_path: Path, capfd) -> None:
    from sweep.command import alone_in

    with alone_in(tmp_path):
        assert sweep("smoke", data=data, out=tmp_path) == 2
    assert "another sweep is at work" in capfd.readouterr().err


def test_settings_with_a_label_lie_apart_and_are_found(data: Path, tmp_path: Path, capfd, log_off_stdout) -> None:
    block = GRID | {"datasets": ["btmri"], "seeds": [1], "methods": ["CoOp"]}
    path = write(tmp_path / "g.yaml", blocks=[block | {"settings": {"": {}, "wide": {"OPTIM.WEIGHT_DECAY": 0.1}}}])
    out = tmp_path / "out"
    assert sweep(path, "--no-report", data=data, out=out) == 0
    assert len(accuracies(out)) == 2 and len(list((out / "wide").rglob("results.json"))) == 1
    jobs = read_grids([path]).jobs
    assert set(done_jobs(out, jobs)) == {job.id for job in jobs}
    other = [replace(job, overrides=(*job.overrides, ("OPTIM.WEIGHT_DECAY", 0.2))) for job in jobs]
    assert done_jobs(out, other) == {}
    assert "WEIGHT_DECAY=0.1" in (out / "tables.txt").read_text()


def test_a_killed_sweep_goes_on_and_ends_as_an_undisturbed_one(data: Path, tmp_path: Path, log_off_stdout) -> None:
    path = write(tmp_path / "g.yaml", blocks=[GRID | {"methods": ["LinearProbe", "CoOp"]}])
    assert sweep(path, "--no-report", data=data, out=tmp_path / "whole") == 0
    out = tmp_path / "killed"
    call = [sys.executable, "-m", "sweep", "run", path, "--root", str(data), "--output", str(out), "--no-report"]
    env = os.environ | {"PYTHONPATH": str(REPO), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(THREADS)}
    with subprocess.Popen(call, cwd=REPO, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + 120
        while len(accuracies_so_far(out)) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGKILL)
    assert 2 <= len(accuracies_so_far(out)) < 8
    assert sweep(path, "--no-report", data=data, out=out) == 0
    assert accuracies(out) == accuracies(tmp_path / "whole")
    assert (out / "tables.csv").read_bytes() == (tmp_path / "whole" / "tables.csv").read_bytes()


def accuracies_so_far(out: Path) -> list[Path]:
    return list(out.rglob("results.json"))


def test_seeds_of_a_setting_are_trained_together_where_that_is_asked_for(data: Path, tmp_path: Path, log_off_stdout) -> None:
    path = write(tmp_path / "g.yaml", blocks=[GRID | {"datasets": ["btmri"], "methods": ["CoOp", "LinearProbe"]}])
    for name, more in (("alone", ()), ("together", ("--seeds-together",))):
        assert sweep(path, "--no-report", *more, data=data, out=tmp_path / name) == 0
        assert ends(tmp_path / name) == [("done", 4)]
    trained = [json.loads(path.read_text())["train"] for path in (tmp_path / "together").rglob("CoOp_*/**/results.json")]
    assert [one["seeds_together"] for one in trained] == [[1, 2], [1, 2]]
    assert (tmp_path / "together" / "tables.csv").read_bytes() == (tmp_path / "alone" / "tables.csv").read_bytes()


def test_a_test_elsewhere_is_done_as_long_as_its_source_is_the_one_tested(data: Path, tmp_path: Path, log_off_stdout) -> None:
    block = GRID | {"task": "cross_dataset", "datasets": ["btmri"], "targets": ["busi"], "seeds": [1], "methods": ["CoOp"]}
    path, out = write(tmp_path / "g.yaml", blocks=[block]), tmp_path / "out"
    for _ in range(2):
        assert sweep(path, "--no-report", data=data, out=out) == 0 and ends(out) == [("done", 1)]
    tested = next(out.glob("cross_dataset/**/results.json"))
    now = json.loads(tested.read_text())["source"]["checkpoint"]
    tested.write_text(tested.read_text().replace(now, "0" * 64))  # as if the source had been another then
    assert sweep(path, "--no-report", data=data, out=out) == 0 and ends(out) == [("done", 2)]
    assert json.loads(tested.read_text())["source"]["checkpoint"] == now
