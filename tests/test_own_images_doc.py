"""docs/OWN_IMAGES.md to the letter: its commands, in their order, on generated images."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import REPO

BASH = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINKED = ("analysis", "backbones", "configs", "datasets", "explain", "features", "runs", "scripts", "trainers", "export.py",
          "parse_results.py", "predict.py", "train.py")  # fmt: skip


def chest(folder: Path, kind: str, patients: range) -> None:
    """Two views of each patient: a grey field, and one with a bright round spot."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:64, :64]
    for patient in patients:
        for view in (0, 1):
            rng = np.random.default_rng([patient, view, len(kind)])
            pixels = rng.normal(90, 14, (64, 64)) + 20 * np.sin(columns / rng.uniform(4, 12) + rng.uniform(0, 6))
            if kind == "opacity":
                middle, side = rng.uniform(16, 48, 2)
                pixels[(rows - middle) ** 2 + (columns - side) ** 2 < 130] += 110
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"p{patient:02d}_{view}.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the project's, with the images of the document, ``python`` on the path and a cache of its own."""
    place = tmp_path_factory.mktemp("own")
    for name in LINKED:
        (place / name).symlink_to(REPO / name)
    (place / "bin").mkdir()
    (place / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (place / "bin" / "python").chmod(0o755)
    for number, kind in enumerate(("clear_lung", "opacity")):
        chest(place / "data" / "chest" / kind, kind, range(20 * number, 20 * number + 12))
        chest(place / "new_images", kind, range(20 * number + 16, 20 * number + 18))
    (served,) = SERVE.findall((REPO / "docs" / "PREDICT.md").read_text())
    (place / "serve.py").write_text(served)
    return place


@pytest.fixture(scope="module")
def done(place: Path) -> list[tuple[str, str]]:
    """(block, what it printed) of each block of the document, which one shell runs one after the other."""
    path = os.pathsep.join([str(place / "bin"), os.environ["PATH"]])
    env = os.environ | {
        "PATH": path,
        "PYTHON": "python",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": f"{REPO}{os.pathsep}{REPO / 'engine'}",
    }
    env.pop("OUTPUT", None)
    blocks = BASH.findall((REPO / "docs" / "OWN_IMAGES.md").read_text())
    mark = "=== end of a block ==="
    script = "".join(f"{block}echo '{mark}'\n" for block in blocks)
    run = subprocess.run(["bash", "-euc", script], cwd=place, env=env, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stdout[-1500:] + run.stderr[-3000:]
    assert "Traceback" not in run.stderr
    return list(zip(blocks, run.stdout.split(mark), strict=False))


def said(done: list[tuple[str, str]], word: str) -> str:
    """What the blocks that name ``word`` printed."""
    found = [text for block, text in done if word in block]
    assert found, word
    return "\n".join(found)


@pytest.mark.slow
def test_the_folder_is_looked_at_and_checked(done: list[tuple[str, str]]) -> None:
    new = said(done, "datasets.new")
    assert (
        "48 images" in new
        and "clear lung" in new
        and "8-bit grey" in new
        and "next: python -m datasets.check chest.yaml" in new
    )
    check = said(done, "datasets.check")
    assert "split by groups: 24 groups, each whole in one part" in check and "nothing wrong" in check


@pytest.mark.slow
def test_the_table_has_all_methods_and_seeds(done: list[tuple[str, str]]) -> None:
    table = said(done, "parse_results.py")
    for method in ("ZeroshotCLIP", "CoOp", "BiomedDPT"):
        assert re.search(rf"^{method} ", table, re.MULTILINE)
    assert "chest" in table and "[" not in table.split("Few-shot accuracy")[1]  # no cell lacks a run
    assert "BiomedDPT with templates in place of LLM-written prompts" in table


@pytest.mark.slow
def test_what_comes_out_is_there(done: list[tuple[str, str]], place: Path) -> None:
    assert (place / "chest.html").stat().st_size > 10_000
    assert {path.name.split("_")[0] for path in (place / "figures").glob("*.png")} == {"confusion", "reliability"}
    rows = list(csv.DictReader((place / "predictions.csv").open()))
    assert len(rows) == 8 and {"prediction", "clear lung", "opacity"} <= set(rows[0])
    assert len(list((place / "maps").glob("*.png"))) == 8
    served = [json.loads(line) for line in said(done, "serve.py").strip().splitlines()]
    assert len(served) == 8
    by_name = {Path(row["image"]).name: row for row in rows}
    for one in served:
        row = by_name[Path(one["image"]).name]
        assert all(abs(float(row[name]) - odds) < 1e-3 for name, odds in one["probabilities"].items())


@pytest.mark.slow
def test_every_program_of_the_document_is_one(done: list[tuple[str, str]]) -> None:
    text = (REPO / "docs" / "OWN_IMAGES.md").read_text()
    for module in re.findall(r"python -m ([\w.]+)", text):
        parts = module.split(".")
        assert (REPO.joinpath(*parts).with_suffix(".py")).is_file() or (REPO.joinpath(*parts) / "__main__.py").is_file()
    for document, anchor in re.findall(r"\]\((\w+\.md)#([\w-]+)\)", text):
        headings = re.findall(r"^#+ (.+)$", (REPO / "docs" / document).read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, anchor
