"""The engine ``ray``: machines and processes that go away, a driver that is killed, and the same results as the local one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from analysis.results import read_whole_record
from dassl.utils import UserError
from sweep import ray_engine
from sweep.collect import files_of_runs, remove_rests, write_runs
from sweep.desk import LOSSES, Desk
from sweep.jobs import Job
from sweep.journal import DONE, FAILED, LOST, START, STOPPED, Journal
from sweep.outcome import Place
from sweep.ray_engine import RayOptions, gpu_share, run_ray, slots_of
from tests.conftest import REPO
from tests.sweep_fakes import HOLD, Watcher, jobs, left, lines, marker, quick, wait_for, with_poison
from tests.synthetic_runs import write_run

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install -r requirements-dev.txt")
NODE = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three machines of one CPU each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=NODE)
    for _ in range(2):
        made.add_node(wait=False, **NODE)
    yield made
    made.shutdown()


def desk_of(output: Path, asked: list[Job], watcher: Watcher | None = None) -> Desk:
    journal = Journal(output)
    return Desk(left(output, asked), journal, watcher or Watcher(), "g", journal.losses())


def kinds(output: Path, *wanted: str) -> list[tuple[str, str, int]]:
    """(job, host, pid) of the journal's events of these kinds."""
    rows = Journal(output)._base.execute("SELECT kind, job, host, pid FROM events ORDER BY id")
    return [tuple(row[1:]) for row in rows if row[0] in wanted]


# -- machines that go away ------------------------------------------------------------------------------------


def raylet(node: Any) -> int:
    """The process that starts those of a machine's slots."""
    return node.all_processes["raylet"][0].process.pid


@needs_ray
def test_a_machine_and_a_process_go_and_one_job_is_poison(cluster: Any, tmp_path: Path) -> None:
    asked = with_poison(18)
    gone: list[int] = []
    joined: list[Any] = []

    (tmp_path / HOLD).touch()

    def in_the_middle() -> dict[int, int]:
        """Parent's process -> process of every slot that has a job in hand."""
        last = [said[-1].split() for job in asked if job.method == "quick" and (said := lines(tmp_path, job))]
        return {int(words[2]): int(words[1]) for words in last if words[0] == "begin" and Path(f"/proc/{words[1]}").is_dir()}

    def kill_a_process() -> bool:
        for process in list(in_the_middle().values())[:1]:
            gone.append(process)
            os.kill(process, signal.SIGKILL)
        return bool(gone)

    def remove_a_machine() -> bool:
        busy = in_the_middle()
        node = next((node for node in cluster.worker_nodes if busy.get(raylet(node), 0) not in (0, *gone)), None)
        if node is not None:
            gone.append(busy[raylet(node)])
            os.kill(gone[1], signal.SIGSTOP)  # does not end its job while the machine's processes are ended one by one
            cluster.remove_node(node, allow_graceful=False)
            os.kill(gone[1], signal.SIGKILL)
        return node is not None

    def disturb() -> None:
        for what, after in ((kill_a_process, 3), (remove_a_machine, 7)):
            wait_for(lambda after=after: watcher.count >= after)
            wait_for(what)
        (tmp_path / HOLD).unlink()  # until here no slot could run out of work

    class Joining(Watcher):
        """A new machine comes when the other is gone (Ray starts one in the main thread only)."""

        def ended(self, *what: Any) -> None:
            super().ended(*what)
            if not joined and not (tmp_path / HOLD).exists():
                joined.append(cluster.add_node(wait=False, **NODE))

    watcher = Joining()
    desk = desk_of(tmp_path, asked, watcher)
    disturbing = Thread(target=disturb, daemon=True)
    disturbing.start()
    run_ray(desk, Place("", str(tmp_path)), RayOptions(cluster.address, cpus_per_slot=1), quick)
    disturbing.join()

    poison = next(job for job in asked if job.method == "poison")
    others = [job for job in asked if job is not poison]
    assert sorted(job.id for (job,) in desk.done) == sorted(job.id for job in others)
    assert [failure.unit for failure in desk.given_up] == [(poison,)]
    assert f"went away {LOSSES} times" in desk.given_up[0].outcome.said
    assert len(lines(tmp_path, poison)) == LOSSES
    assert all([line.split()[0] for line in lines(tmp_path, job)].count("end") == 1 for job in others)
    assert all(marker(tmp_path, job).read_text() == job.title for job in others)
    lost = [job for job, _, _ in kinds(tmp_path, LOST)]
    assert lost.count(poison.id) == LOSSES and len(lost) - LOSSES == len(gone) == 2  # perhaps of one job
    started = {pid for _, _, pid in kinds(tmp_path, START)}
    assert started >= set(gone)  # the slot's process, not the driver's
    # the new machine's is the fourth where it came before the other was given up
    assert {"0", "1", "2"} <= {slot.rpartition(":")[2] for slot in watcher.slots} <= {"0", "1", "2", "3"}
    assert sorted(job for job, _, _ in kinds(tmp_path, DONE)) == sorted(job.id for job in others)
    assert str(raylet(joined[0])) in {lines(tmp_path, job)[-2].split()[2] for job in others}


