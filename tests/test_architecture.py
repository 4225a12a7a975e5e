"""The arrows of docs/ARCHITECTURE.md: no file imports against their order, wherever in the file the import stands."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPO

ENGINE = {"dassl", "entry"}
METHODS = ENGINE | {"backbones", "features", "datasets"}
RUNS = METHODS | {"trainers", "analysis"}
# room -> the rooms that it may import; itself and other people's packages go without saying
ALLOWED: dict[str, set[str]] = {
    "entry": set(),
    "dassl": set(),
    "analysis": {"entry"},
    "backbones": ENGINE,
    "features": ENGINE,
    "datasets": ENGINE,
    "trainers": METHODS,
    "runs": RUNS,
    "explain": RUNS | {"runs"},
    "demo": RUNS | {"runs", "explain"},
    "sweep": RUNS | {"runs"},
    "share": RUNS | {"runs"},
    "train": {"runs", "dassl", "entry"},
    "predict": {"runs", "explain", "dassl", "entry"},
    "export": {"runs", "trainers", "dassl", "entry"},
    "parse_results": {"analysis", "entry"},
    "doctor": RUNS | {"runs"},
    "scripts": RUNS,
}
ANYTHING = ("benchmarks", "tests")  # they measure and check all of it
ROOMS = {*ALLOWED, *ANYTHING}
# who loads modules by a name that is worked out as it runs, which no reading of the imports can follow
BY_NAME = {"analysis/explain.py", "runs/__init__.py", "datasets/phantom/__init__.py"}
LOADERS = {"import_module", "run_module", "run_path", "__import__"}


def room_of(path: Path) -> str:
    """The package or the top-level program that a file of the repository belongs to."""
    parts = path.relative_to(REPO).with_suffix("").parts
    return parts[1] if parts[0] == "engine" else parts[0]


def imports(source: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import of a source, those inside functions and for type checkers too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import, which this project does not write"
            yield node.lineno, node.module or ""


def against_the_order(path: Path, source: str) -> list[str]:
    """The imports of a file that run against the arrows, in words."""
    room, name = room_of(path), path.relative_to(REPO).as_posix()
    wrong = []
    for line, module in imports(source):
        target = module.split(".")[0]
        if target in ROOMS and target != room and target not in ALLOWED[room]:
            wrong.append(
                f"{name}:{line}: {room} imports {module}, and may import {', '.join(sorted(ALLOWED[room])) or 'nothing'}"
            )
    if name not in BY_NAME and loads_by_name(source):
        wrong.append(f"{name}: loads modules by name, out of sight of this test")
    return wrong


def loads_by_name(source: str) -> bool:
    """Whether a source names one of Python's ways to import a module whose name is a string."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {getattr(node, field, None) for node in nodes for field in ("id", "attr", "name")}
    return bool(LOADERS & names)


def files() -> list[Path]:
    found = [*REPO.glob("*.py")]
    for room in (*(room for room in ALLOWED if (REPO / room).is_dir()), "engine/dassl"):
        found += sorted((REPO / room).rglob("*.py"))
    return found


def test_no_import_runs_against_the_arrows() -> None:
    found = files()
    assert {room_of(path) for path in found} == set(ALLOWED)  # every room was read, and no program was forgotten
    assert [fault for path in found for fault in against_the_order(path, path.read_text(encoding="utf-8"))] == []


def test_analysis_reads_files_without_a_model_library() -> None:
    for path in sorted((REPO / "analysis").rglob("*.py")):
        used = {module.split(".")[0] for _, module in imports(path.read_text(encoding="utf-8"))}
        assert not used & {"torch", "torchvision", "open_clip", "timm", "transformers"}, path


