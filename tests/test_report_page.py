"""The report page in headless Chromium: sorting, filters, single runs, phone and dark mode."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis import report
from tests.chromium import Chromium, executable
from tests.report_runs import EVIL, UNFINISHED, embedded, write_page, write_runs
from tests.synthetic_runs import write_run


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    write_runs(root, tmp_path_factory.mktemp("data"))
    return write_page(root, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if executable() is None:
        pytest.skip("no Chromium or Chrome here: apt-get install chromium")
    with Chromium(tmp_path_factory.mktemp("profile"), timeout=120) as chromium:
        yield chromium


COLUMN = "[...document.querySelectorAll('#runs-table tbody tr:not([hidden])')].map(r => r.cells[{}].textContent)"


def choose(browser: Chromium, selector: str, value: str, event: str = "change") -> None:
    browser.run(f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent(new Event('{event}')) }})"
                f"(document.querySelector({json.dumps(selector)}))")  # fmt: skip


def test_sorting(browser: Chromium, page: Path) -> None:
    browser.open(page)
    press = "document.querySelectorAll('#runs-table thead button')[{}].click()"
    browser.run(press.format(7))
    values = [float(v) for v in browser.run(COLUMN.format(7))]
    assert len(values) == 13 and values == sorted(values, reverse=True)
    assert browser.run("document.querySelectorAll('#runs-table th')[7].getAttribute('aria-sort')") == "descending"
    browser.run(press.format(7))
    assert [float(v) for v in browser.run(COLUMN.format(7))] == sorted(values)
    browser.run(press.format(5))
    assert browser.run("document.querySelectorAll('#runs-table th')[7].getAttribute('aria-sort')") == "none"
    shots = [int(v) for v in browser.run(COLUMN.format(5))]
    assert shots == sorted(shots, reverse=True) and set(shots) == {1, 16}  # as numbers, not as words


def test_a_cell_without_a_number_is_sorted_last(browser: Chromium, tmp_path: Path) -> None:
    for method, accuracy in (("A", 50), ("B", 60), ("C", 70)):
        for shots in (1, 16) if method != "B" else (1,):
            write_run(tmp_path / "runs", method, accuracy=accuracy, shots=shots)
    assert report.main([str(tmp_path / "runs"), "-o", str(tmp_path / "r.html"), "--metrics", "accuracy"]) == 0
    browser.open(tmp_path / "r.html")
    table = "document.querySelector('figure.table')"
    for expected in ("CAB", "ACB"):
        browser.run(f"{table}.querySelectorAll('thead button')[4].click()")
        names = browser.run(f"[...{table}.querySelectorAll('tbody tr')].map(r => r.cells[0].textContent)")
        assert "".join(names) == expected
    assert browser.run(f"{table}.querySelectorAll('tbody tr')[2].cells[4].textContent") == "missing"


def test_filters(browser: Chromium, page: Path) -> None:
    browser.open(page)
    choose(browser, "#run-filter", "biomeddpt btmri", "input")
    assert browser.run(COLUMN.format(0)) == ["BiomedDPT"] * 4
    assert browser.run("document.getElementById('run-count').textContent") == "4 of 13 runs"
    choose(browser, '#run-filters select[data-column="5"]', "16")
    assert browser.run(COLUMN.format(5)) == ["16", "16"]
    choose(browser, "#run-filter", "nothing like it", "input")
    assert browser.run(COLUMN.format(0)) == []
    tables = "[...document.querySelectorAll('figure.table:not([hidden])')].map(f => f.dataset.metric)"
    assert set(browser.run(tables)) == {"accuracy"}
    choose(browser, "#metric", "ece")
    assert set(browser.run(tables)) == {"ece"}
    choose(browser, "#table-filter", "coop", "input")
    rows = (
        "[...document.querySelectorAll('figure.table:not([hidden]) tbody tr:not([hidden])')].map(r => r.cells[0].textContent)"
    )
    assert set(browser.run(rows)) == {"CoOp"}


def test_drill_down_shows_markup_as_text(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.run("document.querySelector('#runs-table tbody a').click()")
    browser.run("new Promise(done => setTimeout(done, 100))")
    assert browser.run("document.getElementById('run').open")
    text = browser.run("document.getElementById('run-body').textContent")
    assert EVIL in text and "Config" in text and "* accuracy:" in text
    assert browser.run("document.querySelectorAll('#run-body b, #run-body script').length") == 0
    names = browser.run("[...document.querySelectorAll('#run-body .confusion thead th')].map(h => h.textContent)")
    assert names == ["true \\ predicted", EVIL, "normal"]
    loaded = browser.run(
        "Promise.all([...document.querySelectorAll('.hard img')].map(i => (i.loading = 'eager', i.decode())))"
        ".then(() => document.querySelectorAll('.hard img').length)"
    )
    assert loaded == 8
    browser.run("document.getElementById('run-close').click()")
    browser.run("new Promise(done => setTimeout(done, 100))")
    assert not browser.run("document.getElementById('run').open") and browser.run("location.hash") == ""
    assert browser.run("document.title").startswith("Runs in ")
    assert browser.errors == []


def test_a_link_opens_its_run_and_a_broken_run_says_why(browser: Chromium, page: Path) -> None:
    number = next(n for n, run in enumerate(embedded(page)["runs"]) if run["state"].startswith("unfinished"))
    browser.open(page, f"#run-{number}")
    assert browser.run("document.querySelector('#run-body .banner').textContent") == "unfinished: no results.json"
    assert UNFINISHED in browser.run("document.getElementById('run-body').textContent")
    browser.open(page, "#run-999")
    assert not browser.run("document.getElementById('run').open")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1400])
def test_phone_and_dark_mode(browser: Chromium, page: Path, width: int, dark: bool) -> None:
    browser.look(width, 800, dark)
    for anchor in ("", "#run-0"):
        browser.open(page, anchor)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        assert browser.run("document.getElementById('run').scrollWidth <= document.getElementById('run').clientWidth + 1")
    paper, ink = browser.run("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
    light = [sum(map(int, re.findall(r"\d+", color)[:3])) for color in (paper, ink)]
    assert (light[0] < light[1]) == dark
    assert browser.errors == [] and all(url.startswith(("file:", "data:", "about:")) for url in browser.requests)