# -- a driver that goes away ----------------------------------------------------------------------------------


@needs_ray
def test_a_killed_driver_is_started_again_and_does_what_is_missing(cluster: Any, tmp_path: Path) -> None:
    asked = jobs(12)
    call = [sys.executable, "-m", "tests.sweep_fakes", str(tmp_path), cluster.address, "12"]
    environment = os.environ | {"PYTHONPATH": f"{REPO}:{REPO / 'engine'}"}
    driver = subprocess.Popen(call, cwd=REPO, env=environment)
    try:
        wait_for(lambda: sum(marker(tmp_path, job).is_file() for job in asked) >= 4)
    finally:
        driver.kill()
        driver.wait()
    done = [job for job in asked if lines(tmp_path, job)[-1:] and lines(tmp_path, job)[-1].startswith("end")]
    assert 4 <= len(done) < 12
    desk = desk_of(tmp_path, asked)
    run_ray(desk, Place("", str(tmp_path)), RayOptions(cluster.address, cpus_per_slot=1), quick)
    assert {marker(tmp_path, job).read_text() for job in asked} == {job.title for job in asked}
    assert not desk.given_up
    for job in asked:
        assert [line.split()[0] for line in lines(tmp_path, job)].count("end") == 1, job.title
    assert all([line.split()[0] for line in lines(tmp_path, job)] == ["begin", "end"] for job in done)


