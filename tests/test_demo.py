"""What the demo says of an image, without a browser: answers, sets, sentences, neighbours, HTML; what its command refuses."""

from __future__ import annotations

import html as stdlib_html
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dassl.utils import UnreadableImage, UserError
from datasets.prompts import load_prompts
from demo import html, page, references
from demo.__main__ import main, require_free
from demo.reader import Reader
from demo.references import Near, References, Sample
from runs.inference import image_batches, load_run, probabilities
from runs.labelled import fitted
from tests import tiny_backbones
from tests.conftest import BTMRI_CLASSES, REPO, write_dataset
from tests.helpers import quick
from tests.image_files import write_dicom
from tests.test_predict import keep

pytestmark = pytest.mark.usefixtures("log_off_stdout")
EVIL = "<b>x</b>\"'&"


@pytest.fixture(scope="module")
def run(tiny_biomedclip, btmri_root, tmp_path_factory) -> Path:
    trainer = quick("BiomedDPT", tiny_biomedclip, btmri_root, tmp_path_factory.mktemp("was"))
    return keep(trainer, tmp_path_factory.mktemp("made") / "run")


@pytest.fixture(scope="module")
def trainer(run):
    return load_run(run)


@pytest.fixture(scope="module")
def kept(trainer, tmp_path_factory):
    root = write_dataset(tmp_path_factory.mktemp("labelled"), "BTMRI", BTMRI_CLASSES, per_class=10)
    return fitted(trainer, root / "BTMRI" / "BTMRI")[0]


@pytest.fixture(scope="module")
def reader(trainer, kept) -> Reader:
    data = references.data_of(trainer, "")
    return Reader(trainer, kept, references.sentences(trainer), references.training_images(trainer, data))


def test_an_answer_is_the_run_s_own(reader, trainer, btmri_root) -> None:
    path = btmri_root / "BTMRI" / "BTMRI" / "normal_brain" / "003.png"
    found = reader.read(path)
    ((_, images, _),) = image_batches(trainer, [path], 1)
    raw = probabilities(trainer, images)[0]
    assert found.raw == raw.tolist() and found.name == "003.png" and "PNG" in found.kind
    assert found.picture.size == (160, 160) and found.picture.mode == "RGB"
    assert found.overlay.size == (160, 160) and found.overlay.mode == "RGBA"
    assert BTMRI_CLASSES[int(raw.argmax())] in found.map_note
    alpha = np.asarray(found.overlay)[..., 3]
    assert alpha.min() >= 25 and alpha.max() > 250
    calm = reader.kept.calibration.probabilities([found.raw])[0]
    assert reader.probabilities(found.raw) == sorted(zip(BTMRI_CLASSES, calm.tolist(), strict=True), key=lambda pair: -pair[1])
    assert Reader(trainer, None, References(), References()).probabilities(found.raw)[0][1] == max(found.raw)


def test_a_dicom_is_read_and_no_image_is_refused(reader, tmp_path) -> None:
    path = write_dicom(tmp_path / "scan", np.arange(64 * 64).reshape(64, 64) % 1000)
    found = reader.read(path)
    assert "DICOM" in found.kind and len(found.raw) == 4
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UnreadableImage):
        reader.read(tmp_path / "text.png")


def test_nearest_sentences_and_images_by_loops(reader, trainer, btmri_root) -> None:
    path = btmri_root / "BTMRI" / "BTMRI" / "glioma_tumor" / "010.png"
    found = reader.read(path)
    ((_, images, _),) = image_batches(trainer, [path], 1)
    feature = trainer.image_features(images)[0]
    texts = load_prompts("btmri", BTMRI_CLASSES, trainer.own.N_PROMPTS).texts
    every = []
    for name in BTMRI_CLASSES:
        rows = torch.nn.functional.normalize(trainer.backbone.encode_text(texts[name]), dim=-1)
        every += [(float(row @ feature), text, name) for row, text in zip(rows, texts[name], strict=True)]
    best = sorted(every, reverse=True)[:20]
    assert [one.similarity for one in found.sentences] == pytest.approx([value for value, _, _ in best[:5]], abs=1e-4)
    assert all(one.item in texts[one.classname] for one in found.sentences)
    assert sum(count for _, count in found.counted) == 20
    assert "trained with them" in reader.sentences.note
    # two shots of each class; an image is nearest to itself
    assert len(reader.images.items) == 8 and reader.images.note == "8 training images."
    own = reader.images.items[5]
    nearest = reader.read(own).images
    assert nearest[0].item == own and nearest[0].similarity == pytest.approx(1, abs=1e-5) and len(nearest) == 6
    assert nearest[0].classname == own.parent.name.replace("_", " ")


def test_what_is_not_at_hand_says_why(trainer, tiny_biomedclip, btmri_root, tmp_path) -> None:
    gone = references.data_of(trainer, str(tmp_path))
    assert "no BTMRI images in" in gone
    assert references.training_images(trainer, gone).note.startswith("The training images are not at hand: no BTMRI")
    assert references.samples(gone, BTMRI_CLASSES) == []
    other = quick("CoOp", tiny_biomedclip, btmri_root, tmp_path / "was")
    found = references.sentences(load_run(keep(other, tmp_path / "run")))
    assert found.items and "never read them" in found.note
    foreign = load_run(tmp_path / "run", classnames=["one thing", "another"])
    assert references.sentences(foreign).note.startswith("No sentences: ")
    assert References().nearest(torch.ones(3), 5) == []


