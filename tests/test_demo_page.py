"""The demo in headless Chromium: an image is dropped; answer, set and map are there; nothing leaves the machine."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import predict
from tests.chromium import Chromium, executable
from tests.conftest import BTMRI_CLASSES, REPO, write_dataset
from tests.helpers import quick
from tests.image_files import write_dicom
from tests.test_predict import keep

if importlib.util.find_spec("gradio") is None:
    pytest.skip("no Gradio here: pip install gradio", allow_module_level=True)


@pytest.fixture(scope="module")
def run(tiny_biomedclip, btmri_root, tmp_path_factory) -> Path:
    """A calibrated run of BiomedDPT."""
    trainer = quick("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path_factory.mktemp("was"))
    folder = keep(trainer, tmp_path_factory.mktemp("made") / "run")
    labelled = write_dataset(tmp_path_factory.mktemp("labelled"), "BTMRI", BTMRI_CLASSES, per_class=10)
    assert predict.main([str(folder), "--calibrate", str(labelled / "BTMRI" / "BTMRI")]) == 0
    return folder


@pytest.fixture(scope="module")
def address(run, tmp_path_factory) -> Iterator[str]:
    """Where the demo of the run answers."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    scratch = tmp_path_factory.mktemp("scratch")
    env = os.environ | {"HF_HUB_OFFLINE": "1", "TMPDIR": str(scratch)}
    program = subprocess.Popen(
        [sys.executable, "-m", "demo", str(run), "--port", str(port)], cwd=REPO, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        line = program.stdout.readline()
        assert f"http://127.0.0.1:{port}" in line, line + program.stderr.read()
        assert [path.name for path in scratch.iterdir() if path.name.startswith("biomed-dpt-demo-")]
        yield f"http://127.0.0.1:{port}"
    finally:
        program.send_signal(signal.SIGINT)
        assert program.wait(timeout=60) == 0
    assert not [path for path in scratch.iterdir() if path.name.startswith("biomed-dpt-demo-")]  # what was uploaded has gone


@pytest.fixture(scope="module")
def browser(address, tmp_path_factory) -> Iterator[Chromium]:
    if executable() is None:
        pytest.skip("no Chromium or Chrome here: apt-get install chromium")
    with Chromium(tmp_path_factory.mktemp("profile"), timeout=120) as chromium:
        chromium.call("DOM.enable")
        yield chromium


def until(browser: Chromium, condition: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not browser.run(condition):
        assert time.monotonic() < end, f"never so: {condition}\n{text(browser, 'body')[:2000]}\n{browser.errors}"
        time.sleep(0.1)


def text(browser: Chromium, selector: str) -> str:
    return browser.run(f"(e => e ? e.innerText : '')(document.querySelector({json.dumps(selector)}))")


def visit(browser: Chromium, address: str) -> None:
    browser.call("Page.navigate", url=address)
    until(browser, "!!document.querySelector('#bd-file input[type=file]')")


def drop(browser: Chromium, path: Path) -> None:
    """Choose a file as a reader would."""
    answer = browser.call("Runtime.evaluate", expression="document.querySelector('#bd-file input[type=file]')")
    browser.call("DOM.setFileInputFiles", files=[str(path)], objectId=answer["result"]["objectId"])


ANSWERED = "document.querySelectorAll('#bd-bars .value').length == 4"


def test_an_image_is_dropped_and_answered(
    browser: Chromium, address: str, run: Path, btmri_root: Path, tmp_path, capsys
) -> None:
    visit(browser, address)
    assert "Research use only: not a medical device" in text(browser, ".bd-caveat")
    path = btmri_root / "BTMRI" / "BTMRI" / "normal_brain" / "011.png"
    drop(browser, path)
    until(browser, ANSWERED)
    capsys.readouterr()
    assert predict.main([str(run), str(path), "--calibrated", "--format", "json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["images"]
    names = browser.run("[...document.querySelectorAll('#bd-bars .name')].map(e => e.textContent)")
    values = browser.run("[...document.querySelectorAll('#bd-bars .value')].map(e => e.textContent)")
    assert names == list(told["probabilities"])
    assert values == [f"{100 * p:.1f} %" for p in told["probabilities"].values()]
    assert "Probabilities, calibrated" in text(browser, "#bd-bars") and "temperature" in text(browser, "#bd-bars")
    chips = "[...document.querySelectorAll('#bd-set .bd-chip')].map(e => e.textContent)"
    assert browser.run(chips) == told["prediction_set"]
    # the map lies over the image, and the slider sets its opacity
    sizes = browser.run("Promise.all([...document.querySelectorAll('.bd-map img')].map(i => i.decode().then("
                        "() => [i.naturalWidth, Math.round(i.getBoundingClientRect().left)])))")  # fmt: skip
    assert [size for size, _ in sizes] == [160, 160] and sizes[0][1] == sizes[1][1]
    opacity = "getComputedStyle(document.querySelector('.bd-map .over')).opacity"
    assert browser.run(opacity) == "0.55"
    browser.run("(e => { e.value = 0.2; e.dispatchEvent(new Event('input', {bubbles: true})); })"
                "(document.querySelector('#bd-opacity input[type=range]'))")  # fmt: skip
    until(browser, f"{opacity} == '0.2'")
    assert text(browser, "#bd-sentences").count("cosine") == 5 and "trained with them" in text(browser, "#bd-sentences")
    assert browser.run("document.querySelectorAll('#bd-images figure').length") == 6
    # a coverage for which the images are too few is refused in words
    browser.run("document.querySelectorAll('#bd-coverage input')[3].click()")
    until(browser, "document.querySelectorAll('#bd-set .bd-wrong').length == 1")
    assert "need 99" in text(browser, "#bd-set") and browser.run(chips) == []
    browser.run("document.querySelectorAll('#bd-coverage input')[1].click()")
    until(browser, f"{chips}.length > 0")
    assert browser.run(chips) == told["prediction_set"]


def test_a_dicom_file_and_a_file_that_is_no_image(browser: Chromium, address: str, tmp_path: Path) -> None:
    visit(browser, address)
    drop(browser, write_dicom(tmp_path / "scan.dcm", np.arange(64 * 64).reshape(64, 64) % 1000))
    until(browser, ANSWERED)
    assert "DICOM" in text(browser, "#bd-looked")
    visit(browser, address)
    (tmp_path / "notes.png").write_text("no image")
    drop(browser, tmp_path / "notes.png")
    until(browser, "document.querySelectorAll('#bd-bars .bd-wrong').length == 1")
    said = text(browser, "#bd-bars")
    assert "notes.png" in said and str(tmp_path) not in said and "/biomed-dpt-demo-" not in said


def test_a_sample_is_chosen(browser: Chromium, address: str) -> None:
    visit(browser, address)
    until(browser, "document.querySelectorAll('#bd-samples button img').length == 8")
    browser.run("document.querySelectorAll('#bd-samples button img')[1].closest('button').click()")
    until(browser, ANSWERED)
    assert f"labelled {BTMRI_CLASSES[1]}" in text(browser, "#bd-bars")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1400])
def test_phone_and_dark_mode(browser: Chromium, address: str, btmri_root: Path, width: int, dark: bool) -> None:
    browser.look(width, 900, dark)
    visit(browser, address)
    drop(browser, btmri_root / "BTMRI" / "BTMRI" / "glioma_tumor" / "010.png")
    until(browser, ANSWERED)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    colours = browser.run("(s => [getComputedStyle(document.body).backgroundColor, s.color])"
                          "(getComputedStyle(document.querySelector('#bd-bars .name')))")  # fmt: skip
    paper, ink = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
    assert (paper < ink) == dark and abs(paper - ink) > 300


def test_nothing_leaves_the_machine_and_the_page_has_no_faults(browser: Chromium, address: str) -> None:
    """Of all that the tests above made the page do."""
    assert len(browser.requests) > 20
    assert [url for url in browser.requests if not url.startswith((address, "data:", "about:", "blob:"))] == []
    assert browser.errors == []