@needs_ray
def test_ctrl_c_ends_it_and_costs_no_job_a_loss(cluster: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import ray

    asked = jobs(60)  # on a busy machine one slot may work for long before the other is up

    def under_way() -> set[str]:
        return {job for job, _, _ in kinds(tmp_path, START)} - {job for job, _, _ in kinds(tmp_path, DONE)}

    def interrupt() -> None:
        if under_way():
            raise KeyboardInterrupt

    desk = desk_of(tmp_path, asked, Watcher(dict.fromkeys(range(2, 60), interrupt)))
    with pytest.raises(KeyboardInterrupt):
        run_ray(desk, Place("", str(tmp_path)), RayOptions(cluster.address, cpus_per_slot=1), quick)
    assert not ray.is_initialized()
    assert under_way() and {job for job, _, _ in kinds(tmp_path, STOPPED)} == under_way()
    assert not any(Journal(tmp_path).losses().values())
    said = capfd.readouterr()
    assert said.out == "" and said.err == ""


# -- what is refused ------------------------------------------------------------------------------------------


@needs_ray
def test_an_error_of_a_job_is_tried_once_more(cluster: Any, tmp_path: Path) -> None:
    broken = Job("few_shot", "broken", "d", 1, 0)
    desk = desk_of(tmp_path, [broken])
    run_ray(desk, Place("", str(tmp_path)), RayOptions(cluster.address, cpus_per_slot=1), quick)
    assert desk.given_up[0].outcome.said.endswith("ValueError: not two in one line")
    assert len(kinds(tmp_path, FAILED)) == 2 == len(lines(tmp_path, broken))


@needs_ray
@pytest.mark.parametrize(
    "options, said",
    [
        (RayOptions("auto", cpus_per_slot=0), "at least 1"),
        (RayOptions("ray://127.0.0.1:10001"), "auto or HOST:PORT"),
        (RayOptions("127.0.0.1:1"), "no Ray cluster answers at 127.0.0.1:1"),
    ],
)
def test_what_cannot_be_is_a_line_at_once(options: RayOptions, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        run_ray(desk_of(tmp_path, jobs(1)), Place("", str(tmp_path)), options, quick)
    assert not lines(tmp_path, jobs(1)[0])


@needs_ray
def test_no_room_for_a_slot(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no machine of the cluster has 2 CPUs for a slot: lower --cpus-per-slot"):
        run_ray(desk_of(tmp_path, jobs(1)), Place("", str(tmp_path)), RayOptions(cluster.address, cpus_per_slot=2), quick)


@needs_ray
def test_a_cluster_without_a_slot_is_not_waited_for_without_end(cluster: Any, tmp_path: Path) -> None:
    options = RayOptions(cluster.address, cpus_per_slot=1, patience=0.0)  # which no process starts within
    with pytest.raises(UserError, match="no slot of the cluster has worked for 0 minutes .* the same command goes on"):
        run_ray(desk_of(tmp_path, jobs(1)), Place("", str(tmp_path)), options, quick)
    assert not kinds(tmp_path, START)


@needs_ray
def test_machines_with_other_code_are_not_used(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "code_hash", lambda: "of another commit")
    with pytest.raises(UserError, match=r"no machine of the cluster can work: \S+: the checkout at .* is not the one"):
        run_ray(desk_of(tmp_path, jobs(1)), Place("", str(tmp_path)), RayOptions(cluster.address, cpus_per_slot=1), quick)


def test_a_missing_ray_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r'pip install "ray\[default\]"'):
        run_ray(desk_of(tmp_path, jobs(1)), Place("", str(tmp_path)), RayOptions(), quick)


# -- how many slots -------------------------------------------------------------------------------------------


def test_as_many_slots_fit_a_gpu_as_are_asked_for() -> None:
    for slots in range(1, 65):
        share = round(gpu_share(slots) * 10_000)  # Ray counts in ten thousandths
        assert share * slots <= 10_000 < share * (slots + 1) or slots > 50


def test_slots_follow_from_cpus_and_gpus() -> None:
    nodes = {name: {"Resources": what} for name, what in {"a": {"CPU": 16.0}, "b": {"CPU": 5.0}, "c": {}}.items()}
    assert slots_of(nodes, RayOptions()) == {"a": 8, "b": 2, "c": 0}
    nodes["b"]["Resources"]["GPU"] = 1.0
    assert slots_of(nodes, RayOptions()) == {"a": 0, "b": 2, "c": 0}  # no run on a CPU where there are GPUs
    assert slots_of({"e": {"Resources": {"CPU": 64.0, "GPU": 8.0}}}, RayOptions(slots_per_gpu=3)) == {"e": 24}


# -- machines without a shared disk -----------------------------------------------------------------------------


def test_runs_are_carried_over_whole(tmp_path: Path) -> None:
    run = write_run(tmp_path / "there", seed=3)
    folder = run.relative_to(tmp_path / "there").as_posix()
    files = files_of_runs(tmp_path / "there", [folder])
    half = tmp_path / "here" / folder
    half.mkdir(parents=True)
    (half / "log.txt").write_text("a run that was killed here")
    (tmp_path / "here" / ".collect-rest").mkdir()
    remove_rests(tmp_path / "here")
    write_runs(tmp_path / "here", files)
    assert files_of_runs(tmp_path / "here", [folder]) == files
    assert read_whole_record(half)["seed"] == 3
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["few_shot"]
    write_runs(tmp_path / "here", {folder: {"log.txt": b"another"}})  # a whole one stays
    assert files_of_runs(tmp_path / "here", [folder]) == files


@pytest.mark.parametrize("folder, name", [("few_shot/x", "../../out"), ("/tmp", "x"), ("../x", "x"), ("few_shot/x", "/etc/x")])
def test_no_file_is_written_outside(folder: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lies outside"):
        write_runs(tmp_path / "here", {"few_shot/good": {"log.txt": b""}, folder: {name: b"x"}})
    assert not (tmp_path / "here").exists()


# -- the job script of a cluster --------------------------------------------------------------------------------


def test_the_job_script_for_slurm_is_a_script() -> None:
    script = REPO / "scripts" / "slurm" / "ray.sbatch"
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True).stderr == ""
    text = script.read_text()
    assert "--engine ray --ray-address" in text and text.startswith("#!/usr/bin/env bash\n#SBATCH")
