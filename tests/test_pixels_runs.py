"""One reader for training, prediction and stored features: its settings reach each of them."""

from __future__ import annotations

import base64
import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import predict
from analysis.report_runs import thumbnail
from dassl.config import get_cfg_default
from dassl.data import DatasetWrapper
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform
from dassl.utils import PixelSettings, UserError
from features import digest
from features.encoder import content, view_key
from runs.identity import identity, save_config
from runs.inference import ImageFiles, find_images, image_batches, load_run, probabilities
from tests.conftest import SHARED, write_dataset
from tests.helpers import quick
from tests.image_files import write_dicom, write_tiff

CASES = SHARED / "cases"
RNG = np.random.default_rng(8)
SMOOTH = np.clip(np.add.outer(np.arange(64) * 2.0, np.arange(64) * 1.7) + RNG.normal(0, 6, (64, 64)), 1, 240).astype(np.uint8)

pytestmark = pytest.mark.usefixtures("log_off_stdout")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """A zero-shot run of the rehearsal world's backbone, as it is left on disk."""
    return kept(tmp_path_factory.mktemp("run"))


def kept(folder: Path, **own: object) -> Path:
    root = write_dataset(folder / "data", "BTMRI", ("glioma tumor", "meningioma tumor", "pituitary tumor", "normal brain"))
    words = tuple(str(word) for pair in own.items() for word in (pair[0].replace("_", "."), pair[1]))
    trainer = quick("ZeroshotCLIP", "", root, folder / "out", backbone="PhantomCLIP", extra=words)
    save_config(trainer.cfg, folder / "run")
    return folder / "run"


def classified(trainer, paths: list[Path]) -> np.ndarray:
    (batch,) = image_batches(trainer, paths, len(paths))
    assert batch[0] == paths and not batch[2]
    return probabilities(trainer, batch[1]).numpy()


def test_the_same_picture_of_any_kind_gets_the_same_probabilities(run_folder: Path, tmp_path: Path) -> None:
    Image.fromarray(SMOOTH).save(tmp_path / "8.png")
    wide = SMOOTH.astype(np.uint16) * 257
    Image.fromarray(wide).save(tmp_path / "16.png")
    paths = [tmp_path / "8.png", tmp_path / "16.png", write_tiff(tmp_path / "f.tif", (SMOOTH / 255).astype(np.float32))]
    odds = classified(load_run(run_folder), paths)
    assert np.abs(odds - odds[0]).max() < 1e-3
    assert np.ptp(odds[0]) > 1e-3  # not the same because all is the same


@pytest.mark.skipif(not CASES.is_dir(), reason="no ../shared/cases: inputs from real use are not here")
def test_case_15_in_8_and_16_bit(run_folder: Path) -> None:
    folder = CASES / "15-odd-images" / "in"
    odds = classified(load_run(run_folder), [folder / name for name in ("x8.png", "x16.png", "x16.tif", "xfloat.tif")])
    assert np.abs(odds - odds[0]).max() < 1e-3