PLANTED = [
    ("trainers/coop.py", "from runs.config import configured\n", "trainers imports runs.config"),
    ("trainers/coop.py", "def f():\n    import runs\n", "trainers imports runs"),
    ("trainers/base.py", "from analysis.predictions import Predictions\n", "trainers imports analysis.predictions"),
    ("analysis/report.py", "import parse_results\n", "analysis imports parse_results"),
    (
        "analysis/figures.py",
        "class A:\n    def f(self):\n        from explain.command import main\n",
        "analysis imports explain",
    ),
    ("analysis/results.py", "from dassl.utils import UserError\n", "and may import entry"),
    ("entry.py", "from dassl.utils import UserError\n", "and may import nothing"),
    ("analysis/results.py", "import runpy\nrunpy.run_module('runs')\n", "loads modules by name"),
    ("runs/run.py", "if TYPE_CHECKING:\n    import train\n", "runs imports train"),
    ("runs/inference.py", "from share.pack import FILES\n", "runs imports share.pack"),
    ("runs/run.py", "from importlib import import_module\n", "loads modules by name"),
    ("explain/maps.py", "import predict\n", "explain imports predict"),
    ("explain/page.py", "from demo import html\n", "explain imports demo"),
    ("demo/page.py", "import predict\n", "demo imports predict"),
    ("backbones/base.py", "import torch, datasets.splits\n", "backbones imports datasets.splits"),
    ("features/disk.py", "from backbones import build_backbone\n", "features imports backbones"),
    ("datasets/prompts/check.py", "from backbones import build_backbone\n", "datasets imports backbones"),
    ("engine/dassl/engine/build.py", "import trainers\n", "dassl imports trainers"),
    ("train.py", "from trainers import methods\n", "train imports trainers"),
    ("parse_results.py", "import runs.config as analysis\n", "parse_results imports runs.config"),
]


@pytest.mark.parametrize("file, source, said", PLANTED, ids=[f"{file}-{said}" for file, _, said in PLANTED])
def test_a_planted_import_is_found(file: str, source: str, said: str) -> None:
    assert (REPO / file).is_file()
    (fault,) = against_the_order(REPO / file, source)
    assert fault.startswith(f"{file}:") and said in fault
    assert against_the_order(REPO / file, "import torch\nfrom importlib import metadata\n") == []


def test_there_is_no_circle_among_the_files_of_runs() -> None:
    """A config walks down through them, from the door to the overrides."""
    below: dict[str, set[str]] = {}
    for path in (REPO / "runs").glob("[!_]*.py"):
        source = path.read_text(encoding="utf-8")
        names = {module for _, module in imports(source)} | _submodules(source)
        below[path.stem] = {name.split(".")[1] for name in names if name.startswith("runs.")}
    order: list[str] = []
    while len(order) < len(below):
        free = sorted(name for name in below if name not in order and below[name] <= set(order))
        assert free, f"these import each other: {sorted(set(below) - set(order))}"
        order += free
    down = ["door", "protocols", "run", "records", "departures", "settings", "config", "overrides"]
    assert [name for name in reversed(order) if name in down] == down


def _submodules(source: str) -> set[str]:
    """``from runs import records`` as ``runs.records``."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module == "runs"]
    return {f"runs.{alias.name}" for node in nodes for alias in node.names}


def test_every_package_says_what_belongs_there() -> None:
    packages = sorted(room for room in ROOMS - {"tests"} if (REPO / room / "__init__.py").is_file())
    assert {
        "analysis",
        "backbones",
        "benchmarks",
        "datasets",
        "demo",
        "doctor",
        "explain",
        "features",
        "runs",
        "share",
        "sweep",
        "trainers",
    } == set(packages)
    for room in packages:
        said = ast.get_docstring(ast.parse((REPO / room / "__init__.py").read_text(encoding="utf-8"))) or ""
        assert re.search(r"Here belongs?\b", said), f"{room}/__init__.py does not say what belongs there"


def test_the_document_draws_these_arrows() -> None:
    """Each arrow of the picture is allowed, each room is in it and has its paragraph."""
    text = (REPO / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    (picture,) = re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)
    labels = dict(re.findall(r"^    (\w+)\[\"([\w.]+)", picture, re.MULTILINE))
    drawn = re.findall(r"^\s*(\w+) --> (\w+)$", picture, re.MULTILINE)
    assert {label.removesuffix(".py") for label in labels.values()} == {*ALLOWED, "benchmarks"}
    for start, end in drawn:
        assert end in ALLOWED.get(start, ROOMS), f"{start} --> {end} is drawn and not allowed"
    for label in labels.values():
        assert f"**`{label}" in text, f"no paragraph on {label}"


def test_what_few_calls_use_is_imported_by_them() -> None:
    """Half a second each for libraries of tests, figures and logs that neither a training's first step nor a table needs."""
    late = ["matplotlib", "scipy.stats", "sklearn", "tensorboard", "torch.utils.tensorboard"]
    code = f"import sys, trainers, runs.again, analysis.overview; print([name for name in {late} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
