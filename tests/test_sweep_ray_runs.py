"""Real runs on Ray: they come back as the local engine has them."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from analysis.results import read_whole_record
from sweep.desk import Desk
from sweep.jobs import Job
from sweep.journal import Journal
from sweep.local import run_local
from sweep.outcome import Place
from sweep.ray_engine import RayOptions, run_ray
from tests.conftest import BTMRI_CLASSES, THREADS, write_dataset
from tests.sweep_fakes import Watcher
from tests.test_sweep_ray import needs_ray


def alike(one: Any, other: Any) -> bool:
    """Equal, but for last bits: which of two jobs at once encodes an image, and in which batch, is a matter of luck."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return one == (pytest.approx(other, rel=1e-5, abs=1e-7) if isinstance(other, float) else other)


def result(folder: Path) -> dict[str, Any]:
    """What two runs of one job have in common."""
    record = read_whole_record(folder)
    return {key: value for key, value in record.items() if key not in ("timings", "files", "train")}


def predictions(folder: Path) -> list[list[Any]]:
    """The rows of a run's predictions, numbers as numbers."""
    with gzip.open(folder / "predictions.csv.gz", "rt", encoding="utf-8", newline="") as file:
        heads, *rows = csv.reader(file)
    return [heads, *([float(cell) if "." in cell and cell[0].isdigit() else cell for cell in row] for row in rows)]


@pytest.mark.slow
@needs_ray
def test_real_runs_come_back_as_the_local_engine_has_them(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = write_dataset(tmp_path / "data", "BTMRI", BTMRI_CLASSES, per_class=6)
    few = (("OPTIM.MAX_EPOCH", 2),)
    asked = [Job("few_shot", method, "btmri", 1, 1, "PhantomCLIP", few) for method in ("CoOp", "CLIPAdapter")]
    outputs = {name: tmp_path / name for name in ("local", "ray")}
    desks = {name: Desk([(job,) for job in asked], Journal(place), Watcher(), "g") for name, place in outputs.items()}
    run_ray(desks["ray"], Place(str(root), str(outputs["ray"])), RayOptions(cpus_per_slot=THREADS, collect=True))
    said = capfd.readouterr()
    assert said.out == "" and said.err == ""
    run_local(desks["local"], Place(str(root), str(outputs["local"])))
    assert not desks["ray"].given_up and not desks["local"].given_up
    records = {name: sorted(place.rglob("results.json")) for name, place in outputs.items()}
    assert [path.relative_to(outputs["ray"]) for path in records["ray"]] == [
        path.relative_to(outputs["local"]) for path in records["local"]
    ]
    assert len(records["ray"]) == len(asked)
    for there, here in zip(records["ray"], records["local"], strict=True):
        assert alike(result(there.parent), result(here.parent))
        assert alike(predictions(there.parent), predictions(here.parent))
    assert not list((Path(os.environ["BIOMED_DPT_CACHE"]) / "collected").glob("*/*"))  # nothing is left on the machine
