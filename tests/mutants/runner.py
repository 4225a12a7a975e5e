"""Puts mutants into copies of the project, one at a time each, and runs the tests that are to notice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue

from tqdm import tqdm

from tests.mutants.mutant import ROOT, Mutant, Outcome

SERVER = Path(__file__).with_name("server.py")
KILLED = {1: "a test failed", 2: "the tests could not be loaded"}  # they could without the mutant
MODULES = (
    "torch", "torchvision.transforms", "open_clip", "timm", "transformers", "transformers.models.bert.modeling_bert",
    "transformers.models.auto.tokenization_auto", "sklearn.linear_model", "sklearn.metrics", "scipy.stats", "scipy.optimize",
    "numpy", "PIL.Image", "yacs.config", "hypothesis", "tabulate", "tqdm", "filelock", "safetensors.torch", "matplotlib.pyplot",
    "pydicom", "nibabel", "yaml", "huggingface_hub", "pytest", "_pytest.assertion.rewrite",
)  # fmt: skip
TIME_OUT, LEAST_LIMIT = 124, 60.0  # seconds
SLOWER = 10.0  # a mutant may take so many times what the clean code took


class NotClean(Exception):
    """Tests that do not pass on the code as it is."""


def copy_project(root: Path, to: Path) -> Path:
    """What git knows or would know, nothing that was built; ``shared`` beside it where there is one."""
    listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=root, check=True, capture_output=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (root / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, to / name)
    if (root.parent / "shared").is_dir():
        (to.parent / "shared").symlink_to(root.parent / "shared")
    return to


class Slot:
    """One copy of the project and the process that runs tests in it.

    Args:
        root: the project.
        folder: an empty one for the copy, logs and the tests' files.
        modules: loaded before, where they are installed.
    """

    def __init__(self, root: Path, folder: Path, modules: Sequence[str] = MODULES) -> None:
        self.folder, self.log = folder, folder / "log.txt"
        self.copy = copy_project(root, folder / "project")
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
        env |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        env |= {
            "PYTHONPATH": f"{self.copy / 'engine'}{os.pathsep}{self.copy}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_XDIST_WORKER": "gw0",  # tests/conftest.py: one thread, as where processes share the machine
            "HF_HUB_OFFLINE": "1",
            "SLOW": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "MPLBACKEND": "Agg",
        }
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER), *modules],
            cwd=self.copy,
            env=env,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._answer()

    def _answer(self) -> dict[str, float]:
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise RuntimeError(f"the process that runs the tests ended with {self._process.wait()}")
        return json.loads(line)

    def run(self, tests: Sequence[str], file: str = "", text: str | None = None, limit: float = 600.0) -> tuple[int, float]:
        """pytest's exit status (``TIME_OUT`` beyond ``limit`` seconds) and the seconds, with ``text`` in ``file``."""
        request = {"file": str(self.copy / file), "text": text, "tests": list(tests), "limit": limit}
        request |= {"log": str(self.log), "scratch": str(self.folder / "scratch")}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        found = self._answer()
        return int(found["code"]), found["seconds"]

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()


@contextmanager
def slots(root: Path, folder: Path, number: int, modules: Sequence[str] = MODULES) -> Iterator[SimpleQueue[Slot]]:
    """So many slots, free ones in a queue."""
    with ExitStack() as stack:
        free: SimpleQueue[Slot] = SimpleQueue()
        for place in range(number):
            slot = Slot(root, folder / f"slot{place}", modules)
            stack.callback(slot.close)
            free.put(slot)
        yield free


def clean_seconds(tests: Sequence[str], free: SimpleQueue[Slot], pool: ThreadPoolExecutor) -> dict[str, float]:
    """Test -> seconds on the code as it is.

    Raises:
        NotClean: some do not pass; which, and the end of what pytest said.
    """

    def one(name: str) -> tuple[str, float, str]:
        slot = free.get()
        try:
            code, seconds = slot.run([name])
            return (
                name,
                seconds,
                "" if code == 0 else f"{name} ends with {code}:\n{slot.log.read_text(errors='replace')[-2000:]}",
            )
        finally:
            free.put(slot)

    found = list(tqdm(pool.map(one, tests), desc="without mutants", total=len(tests), disable=None))
    if wrong := [said for _, _, said in found if said]:
        raise NotClean("\n".join(wrong))
    return {name: seconds for name, seconds, _ in found}


def outcome(
    mutant: Mutant, seconds: dict[str, float], free: SimpleQueue[Slot], root: Path, limits: tuple[float, float]
) -> Outcome:
    """Run the mutant's tests with it; equivalent ones are not run."""
    if mutant.equivalent:
        return Outcome(mutant, "equivalent", mutant.equivalent, 0.0)
    limit = max(limits[0], limits[1] * sum(seconds[name] for name in mutant.test_names))
    slot = free.get()
    try:
        code, took = slot.run(mutant.test_names, mutant.file, mutant.applied(root), limit)
        last = slot.log.read_text(errors="replace").strip().splitlines()[-1:]
    finally:
        free.put(slot)
    if code == TIME_OUT:
        return Outcome(mutant, "killed", f"not done after {limit:.0f} s", took)
    if code in KILLED or code < 0:
        return Outcome(mutant, "killed", " ".join([KILLED.get(code, f"signal {-code}"), *last]), took)
    return Outcome(mutant, "error" if code else "survived", " ".join([f"pytest ended with {code}", *last]), took)


def run_mutants(
    mutants: Sequence[Mutant],
    folder: Path,
    number: int = 1,
    root: Path = ROOT,
    limits: tuple[float, float] = (LEAST_LIMIT, SLOWER),
    modules: Sequence[str] = MODULES,
) -> list[Outcome]:
    """What became of each, in their order.

    Args:
        folder: an empty one for the copies.
        number: of processes at a time.
        limits: seconds that a mutant has at least, and how many times those of the code as it is.
        modules: loaded once for all, where they are installed; none of the project's.

    Raises:
        NotClean: tests that do not pass without a mutant.
    """
    tests = list(dict.fromkeys(name for mutant in mutants if not mutant.equivalent for name in mutant.test_names))
    with slots(root, folder, number, modules) as free, ThreadPoolExecutor(number) as pool:
        seconds = clean_seconds(tests, free, pool)
        results = pool.map(lambda mutant: outcome(mutant, seconds, free, root, limits), mutants)
        return list(tqdm(results, desc="mutants", total=len(mutants), disable=None))
