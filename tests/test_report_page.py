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


COLUMN = (
    "[...document.querySelectorAll('#runs-table tbody tr')].map(r => r.cells[{}])"
    ".map(c => (c.querySelector('a') || c).textContent)"
)


def load(browser: Chromium, page: Path, anchor: str = "") -> None:
    """Open it and wait until the list of runs is unpacked."""
    browser.open(page, anchor)
    browser.run("ready.then(() => 1)")


def choose(browser: Chromium, selector: str, value: str, event: str = "change") -> None:
    browser.run(f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent(new Event('{event}')) }})"
                f"(document.querySelector({json.dumps(selector)}))")  # fmt: skip


def test_sorting(browser: Chromium, page: Path) -> None:
    load(browser, page)
    press = "document.querySelectorAll('#runs-table thead button')[{}].click()"
    browser.run(press.format(5))
    values = [float(v) for v in browser.run(COLUMN.format(5))]
    assert len(values) == 13 and values == sorted(values, reverse=True)
    assert browser.run("document.querySelectorAll('#runs-table th')[5].getAttribute('aria-sort')") == "descending"
    browser.run(press.format(5))
    assert [float(v) for v in browser.run(COLUMN.format(5))] == sorted(values)
    browser.run(press.format(3))
    assert browser.run("document.querySelectorAll('#runs-table th')[5].getAttribute('aria-sort')") == "none"
    shots = [int(v) for v in browser.run(COLUMN.format(3))]
    assert shots == sorted(shots, reverse=True) and set(shots) == {1, 16}  # as numbers, not as words


def test_a_cell_without_a_number_is_sorted_last(browser: Chromium, tmp_path: Path) -> None:
    for method, accuracy in (("A", 50), ("B", 60), ("C", 70)):
        for shots in (1, 16) if method != "B" else (1,):
            write_run(tmp_path / "runs", method, accuracy=accuracy, shots=shots)
    assert report.main([str(tmp_path / "runs"), "-o", str(tmp_path / "r.html"), "--metrics", "accuracy"]) == 0
    load(browser, tmp_path / "r.html")
    table = "document.querySelector('figure.table')"
    for expected in ("CAB", "ACB"):
        browser.run(f"{table}.querySelectorAll('thead button')[2].click()")
        names = browser.run(f"[...{table}.querySelectorAll('tbody tr')].map(r => r.cells[0].textContent)")
        assert "".join(names) == expected
    assert browser.run(f"{table}.querySelectorAll('tbody tr')[2].cells[2].textContent") == "missing"


def test_filters(browser: Chromium, page: Path) -> None:
    load(browser, page)
    choose(browser, "#run-filter", "biomeddpt btmri", "input")
    assert browser.run(COLUMN.format(0)) == ["BiomedDPT"] * 4
    assert browser.run("document.getElementById('run-count').textContent") == "4 of 13 runs"
    choose(browser, '#run-filters select[data-column="3"]', "16")
    assert browser.run(COLUMN.format(3)) == ["16", "16"]
    choose(browser, "#run-filter", "nothing like it", "input")
    assert browser.run(COLUMN.format(0)) == []
    tables = "[...document.querySelectorAll('figure.table[data-metric]:not([hidden])')].map(f => f.dataset.metric)"
    assert set(browser.run(tables)) == {"accuracy"}
    choose(browser, "#metric", "ece")
    assert set(browser.run(tables)) == {"ece"}
    choose(browser, "#table-filter", "coop", "input")
    rows = (
        "[...document.querySelectorAll('figure.table[data-metric]:not([hidden]) tbody tr:not([hidden])')]"
        ".map(r => r.cells[0].textContent)"
    )
    assert set(browser.run(rows)) == {"CoOp"}


def test_a_cell_of_the_coverage_lists_its_runs(browser: Chromium, page: Path) -> None:
    load(browser, page)
    cells = "[...document.querySelectorAll('.coverage tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    assert browser.run(cells) == [["BiomedDPT", "✓", "3/4✗1"], ["CoOp", "3/4✗1", "3/4"]]
    browser.run("document.querySelectorAll('.coverage button')[1].click()")
    assert browser.run(COLUMN.format(0)) == ["BiomedDPT"] * 3 and browser.run(COLUMN.format(1)) == ["BUSI"] * 3


def test_a_folded_figure_is_unpacked_when_it_is_opened(browser: Chromium, page: Path) -> None:
    load(browser, page)
    assert browser.run("document.querySelectorAll('details.figure img').length") == 0
    browser.run("document.querySelectorAll('details.figure').forEach(d => { for (let e = d; e; e = e.parentElement) "
                "if (e.tagName === 'DETAILS') e.open = true })")  # fmt: skip
    browser.run("new Promise(done => setTimeout(done, 500))")
    wanted = browser.run("document.querySelectorAll('details.figure').length")
    drawn = browser.run("Promise.all([...document.querySelectorAll('details.figure img')].map(i => i.decode().then(() => 1)))")
    assert wanted > 4 and len(drawn) == wanted and browser.errors == []


