"""LICENSE and CITATION.cff: what a reader and a reference manager look for in them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.conftest import REPO

CITATION: dict[str, Any] = yaml.safe_load((REPO / "CITATION.cff").read_text())
# of those that version 1.2.0 of the format knows
WORKS = {"article", "book", "conference-paper", "generic", "report", "software", "thesis", "unpublished"}


def is_author(one: dict[str, str]) -> bool:
    return set(one) in ({"name"}, {"family-names", "given-names"}) and all(isinstance(v, str) and v for v in one.values())


def test_the_licence_is_mit_and_everywhere_the_same() -> None:
    title, _, notice, *_ = (REPO / "LICENSE").read_text().splitlines()
    assert (title, notice) == ("MIT License", "Copyright (c) 2026 The Biomed-DPT contributors")
    assert CITATION["license"] == "MIT"
    assert 'license = { text = "MIT" }' in (REPO / "engine" / "pyproject.toml").read_text()


def test_the_software_can_be_cited() -> None:
    assert CITATION["cff-version"] == "1.2.0" and CITATION["type"] == "software"
    assert CITATION["message"] and CITATION["title"].startswith("Biomed-DPT")
    assert CITATION["authors"] == [{"name": "The Biomed-DPT contributors"}]


@pytest.mark.parametrize("work", [CITATION["preferred-citation"], *CITATION["references"]], ids=lambda work: str(work["year"]))
def test_the_paper_can_be_cited(work: dict[str, Any]) -> None:
    assert work["type"] in WORKS and isinstance(work["year"], int) and work["journal"]
    assert work["title"] == "Biomed-DPT: Dual Modality Prompt Tuning for Biomedical Vision-Language Models"
    assert all(map(is_author, work["authors"])) and work["authors"][0]["family-names"] == "Peng"


def test_the_preprint_is_named() -> None:
    identifiers = [one["value"] for work in CITATION["references"] for one in work["identifiers"]]
    assert identifiers == ["arXiv:2505.05189"]
    assert "arXiv 2505.05189" in (REPO / "README.md").read_text()