def test_samples_are_test_images_of_every_class(trainer) -> None:
    data = references.data_of(trainer, "")
    found = references.samples(data, BTMRI_CLASSES)
    assert [sample.classname for sample in found] == [*BTMRI_CLASSES, *BTMRI_CLASSES]
    tested = {item.impath: item.classname for item in data.test}
    assert all(tested[str(sample.path)] == sample.classname for sample in found)
    assert len(references.samples(data, BTMRI_CLASSES, most=3)) == 3


def test_sets_and_refusals(reader, trainer) -> None:
    raw = [0.4, 0.3, 0.2, 0.1]
    chosen, note = reader.prediction_set(raw, 0.9)
    inside = reader.kept.calibration.sets([raw], 0.9)[0]
    assert (
        set(chosen) == {name for name, yes in zip(BTMRI_CLASSES, inside, strict=True) if yes} and chosen[0] == BTMRI_CLASSES[0]
    )
    assert "90 %" in note
    chosen, note = reader.prediction_set(raw, 0.99)
    assert chosen == () and "20 calibration images allow sets of up to 95 %" in note and "need 99" in note
    bare = Reader(trainer, None, References(), References())
    assert bare.prediction_set(raw, 0.9)[0] == () and "--calibrate" in bare.prediction_set(raw, 0.9)[1]
    assert bare.calibration_note().startswith("Not calibrated") and "40 images" in reader.calibration_note()


def test_a_tower_without_patches_has_no_map(btmri_root, tmp_path) -> None:
    folder = tiny_backbones.WRITERS["PMCCLIP"](tmp_path / "pmc")
    trainer = quick("CoOp", folder, btmri_root, tmp_path / "was", backbone="PMCCLIP")
    found = Reader(load_run(keep(trainer, tmp_path / "run")), None, References(), References())
    reading = found.read(btmri_root / "BTMRI" / "BTMRI" / "normal_brain" / "000.png")
    assert reading.overlay is None and "vision transformer" in reading.map_note
    assert 'class="over"' not in html.map_over(reading.picture, None, "x", reading.map_note)


def test_nothing_is_taken_for_markup(tmp_path) -> None:
    picture = Image.new("RGB", (8, 8))
    near = [Near(EVIL, EVIL, 0.5)]
    parts = [
        html.bars([(EVIL, 0.7), ("b", 0.3)], True, EVIL, EVIL),
        html.prediction_set([EVIL], "90 %", EVIL),
        html.prediction_set([], "90 %", EVIL),
        html.map_over(picture, picture, EVIL, EVIL),
        html.sentences(near, [(EVIL, 1)], EVIL),
        html.images([Near(tmp_path / "gone.png", EVIL, 0.1)], EVIL, None),
        html.refused(EVIL),
        html.head(EVIL, [EVIL], [Sample(tmp_path, EVIL)]),
        html.waiting(EVIL),
    ]
    for part in parts:
        assert "<b>x" not in part and stdlib_html.escape(EVIL) in part
        assert "http" not in part and "url(" not in part
    assert "70.0 %" in parts[0] and "not calibrated" not in parts[0]
    assert "not calibrated" in html.bars([("a", 1.0)], False, "")
    assert "opacity:0.3" in html.map_over(picture, picture, "x", "", 0.3)


def test_a_thumbnail_of_a_file_that_has_gone_is_grey(tmp_path) -> None:
    assert html.thumbnail(tmp_path / "gone.png", None).getpixel((0, 0)) == (128, 128, 128)
    Image.new("RGB", (300, 200), "red").save(tmp_path / "red.png")
    assert html.thumbnail(tmp_path / "red.png", None).size == (112, 75)


# -- the command ------------------------------------------------------------------------------------------


def test_a_taken_port_and_a_foreign_host_are_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match=f"127.0.0.1:{taken.getsockname()[1]} cannot be answered on .*another --port"):
            require_free("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(UserError, match="cannot be answered on"):
        require_free("203.0.113.7", 7860)  # of no machine: RFC 5737
    with pytest.raises(UserError, match="between 1 and 65535"):
        require_free("127.0.0.1", 70000)


def test_without_gradio_its_name_is_told(run, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main([str(run)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the page needs Gradio, which is optional: pip install gradio") and said.count("\n") == 1


MISTAKES = [
    (["/nowhere"], "not the folder of a run"),
    (["{run}", "--coverage", "2"], "--coverage is 2"),
    (["{run}", "--samples", "/nowhere"], "no such file or folder"),
]


@pytest.mark.parametrize("words, what", MISTAKES)
def test_a_mistake_is_one_line(words, what, run, capsys, monkeypatch) -> None:
    monkeypatch.setattr(page, "gradio", lambda: None)
    assert main([word.format(run=run) for word in words]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ") and what in said and "\n" not in said


def test_help_needs_neither_model_nor_gradio(tmp_path) -> None:
    shutil.rmtree(tmp_path)
    code = "import sys; sys.modules['torch'] = sys.modules['gradio'] = None; import runpy; sys.argv = ['demo', '--help']; "
    done = subprocess.run([sys.executable, "-c", code + "runpy.run_module('demo', run_name='__main__')"], cwd=REPO,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0 and "not a medical device" in done.stdout, done.stderr
