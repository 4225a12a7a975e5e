"""Two runs side by side: what differs, by hand, the page in a browser, and mistakes in one line."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest
from PIL import Image

from analysis import compare_runs
from analysis.two_runs import BOTH, LEFT, NEITHER, RIGHT, compared
from tests.chromium import Chromium, executable
from tests.report_runs import EVIL, Reader, rewrite
from tests.synthetic_runs import write_run


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """A is right on images 0 to 5, B on 4 to 7, of 10; images of A's config are there, but for one."""
    a = write_run(tmp_path / "a", "CoOp", correct=[1] * 6 + [0] * 4)
    b = write_run(tmp_path / "b", "BiomedDPT", seed=2, correct=[0] * 4 + [1] * 4 + [0] * 2)
    for folder, rate in ((a, 0.002), (b, 0.02)):
        config = f"DATASET:\n  NAME: BTMRI\n  ROOT: {tmp_path / 'data'}\nOPTIM:\n  LR: {rate}\nSAME: 1\nOUTPUT_DIR: {folder}\n"
        (folder / "config.yaml").write_text(config)
        rewrite(folder, files={}, classnames=[EVIL, "normal"])
    for number in range(9):
        path = tmp_path / "data" / "BTMRI" / "BTMRI" / f"class_{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (30, 20), 20 * number).save(path)
    return a, b


def test_by_hand(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(*two)
    assert found.counts == {BOTH: 2, LEFT: 4, RIGHT: 2, NEITHER: 2}
    assert found.difference is not None and found.difference.value == pytest.approx(20)
    assert [case.path for case in found.cases] == [
        f"class_{n % 2}/{n}.png" for n in (0, 2, 4, 6, 1, 3, 5, 7) if n not in (4, 5)
    ]
    first = found.cases[0]
    assert (first.truth, first.first, first.second, first.right) == (EVIL, (EVIL, 0.8, 0.8), ("normal", 0.2, 0.8), LEFT)
    assert ("OPTIM.LR", "0.002", "0.02") in found.settings and ("method", "CoOp", "BiomedDPT") in found.settings
    assert {key for key, _, _ in found.settings} == {"method", "seed", "OPTIM.LR"}
    assert compare_runs.main([str(two[0]), str(two[1])]) == 0
    out = capsys.readouterr().out
    assert "Of 10 images both get 2 right, only A 4, only B 2, neither 2; accuracy A − B +20.00 [" in out
    assert re.search(r"^accuracy +60.00 +40.00 +\+20.00$", out, re.MULTILINE) and "CoOp on BTMRI, all classes, 16 shots" in out
    assert compare_runs.main([str(two[0]), str(two[0])]) == 0
    assert (
        "Set otherwise: nothing" in (same := capsys.readouterr().out) and "p = 1 " in same and "otherwise\n\nimage" not in same
    )


def test_the_page(two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "two.html"
    for wanted, there in (("0", 0), ("4", 4), ("50", 6)):
        assert compare_runs.main([str(two[0]), str(two[1]), "-o", str(page), "--thumbnails", wanted]) == 0
        text = page.read_text()
        assert text.count("data:image/jpeg;base64,") == there
    assert "two.html: 6 images, 6 thumbnails" in capsys.readouterr().out
    assert EVIL not in text and not Reader(text).handlers and not re.search(r'(?:src|href)="(?!data:|#)', text)
    plain = unescape(re.sub(r"<[^>]*>", "|", text))
    assert EVIL in plain and "|OPTIM.LR|" in plain and "accuracy A − B +20.00" in plain
    (tmp_path / "data" / "BTMRI").rename(tmp_path / "data" / "elsewhere")
    assert compare_runs.main([str(two[0]), str(two[1]), "-o", str(page), "--thumbnails", "50"]) == 0
    assert "6 of 6 images not found: name their folder with --images" in capsys.readouterr().out
    folder = str(tmp_path / "data" / "elsewhere" / "BTMRI")
    assert compare_runs.main([str(two[0]), str(two[1]), "-o", str(page), "--thumbnails", "50", "--images", folder]) == 0
    assert "6 thumbnails" in capsys.readouterr().out


def test_in_a_browser(two: tuple[Path, Path], tmp_path: Path) -> None:
    if executable() is None:
        pytest.skip("no Chromium or Chrome here: apt-get install chromium")
    page = tmp_path / "two.html"
    assert compare_runs.main([str(two[0]), str(two[1]), "-o", str(page), "--thumbnails", "50"]) == 0
    (tmp_path / "profile").mkdir()
    count = "document.getElementById('count').textContent"
    with Chromium(tmp_path / "profile", timeout=120) as browser:
        for width in (390, 1400):
            browser.look(width, 800)
            browser.open(page)
            assert browser.run("document.documentElement.scrollWidth <= innerWidth")
            assert browser.run(count) == "6 of 6 images"
        browser.run("(e => { e.value = 'only B'; e.dispatchEvent(new Event('change')) })(document.getElementById('right'))")
        assert browser.run(count) == "2 of 6 images"
        browser.run("(e => { e.value = 'class_1'; e.dispatchEvent(new Event('input')) })(document.getElementById('search'))")
        assert browser.run(count) == "1 of 6 images"
        assert browser.errors == []


def test_other_images_and_other_classes_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write_run(tmp_path / "a", correct=[1] * 10), write_run(tmp_path / "b", correct=[1] * 4)
    assert compared(a, b).told == "4 images with the same class are in both tests, of 10 of A and 4 of B"
    c = write_run(tmp_path / "c", correct=[1] * 10)
    record = json.loads((c / "results.json").read_text())
    (c / "results.json").write_text(json.dumps(record | {"classnames": ["x", "y"]}))
    assert compare_runs.main([str(a), str(c)]) == 0
    out = capsys.readouterr().out
    assert "Image by image they cannot be compared: 0 images" in out and "the two chose among other classes" in out


def test_mistakes_are_a_line_and_leave_nothing(two: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    page = tmp_path / "two.html"
    assert compare_runs.main([str(two[0]), str(tmp_path / "nowhere"), "-o", str(page)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'nowhere'}: no results.json\n"
    (two[1] / "config.yaml").write_text("[")
    assert compare_runs.main([str(two[0]), str(two[1]), "-o", str(page)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {two[1]}: config.yaml or results.json: ")
    rewrite(two[1], classnames=[1, 2])
    assert compare_runs.main([str(two[0]), str(two[1]), "-o", str(page)]) == 2
    assert "lacks or garbles classnames" in capsys.readouterr().err
    for words, said in ((["--thumbnails", "-1"], "must be 0 or more"), (["--thumbnails", "3"], "name it with -o")):
        with pytest.raises(SystemExit) as ended:
            compare_runs.main([str(two[0]), str(two[0]), *words])
        assert ended.value.code == 2 and said in capsys.readouterr().err
    assert not page.exists()
