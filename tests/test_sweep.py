"""Sweeps: grids as data, the desk's second tries, the journal, rates."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.__main__ import main
from sweep.desk import LOSSES, Desk
from sweep.grids import SWEEPS, known_grids, published_datasets, read_grids
from sweep.jobs import Job, in_order, job_of, units_of
from sweep.journal import DONE, FAILED, LOST, START, Event, Journal
from sweep.local import run_local
from sweep.outcome import Outcome, Place
from sweep.rates import Rates, clock

GRID = {
    "task": "few_shot", "methods": ["ZeroshotCLIP", "LinearProbe", "CoOp"], "datasets": ["btmri", "busi"], "shots": [1],
    "seeds": [1, 2], "backbone": "PhantomCLIP", "overrides": {"OPTIM.MAX_EPOCH": 1, "DATALOADER.NUM_WORKERS": 0},
}  # fmt: skip


def write(path: Path, **content: object) -> str:
    path.write_text(yaml.safe_dump(content))
    return str(path)


# -- grids ------------------------------------------------------------------------------------------------


def test_the_projects_grids_hold_what_they_say() -> None:
    assert {"paper_few_shot", "paper_base2new", "cross_dataset", "ablation", "rehearsal", "rehearsal_full", "smoke"} <= set(
        known_grids()
    )
    few = read_grids(["paper_few_shot"]).jobs
    assert len(few) == 25 * 11 * 5 * 3 and {job.backbone for job in few} == {"BiomedCLIP"}
    pairs = read_grids(["paper_base2new"]).jobs
    assert len(pairs) == 15 * 10 * 3 and "busi" not in {job.dataset for job in pairs}
    rehearsal = read_grids(["rehearsal"])
    assert rehearsal.phantom == {"per_class": 40} and {job.backbone for job in rehearsal.jobs} == {"PhantomCLIP"}
    assert len(rehearsal.jobs) == 22 * 11 * 2 * 3 + 12 * 10 * 3
    assert all(dict(job.overrides)["OPTIM.MAX_EPOCH"] == 3 for job in rehearsal.jobs)
    full = read_grids(["rehearsal_full"]).jobs
    assert len(full) == len(few) + len(pairs) and not any(job.overrides for job in full)
    assert all(read_grids([path.stem]).about for path in SWEEPS.glob("*.yaml"))


def test_included_grids_are_narrowed_and_changed(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", blocks=[GRID | {"settings": {"": {}, "wide": {"TRAINER.COOP.N_CTX": 8}}}])
    path = write(
        tmp_path / "b.yaml",
        include=["a.yaml", {"grid": "a.yaml", "seeds": [5], "methods": ["CoOp"], "overrides": {"OPTIM.LR": 0.1}}],
    )
    jobs = read_grids([path]).jobs
    assert len(jobs) == 3 * 2 * 2 * 2 + 2 * 2
    five = [job for job in jobs if job.seed == 5]
    assert {job.method for job in five} == {"CoOp"} and {job.label for job in five} == {"", "wide"}
    wide = next(job for job in five if job.label == "wide")
    assert dict(wide.overrides) == {**GRID["overrides"], "TRAINER.COOP.N_CTX": 8, "OPTIM.LR": 0.1}


WRONG = [
    ({}, "holds no runs"),
    ({"block": []}, 'unknown key "block". Did you mean "blocks"?'),
    ({"include": ["paper_fewshot"]}, 'no grid "paper_fewshot". Did you mean "paper_few_shot"?'),
    ({"blocks": [GRID | {"methods": ["CoOpp"]}]}, 'block 1: methods has no "CoOpp". Did you mean "CoOp"?'),
    ({"blocks": [GRID | {"datasets": ["btmr"]}]}, 'datasets has no "btmr". Did you mean "btmri"?'),
    ({"blocks": [GRID | {"shots": [0]}]}, "shots must be whole numbers from 1 up, got 0"),
    ({"blocks": [GRID | {"seeds": [True]}]}, "seeds must be whole numbers from 0 up, got True"),
    ({"blocks": [GRID | {"seeds": "all"}]}, "seeds must be a list"),
    ({"blocks": [GRID | {"overrides": ["OPTIM.LR"]}]}, "overrides must be like"),
    ({"blocks": [{"task": "few_shot"}]}, "block 1 names no methods"),
    ({"blocks": [GRID | {"label": "../out"}]}, "label must be a name"),
    ({"blocks": [GRID | {"settings": {"../../out": {}}}]}, "must be a name"),
    ({"blocks": ["few_shot"]}, "must hold keys such as task"),
    ({"phantom": {"per_class": 0}, "include": ["smoke"]}, "phantom must be like"),
    ({"include": ["grid.yaml"]}, "include each other"),
    ({"include": [{"grid": "smoke", "backbone": 3}]}, "backbone must be a name, got 3"),
]


@pytest.mark.parametrize("content, said", WRONG, ids=[said[:40] for _, said in WRONG])
def test_a_wrong_grid_is_one_line(content: dict[str, object], said: str, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = write(tmp_path / "grid.yaml", **content)
    assert main(["plan", path, "--output", str(tmp_path / "out")]) == 2
    told = capfd.readouterr()
    assert said in told.err and told.err.count("\n") == 1 and told.err.startswith("error: ") and not (tmp_path / "out").exists()


def test_a_filter_that_fits_nothing_is_told(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    for words, said in [
        (["--methods", "CoOp", "CoOpp"], "smoke has no method 'CoOpp'. Did you mean \"CoOp\"?"),
        (["--seeds", "7"], "smoke has no seed 7"),
    ]:
        assert main(["run", "smoke", "--output", str(tmp_path / "out"), *words]) == 2
        told = capfd.readouterr().err
        assert said in told and told.count("\n") == 1 and not (tmp_path / "out").exists()


PAIRS = st.tuples(st.sampled_from(["A", "B"]), st.integers() | st.floats(allow_nan=False))
JOBS = st.builds(
    Job,
    st.sampled_from(["few_shot", "base2new"]),
    st.sampled_from(["CoOp", "LinearProbe"]),
    st.sampled_from(["btmri", "busi"]),
    st.integers(1, 3),
    st.integers(0, 2**40),
    overrides=st.lists(PAIRS, unique_by=lambda pair: pair[0]).map(tuple),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(JOBS, max_size=12))
def test_jobs_survive_a_file_and_are_kept_once(jobs: list[Job]) -> None:
    assert [job_of(json.loads(json.dumps(job.as_data()))) for job in jobs] == jobs
    kept = in_order(jobs)
    assert {job.id for job in kept} == {job.id for job in jobs} and len({job.id for job in kept}) == len(kept)
    alike = [(job.backbone, job.dataset, job.task, job.seed, job.shots) for job in kept]
    groups = [key for index, key in enumerate(alike) if index == 0 or alike[index - 1] != key]
    assert len(groups) == len(set(groups))  # what shares encoded images stands together
    units = units_of(kept, ["CoOp"])
    assert sorted(job.id for unit in units for job in unit) == sorted(job.id for job in kept)
    for unit in units:
        assert len(unit) == 1 or (unit[0].method == "CoOp" and len({(job.setting, job.shots) for job in unit}) == 1)


def test_what_a_job_is_and_which_stand_together() -> None:
    one = Job("few_shot", "CoOp", "btmri", 1, 1, overrides=(("A", 1), ("B", 2)))
    assert one.id == replace(one, overrides=(("B", 2), ("A", 1))).id == replace(one, whole=True).id
    others = [replace(one, **{key: value}) for key, value in (("shots", 2), ("seed", 2), ("overrides", ()), ("label", "x"))]
    assert len({one.id, *(job.id for job in others)}) == 5
    jobs = [replace(one, method=m, shots=k, dataset=d) for m in ("CoOp", "VPT") for k in (1, 4) for d in ("busi", "btmri")]
    ordered = [(job.dataset, job.shots, job.method) for job in in_order(jobs)]
    assert ordered == [(d, k, m) for d in ("busi", "btmri") for k in (1, 4) for m in ("CoOp", "VPT")]
    stacked = units_of([replace(one, seed=n, shots=k) for n in (1, 2) for k in (1, 4)], ["CoOp"])
    assert [[(job.shots, job.seed) for job in unit] for unit in stacked] == [[(1, 1), (1, 2)], [(4, 1), (4, 2)]]


# -- desk and journal -------------------------------------------------------------------------------------


class Quiet:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def started(self, slot: str, unit: tuple[Job, ...]) -> None:
        self.said.append(("started", unit[0].id))

    def ended(self, slot: str, unit: tuple[Job, ...], outcome: Outcome) -> None:
        self.said.append(("ended", unit[0].id))

    def failed(self, slot: str, unit: tuple[Job, ...], outcome: Outcome, again: bool) -> None:
        self.said.append(("again" if again else "failed", unit[0].id))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "out")


ONE, TWO, THREE = (Job("few_shot", "CoOp", "btmri", 1, seed) for seed in (1, 2, 3))


def test_what_failed_comes_once_more_behind_the_others(journal: Journal) -> None:
    screen = Quiet()
    desk = Desk(units_of([ONE, TWO]), journal, screen, "g")
    seen = []
    while (unit := desk.take("0")) is not None:
        seen.append(unit[0].seed)
        desk.ended(unit, Outcome(said="no" if unit[0].seed == 1 else "", folders={unit[0].id: ("f",)}), "0")
    assert seen == [1, 2, 1] and [failure.unit for failure in desk.given_up] == [(ONE,)] and desk.done == [(TWO,)]
    assert [what for what, job in screen.said if job == ONE.id] == ["started", "again", "started", "failed"]
    assert journal.folders() == {TWO.id: ("f",)}
    last = journal.last_events()[ONE.id]
    assert (last.kind, last.attempt, last.said) == (FAILED, 2, "no")


def test_a_job_that_takes_its_process_along_is_given_up_and_the_rest_goes_on(journal: Journal) -> None:
    desk = Desk(units_of([ONE, TWO]), journal, Quiet(), "g")
    losses = 0
    while (unit := desk.take("0")) is not None:
        if unit[0].seed == 1:
            losses += 1
            desk.lost(unit, "0", "the process is gone")
        else:
            desk.ended(unit, Outcome(folders={unit[0].id: ("f",)}), "0")
    assert losses == LOSSES == 3 and desk.done == [(TWO,)] and "went away 3 times" in desk.given_up[0].outcome.said
    again = Desk(units_of([ONE]), journal, Quiet(), "g", journal.losses())
    assert again.take("0") is None and len(again.given_up) == 1  # the next sweep knows


def test_an_interrupted_job_is_not_blamed(journal: Journal) -> None:
    def interrupted(unit: tuple[Job, ...], place: Place) -> Outcome:
        raise KeyboardInterrupt

    for _ in range(LOSSES + 1):
        desk = Desk(units_of([ONE]), journal, Quiet(), "g", journal.losses())
        with pytest.raises(KeyboardInterrupt):
            run_local(desk, Place("data", "out"), interrupted)
    assert journal.losses()[ONE.id] == 0 and desk.given_up == [] and desk.left == 1


def test_a_start_without_an_end_counts_as_a_loss(journal: Journal) -> None:
    for kinds, expected in [
        ([START], 1), ([START, START], 2), ([START, LOST, START], 2), ([START, START, DONE], 0), ([START, FAILED, START], 1),
    ]:  # fmt: skip
        job = f"{kinds}"
        journal.add(*(Event(kind, job) for kind in kinds))
        assert journal.losses()[job] == expected, kinds


def test_the_journal_only_grows(journal: Journal, tmp_path: Path) -> None:
    journal.add(Event(START, ONE.id, ONE.title))
    journal.add(Event(DONE, ONE.id, ONE.title, seconds=2.0, folders=("a", "b")))
    with sqlite3.connect(tmp_path / "out" / "sweep.db") as base:
        rows = base.execute("SELECT kind, job, seconds, folders FROM events ORDER BY id").fetchall()
    assert rows == [(START, ONE.id, None, "[]"), (DONE, ONE.id, 2.0, '["a", "b"]')]
    assert journal.seconds() == [(ONE.title, 2.0)]


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_damaged_journal_is_put_aside(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "sweep.db").write_bytes(content)
    journal = Journal(tmp_path)
    journal.add(Event(DONE, ONE.id))
    assert journal.last_events()[ONE.id].kind == DONE
    if content:
        assert journal.put_aside and journal.put_aside.read_bytes() == content


def test_rates_are_of_the_nearest_kind() -> None:
    rates = Rates(
        [(ONE.title, 10.0), (replace(ONE, dataset="busi").title, 30.0), (replace(ONE, method="LinearProbe").title, 2.0)]
    )
    assert rates.seconds(TWO) == 10.0 and rates.seconds(replace(ONE, shots=16)) == 10.0
    assert rates.seconds(replace(ONE, dataset="retina")) == 20.0  # the method's on other datasets
    assert rates.seconds(replace(ONE, method="VPT")) == 14.0 and Rates().seconds(ONE) is None
    rates.add(replace(ONE, dataset="busi", shots=16).title, 50.0)
    assert rates.seconds(replace(ONE, dataset="retina", shots=16)) == 50.0  # of as many shots, before those of others
    assert rates.total([ONE, TWO], slots=4) == 5.0 and Rates().total([ONE]) is None
    assert clock(3661) == "1:01:01" and clock(90061) == "1 day 1:01:01"


def test_published_datasets_are_those_of_the_project() -> None:
    from datasets import by_key

    assert published_datasets() == sorted(by_key())