def test_a_dicom_is_predicted_like_its_png(run_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pydicom", minversion="3", reason="pydicom, which reads DICOM, is not installed")
    values = (SMOOTH.astype(np.uint16) * 12) + 100
    shown = np.clip((values.astype(float) - 1024 - (300 - 0.5 - 899 / 2)) / 899, 0, 1) * 255
    Image.fromarray(np.rint(shown).astype(np.uint8)).save(tmp_path / "a.png")
    how = {"RescaleIntercept": -1024, "RescaleSlope": 1, "WindowCenter": 300, "WindowWidth": 900}
    paths = [tmp_path / "a.png"]
    for compress in ("", "RLELossless"):
        paths.append(write_dicom(tmp_path / f"two{compress}.dcm", values, compress=compress, **how))
        # of MONOCHROME1 small values are bright: the picture the other way round, under a window the other way round
        how_one = how | {"RescaleIntercept": 1024 - 5000, "WindowCenter": -299}
        paths.append(write_dicom(tmp_path / f"one{compress}.dcm", 5000 - values, "MONOCHROME1", compress, **how_one))
    odds = classified(load_run(run_folder), paths)
    assert np.abs(odds - odds[0]).max() < 1e-3
    out = tmp_path / "out.csv"
    (tmp_path / "broken.dcm").write_bytes(paths[1].read_bytes()[:700])
    assert predict.main([str(run_folder), str(tmp_path), "-o", str(out)]) == predict.UNREADABLE
    with out.open() as file:
        assert {row["image"] for row in csv.DictReader(file)} == set(map(str, paths))


def test_the_window_of_a_run_reaches_its_predictions(run_folder: Path, tmp_path: Path) -> None:
    windowed = kept(tmp_path / "w", INPUT_WINDOW="-160,240", INPUT_SLICE=2, INPUT_EXIF=True)
    assert yaml.safe_load((windowed / "config.yaml").read_text())["INPUT"]["SLICE"] == 2
    trainer = load_run(windowed)
    assert PixelSettings.from_cfg(trainer.cfg) == PixelSettings((-160.0, 240.0), True, 2)
    values = RNG.integers(-1000, 1000, (64, 64)).astype(np.int16)
    path = write_tiff(tmp_path / "ct.tif", values)
    shown = np.rint(np.clip((values + 160) / 400, 0, 1) * 255).astype(np.uint8)
    Image.fromarray(shown).save(tmp_path / "shown.png")
    odds = classified(trainer, [path, tmp_path / "shown.png"])
    assert np.abs(odds[0] - odds[1]).max() < 1e-3
    assert np.abs(classified(load_run(run_folder), [path]) - odds[0]).max() > 1e-3


def test_what_decides_pixels_is_part_of_a_runs_identity() -> None:
    from runs.config import default_config

    cfg = default_config()
    cfg.TRAINER.NAME = "CoOp"
    assert {f"INPUT.{key}" for key in ("WINDOW", "EXIF", "SLICE")} <= set(identity(cfg))
    assert "INPUT.MAX_PIXELS" not in identity(cfg)


@pytest.fixture
def mixed(tmp_path: Path) -> list[Datum]:
    """One image of 8 bits, one of 16, one with a damaged end."""
    Image.fromarray(SMOOTH).save(tmp_path / "a.png")
    Image.fromarray(SMOOTH.astype(np.uint16) * 11 + 5).save(tmp_path / "b.png")
    return [Datum(impath=str(tmp_path / name)) for name in ("a.png", "b.png")]


def with_input(**own: object):
    cfg = get_cfg_default()
    cfg.INPUT.TRANSFORMS = ("normalize",)
    for key, value in own.items():
        cfg.INPUT[key] = value
    return cfg


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("window", [(), (100, 2000)])
def test_training_and_prediction_read_alike(workers: int, window: tuple, mixed: list[Datum]) -> None:
    cfg = with_input(WINDOW=window)
    transform = build_transform(cfg, is_train=False)
    trained = DatasetWrapper(cfg, mixed, transform=transform)
    predicted = ImageFiles([Path(item.impath) for item in mixed], transform, PixelSettings.from_cfg(cfg))
    loader = torch.utils.data.DataLoader(trained, batch_size=None, num_workers=workers)
    for item, (_, image) in zip(loader, predicted, strict=True):
        torch.testing.assert_close(item["img"], image, rtol=0, atol=0)


def test_training_names_what_it_cannot_read(mixed: list[Datum]) -> None:
    dataset = DatasetWrapper(with_input(MAX_PIXELS=1000), mixed, transform=lambda image: image)
    with pytest.raises(UserError) as caught:
        dataset[1]
    assert str(caught.value).startswith(f"{mixed[1].impath} cannot be read as an image: it has 64 x 64 pixels, more than")


def test_keys_of_features_change_only_where_pixels_do(mixed: list[Datum]) -> None:
    def keys(**own: object) -> list[bytes]:
        dataset = DatasetWrapper(with_input(**own), mixed, transform=lambda image: image)
        return [view_key(dataset, 0, number) for number in range(2)]

    path = Path(mixed[0].impath)
    as_ever = [digest(content(item.impath, 0, 0), "") for item in mixed]
    eight, deep = keys()
    assert eight == as_ever[0] and deep != as_ever[1]  # what was stored of clipped pixels is never read again
    for own in ({"WINDOW": (1, 300)}, {"WINDOW": (1, 301)}, {"EXIF": True}, {"SLICE": 4}):
        assert keys(**own)[0] == eight
        assert (keys(**own)[1] == deep) == ("WINDOW" not in own)
    assert keys(WINDOW=(1, 300))[1] != keys(WINDOW=(1, 301))[1]
    exif = Image.Exif()
    exif[274] = 6
    Image.open(path).save(path, exif=exif)
    turned = keys(EXIF=True)[0]
    assert turned != keys()[0] == digest(content(str(path), 0, 1), "")


def test_all_kinds_are_found_in_a_folder(tmp_path: Path) -> None:
    names = ["a.PNG", "b.dcm", "c.nii", "d.nii.gz", "e.tif", "f.gif", "g.DICOM"]
    for name in [*names, "x.gz", "y.txt", "nii.gz"]:
        (tmp_path / name).touch()
    assert [path.name for path in find_images([tmp_path])] == names


def test_a_reports_thumbnail_of_a_deep_image_is_not_white(tmp_path: Path) -> None:
    full = np.rint((SMOOTH - float(SMOOTH.min())) / np.ptp(SMOOTH) * 255)
    shown = []
    for name, values in (("8.png", full.astype(np.uint8)), ("16.png", full.astype(np.uint16) * 16)):
        Image.fromarray(values).save(tmp_path / name)
        raw = base64.b64decode(thumbnail(tmp_path / name).partition(",")[2])
        shown.append(np.asarray(Image.open(io.BytesIO(raw)), float))
    assert np.abs(shown[0] - shown[1]).mean() < 1 and np.ptp(shown[0]) > 100
