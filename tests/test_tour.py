"""docs/tour.ipynb: stored without outputs, and run from its first cell to its last."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path

import pytest

from tests.conftest import REPO

TOUR = REPO / "docs" / "tour.ipynb"
SECONDS = 180  # the document says a minute; a loaded machine may take more


def cells(kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(TOUR.read_text())["cells"] if cell["cell_type"] == kind]


def test_it_is_stored_without_outputs_and_its_links_lead_somewhere() -> None:
    import re

    loaded = json.loads(TOUR.read_text())
    for cell in loaded["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            compile("".join(cell["source"]), "tour", "exec")
    assert len({cell["id"] for cell in loaded["cells"]}) == len(loaded["cells"])
    links = [link for text in cells("markdown") for link in re.findall(r"\]\((\w+\.md)\)", text)]
    assert len(links) >= 5 and all((TOUR.parent / link).is_file() for link in links)
    assert "not a medical device" in cells("markdown")[0]


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("nbclient", "nbformat", "ipykernel")),
    reason="no nbclient and ipykernel here: pip install -r requirements-dev.txt",
)
@pytest.mark.slow
def test_it_runs_from_folder_to_map(tmp_path: Path, monkeypatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(TOUR, as_version=4)
    began = time.monotonic()
    client = NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(TOUR.parent)}})
    client.execute()
    assert time.monotonic() - began < SECONDS
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.data for output in outputs if output.output_type == "execute_result"]
    assert sum("image/png" in data for data in shown) == 2
    (table,) = (data["text/markdown"] for data in shown if "text/markdown" in data)
    assert "CoOp" in table and "ZeroshotCLIP" in table
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert "temperature" in printed and "balanced accuracy" in printed and "here, sets of 90 % hold" in printed
    assert list(tmp_path.glob("tour-*")) == []  # it cleans up behind itself