def test_two_runs_side_by_side(browser: Chromium, page: Path) -> None:
    load(browser, page)
    boxes = "document.querySelectorAll('#runs-table tbody input')"
    browser.run(f"[{boxes}[0], {boxes}[12]].forEach(b => b.click())")
    assert browser.run("document.getElementById('chosen-text').textContent").count("against") == 1
    browser.run("document.getElementById('compare').click()")
    browser.run("new Promise(done => setTimeout(done, 200))")
    text = browser.run("document.getElementById('run-body').textContent")
    assert "method" in text and "BiomedDPT" in text and "CoOp" in text and "python -m analysis.compare_runs" in text
    rows = browser.run("[...document.querySelectorAll('.settings tbody tr')].map(r => [...r.cells].map(c => c.textContent))")
    assert ["method", "BiomedDPT", "CoOp"] in rows and ["DATASET.NAME", "BTMRI", "BUSI"] in rows
    metric = browser.run("[...document.querySelectorAll('#run-body table')[0].rows[1].cells].map(c => c.textContent)")
    assert metric[0].startswith("accuracy") and float(metric[3]) == pytest.approx(float(metric[1]) - float(metric[2]))
    browser.run("document.getElementById('run-close').click()")
    browser.run("new Promise(done => setTimeout(done, 100))")
    assert browser.run("location.hash") == "" and browser.errors == []


def test_drill_down_shows_markup_as_text(browser: Chromium, page: Path) -> None:
    load(browser, page)
    browser.run("document.querySelector('#runs-table tbody a').click()")
    browser.run("new Promise(done => setTimeout(done, 200))")
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
    load(browser, page, f"#run-{number}")
    assert browser.run("document.querySelector('#run-body .banner').textContent") == "unfinished: no results.json"
    assert UNFINISHED in browser.run("document.getElementById('run-body').textContent")
    load(browser, page, "#run-999")
    assert not browser.run("document.getElementById('run').open")


def contrast(one: str, other: str) -> float:
    """Of two CSS colours, as WCAG defines it: 4.5 or more for text."""

    def luminance(color: str) -> float:
        parts = [int(n) / 255 for n in re.findall(r"\d+", color)[:3]]
        red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 390, 1400])
def test_phone_and_dark_mode(browser: Chromium, page: Path, width: int, dark: bool) -> None:
    browser.look(width, 800, dark)
    for anchor in ("", "#run-0", "#compare-0-9"):
        load(browser, page, anchor)
        browser.run("document.querySelectorAll('details').forEach(d => { d.open = true })")
        browser.run("new Promise(done => setTimeout(done, 300))")
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        assert browser.run("document.getElementById('run').scrollWidth <= document.getElementById('run').clientWidth + 1")
    paper, ink, soft = browser.run(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
        " getComputedStyle(document.querySelector('.note')).color]"
    )
    light = [sum(map(int, re.findall(r"\d+", color)[:3])) for color in (paper, ink)]
    assert (light[0] < light[1]) == dark and contrast(paper, ink) > 7 and contrast(paper, soft) > 4.5
    assert browser.errors == [] and all(url.startswith(("file:", "data:", "about:", "blob:")) for url in browser.requests)


VISIBLE = """[...document.querySelectorAll('.card .big b, td.n')].filter(e => {
  const r = e.getBoundingClientRect();
  return r.width && r.top >= 0 && r.bottom <= innerHeight && r.left >= 0 && r.right <= innerWidth && /\\d/.test(e.textContent)
}).map(e => e.textContent)"""


def test_the_phones_first_screen_holds_numbers(browser: Chromium, page: Path) -> None:
    browser.look(390, 844)
    load(browser, page)
    assert browser.run(VISIBLE)[0] == "62.50"  # the best few-shot average over both datasets, with all its runs: BiomedDPT's
    browser.run("document.querySelector('#tables table').scrollIntoView()")
    numbers = browser.run(VISIBLE)
    assert len(numbers) >= 4, "number columns stand beside the method without scrolling sideways"
    browser.run("document.querySelector('#tables .wide').scrollLeft = 999")
    left = browser.run("document.querySelector('#tables tbody th').getBoundingClientRect().left")
    assert 0 <= left < 20, "the method stays in sight"


def test_nothing_lies_below_the_button_that_closes_a_run(browser: Chromium, page: Path) -> None:
    browser.look(390, 844)
    load(browser, page, "#run-0")
    browser.run("document.getElementById('run').scrollTop = 400")
    bar, paper = browser.run(
        "(() => { const f = document.querySelector('#run form'), b = f.getBoundingClientRect(), d = f.parentElement;"
        " return [b.width >= d.clientWidth - 40, getComputedStyle(f).backgroundColor] })()"
    )
    assert bar and paper not in ("rgba(0, 0, 0, 0)", "transparent"), "numbers would show through beside the button"
