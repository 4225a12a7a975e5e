"""How long plans, status, tables and report take over thousands of finished runs.

    python -m benchmarks.sweep_scale --runs 3000

The runs are written without a model, in the layout of ``configs/sweeps/paper_few_shot.yaml``; every figure is of a whole
process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from entry import program
from sweep.grids import read_grids
from sweep.journal import DONE, Event, Journal
from tests.synthetic_runs import write_run

NAMES = {
    "covid": "COVID_19",
    "ctkidney": "CTKidney",
    "kneexray": "KneeXray",
    "lungcolon": "LungColon",
    "dermamnist": "DermaMNIST",
}
COMMANDS = {
    "plan": ["sweep", "plan", "paper_few_shot", "--output"],
    "status": ["sweep", "status"],
    "run (nothing left: tables, figures, report)": ["sweep", "run", "paper_few_shot", "--output"],
}


def written(output: Path, count: int) -> int:
    """Write finished runs of the first jobs of the paper's few-shot grid; how many."""
    jobs = read_grids(["paper_few_shot"]).jobs
    assert len(jobs) >= 2970
    for number, job in enumerate(tqdm(jobs[:count], desc="runs written", disable=None)):
        name = NAMES.get(job.dataset, job.dataset.upper())
        folder = write_run(
            output, job.method, name, shots=job.shots, seed=job.seed, accuracy=40 + number % 50, changed={}, classes=4
        )
        place = output / "few_shot" / job.dataset
        if folder.parents[3].name != job.dataset:  # the layout has the dataset's key
            target = place / folder.relative_to(folder.parents[3])
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
    return min(count, len(jobs))


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3000)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        count = written(output, args.runs)
        journal = Journal(output)
        journal.add_grid("made", ["paper_few_shot"], read_grids(["paper_few_shot"]).jobs[:count])
        journal.add(Event(DONE, "none"))
        journal.close()
        print(f"| {count} finished runs | seconds |\n|---|---|")
        for name, words in COMMANDS.items():
            started = time.perf_counter()
            done = subprocess.run([sys.executable, "-m", *words, str(output)], capture_output=True, text=True, check=False)
            seconds = time.perf_counter() - started
            print(f"| {name} | {seconds:.1f} |", flush=True)
            print((done.stdout.splitlines() or [""])[0][:120], done.stderr[-300:], file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
