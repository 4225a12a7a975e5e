"""``python -m explain``: pictures, words, embeddings and the table of a run; what it refuses; its former place."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from datasets.phantom.__main__ import generate
from explain import command
from explain.page import Entry, write_index
from runs.identity import save_config
from tests.conftest import REPO, SHARED
from tests.helpers import quick

pytestmark = pytest.mark.usefixtures("log_off_stdout")


@pytest.fixture(scope="module")
def run(tiny_biomedclip, btmri_root, tmp_path_factory) -> Path:
    """A run of BiomedDPT, as it was after no training."""
    folder = tmp_path_factory.mktemp("run")
    trainer = quick("BiomedDPT", tiny_biomedclip, btmri_root, folder)
    trainer.save_model(0, str(folder))
    save_config(trainer.cfg, folder)
    return folder


def test_pictures_side_by_side_with_their_numbers(run, btmri_root, tmp_path, capsys) -> None:
    images = btmri_root / "BTMRI" / "BTMRI" / "normal_brain"
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    words = [str(run), str(images / "000.png"), str(bad), str(images / "001.png"), "-o", str(tmp_path / "maps")]
    assert command.main([*words, "--class", "glioma tumor"]) == 3
    said = capsys.readouterr()
    assert "unreadable, skipped" in said.err and f"look at them: {tmp_path / 'maps' / 'index.html'}" in said.out
    assert sorted(p.name for p in (tmp_path / "maps").glob("*.png")) == ["0001_000.png", "0002_001.png"]
    with Image.open(tmp_path / "maps" / "0001_000.png") as picture:
        assert picture.width > 800 and picture.height > 800  # three panels, three maps
    page = (tmp_path / "maps" / "index.html").read_text()
    assert re.findall(r'<img src="([^"]+)"', page) == ["0001_000.png", "0002_001.png"] == re.findall(r'href="([^"]+)"', page)
    assert "http" not in page and page.count("<tr>") == 2 + 6 and page.count("Grad-CAM of glioma tumor") == 2 - said_of(page)
    rows = list(csv.DictReader((tmp_path / "maps" / "shift.csv").open()))
    assert [row["kind"] for row in rows] == ["gradcam", "rollout", "attention"] * 2
    # Grad-CAM on random weights may be all zeros, of which no part has moved
    assert all(0 < float(row["moved"]) < 1 for row in rows if row["moved"] or row["kind"] != "gradcam")
    assert all(row["inside_with"] == "" for row in rows)


def said_of(page: str) -> int:
    """How many images are likeliest of the class that Grad-CAM was asked about: nothing more is said of it then."""
    return len(re.findall(r"<p>glioma tumor \d", page))


def test_the_page_takes_no_name_for_markup_and_links_to_odd_ones(tmp_path) -> None:
    evil, columns = "<b>a</b> \"'&#?%.png", ("map", "moved %")
    Image.new("RGB", (8, 8)).save(tmp_path / "0001_a.png")
    entry = Entry(f"0001_{evil}", Path(evil), "<i>", 0.5, "x", [["gradcam", ""]])
    page = write_index(tmp_path, evil, [evil], columns, [entry]).read_text()
    assert "<b>a" not in page and "<i>" not in page and "<td>–</td>" in page and "50.0 %, not calibrated" in page
    (link,) = re.findall(r'<img src="([^"]+)"', page)
    assert unquote(link) == f"0001_{evil}" and not set(link) & set("<>\"'&#? ")
    assert page.count("not a medical device") == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path) -> None:
    images = [Path("d/bright/0.png"), Path("d/dark/0.png"), Path("d/dark/1.png")]
    entries = [Entry("map.png", image, "bright", 0.5, "bright", []) for image in images]
    page = write_index(tmp_path, "title", [], [], entries).read_text()
    assert re.findall("<h2>(.*?)</h2>", page) == ["bright/0.png", "dark/0.png", "1.png"]


def test_words_and_embedding_from_the_command(run, btmri_root, tmp_path, capsys) -> None:
    assert command.main([str(run), "--interpret", "--words", "2"]) == 0
    said = capsys.readouterr().out
    assert "a MR photo of a" in said and "photo (0.000)" in said
    figure = tmp_path / "figure.png"
    for method in ("pca", "tsne"):
        assert command.main([str(run), str(btmri_root / "BTMRI"), "--embedding", method, "-o", str(figure)]) == 0
        with Image.open(figure) as picture:
            assert picture.width > picture.height > 300
        figure.unlink()


def test_the_table_over_phantoms_with_masks(tmp_path, capsys) -> None:
    generate(tmp_path, "busi", 4, 64, 0)
    words = ["--table", "--backbone", "PhantomCLIP", "--root", str(tmp_path), "--datasets", "busi", "--count", "6"]
    assert command.main(words) == 0
    said = capsys.readouterr().out
    assert "PhantomCLIP" in said and "4 zero vectors in place of patches, deep" in said and "synthetic" in said
    assert command.main([*words, "--zero-vectors", "2", "--placement", "insert", "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [(row["dataset"], row["kind"], row["images"]) for row in rows] == [
        ("busi", "attention", "6"), ("busi", "rollout", "6")
    ]  # fmt: skip
    for row in rows:
        assert 0 < float(row["lesion_area"]) < 50 and 0 < float(row["prompt_share"]) < 100
        assert float(row["difference"]) == pytest.approx(float(row["with_prompt"]) - float(row["without"]), abs=1e-9)
    assert command.main([*words[:-1], "1"]) == 2 and "interval" in capsys.readouterr().err


MISTAKES = [
    (["--interpret"], "name the folder"),
    (["--table"], "--backbone NAME"),
    (["--table", "--datasets", "btmr"], 'Did you mean "btmri"'),
    (["--table", "--interpret"], "exclude each other"),
    (["--table", "--backbone", "PhantomCLIP", "--root", "/nowhere", "--datasets", "busi"], "no folder masks"),
]


@pytest.mark.parametrize("words, what", MISTAKES)
def test_a_mistake_is_one_line(words, what, capsys) -> None:
    assert command.main(words) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ") and "\n" not in said and what in said


@pytest.mark.skipif(not (SHARED / "data" / "BTMRI").is_dir(), reason="no ../shared/data/BTMRI: real images are not here")
def test_real_brain_mri_are_explained(tmp_path) -> None:
    """The weights are PhantomCLIP's: what the maps show means nothing, only that they are made."""
    import train
    from tests.helpers import arguments

    words = arguments("ZeroshotCLIP", "", SHARED / "data", tmp_path, split="all", backbone="PhantomCLIP")
    cfg = train.setup_cfg(train.parse_arguments(words)).clone()
    cfg.defrost()
    cfg.DATASET.RUN_CLASSNAMES = ["glioma tumor", "normal brain"]
    save_config(cfg, tmp_path / "run")
    images = sorted((SHARED / "data" / "BTMRI" / "BTMRI" / "glioma_tumor").iterdir())[:3]
    assert command.main([str(tmp_path / "run"), *map(str, images), "-o", str(tmp_path / "maps")]) == 0
    assert len(list((tmp_path / "maps").glob("*.png"))) == 3


def test_the_command_and_its_former_place() -> None:
    """Both end with the command's own word for a call without a run; the former place says first where it went."""
    said = {}
    for module in ("explain", "analysis.explain"):
        done = subprocess.run([sys.executable, "-m", module, "--interpret"], cwd=REPO, capture_output=True, text=True)
        assert done.returncode == 2
        said[module] = done.stderr.splitlines()
    assert said["explain"] == ["error: name the folder of a trained run (only --table works without one)"]
    assert said["analysis.explain"] == ["python -m analysis.explain is now python -m explain", *said["explain"]]
