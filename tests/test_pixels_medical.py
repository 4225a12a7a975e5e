"""DICOM and NIfTI: values, windows, frames, slices, what is refused, and that nothing of a patient is ever written."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from dassl.utils import PixelSettings, UnreadableImage, read_image
from dassl.utils.pixels import settings as pixel_settings
from tests.conftest import SHARED
from tests.image_files import write_dicom
from tests.test_pixels import CASES, COLOUR, DEEP, GREY, RNG, assert_near, by_hand, grey, needs_cases, pixels

HOUNSFIELD = (DEEP.astype(np.int32) - 1024).astype(np.int16)
PATIENT = ("Zebedee", "Quill", "998877", "19010203")


@pytest.fixture
def pydicom():
    return pytest.importorskip("pydicom", minversion="3", reason="pydicom, which reads DICOM, is not installed")


@pytest.fixture
def nibabel():
    return pytest.importorskip("nibabel", reason="nibabel, which reads NIfTI, is not installed")


# -- DICOM --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", ["", "RLELossless"])
def test_plain_8_bits_are_what_the_png_is(pydicom, compress: str, tmp_path: Path) -> None:
    np.testing.assert_array_equal(grey(write_dicom(tmp_path / "a.dcm", GREY, compress=compress)), GREY)
    np.testing.assert_array_equal(grey(write_dicom(tmp_path / "i.dcm", GREY, "MONOCHROME1", compress)), 255 - GREY)
    np.testing.assert_array_equal(pixels(write_dicom(tmp_path / "c.dcm", COLOUR, "RGB", compress)), COLOUR)
    write_dicom(tmp_path / "without_suffix", GREY, compress=compress)
    np.testing.assert_array_equal(grey(tmp_path / "without_suffix", window=(3, 5)), GREY)


@pytest.mark.parametrize("compress", ["", "RLELossless"])
def test_values_go_by_rescale_then_window_or_range(pydicom, compress: str, tmp_path: Path) -> None:
    rescale = {"BitsStored": 12, "HighBit": 11, "RescaleSlope": 2, "RescaleIntercept": -1024, "compress": compress}
    values = DEEP.astype(float) * 2 - 1024
    path = write_dicom(tmp_path / "range.dcm", DEEP, **rescale)
    assert_near(grey(path), by_hand(values, values.min(), values.max()))
    assert_near(grey(path, window=(-160.0, 2400.0)), by_hand(values, -160, 2400))
    path = write_dicom(tmp_path / "window.dcm", DEEP, **rescale, WindowCenter=[400, 9], WindowWidth=[1500, 9])
    assert_near(grey(path), by_hand(values, 400 - 0.5 - 1499 / 2, 400 - 0.5 + 1499 / 2))
    assert_near(grey(path, window=(-160.0, 2400.0)), by_hand(values, -160, 2400))
    inverted = write_dicom(tmp_path / "one.dcm", DEEP, "MONOCHROME1", **rescale, WindowCenter=400, WindowWidth=1500)
    np.testing.assert_array_equal(grey(inverted), 255 - grey(path))
    signed = write_dicom(tmp_path / "signed.dcm", HOUNSFIELD, compress=compress)
    assert_near(grey(signed, window=(-1000.0, 400.0)), by_hand(HOUNSFIELD, -1000, 400))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_are_pydicoms(pydicom, function: str, tmp_path: Path) -> None:
    how = {"WindowCenter": 2000, "WindowWidth": 900, "VOILUTFunction": function}
    path = write_dicom(tmp_path / "a.dcm", DEEP, **how)
    from pydicom.pixels import apply_windowing

    want = apply_windowing(DEEP, pydicom.dcmread(path)) / 65535 * 255
    assert_near(grey(path), np.floor(want + 0.5))


def test_tables_are_looked_up(pydicom, tmp_path: Path) -> None:
    from pydicom.dataset import Dataset

    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, 16], (65535 - 16 * np.arange(4096)).astype("<u2").tobytes()
    path = write_dicom(tmp_path / "voi.dcm", DEEP, BitsStored=12, HighBit=11, VOILUTSequence=[table])
    assert_near(grey(path), by_hand(65535 - 16 * DEEP.astype(int), 0, 65535))
    table.ModalityLUTType = "US"
    path = write_dicom(tmp_path / "modality.dcm", DEEP, BitsStored=12, HighBit=11, ModalityLUTSequence=[table])
    assert_near(grey(path, window=(0.0, 65535.0)), by_hand(65535 - 16 * DEEP.astype(int), 0, 65535))
    palette = {f"{colour}PaletteColorLookupTable{what}": value for colour, shift in (("Red", 0), ("Green", 1), ("Blue", 2))
               for what, value in (("Descriptor", [256, 0, 16]),
                                   ("Data", (np.roll(np.arange(256), shift) * 257).astype("<u2").tobytes()))}  # fmt: skip
    found = pixels(write_dicom(tmp_path / "p.dcm", GREY, "PALETTE COLOR", **palette))
    np.testing.assert_array_equal(found, np.stack([np.roll(np.arange(256), s)[GREY] for s in range(3)], axis=2))


def test_of_several_frames_the_first_with_its_own_window(pydicom, tmp_path: Path, caplog, monkeypatch) -> None:
    from pydicom.dataset import Dataset

    monkeypatch.setattr(pixel_settings, "_said", set())
    value, window, group = Dataset(), Dataset(), Dataset()
    value.RescaleSlope, value.RescaleIntercept = 1, -1000
    window.WindowCenter, window.WindowWidth = 1000, 2001
    group.PixelValueTransformationSequence, group.FrameVOILUTSequence = [value], [window]
    frames = np.stack([DEEP, DEEP[::-1], DEEP])
    path = write_dicom(tmp_path / "a.dcm", frames, NumberOfFrames=3, PerFrameFunctionalGroupsSequence=[group] * 3)
    for _ in range(2):
        assert_near(grey(path), by_hand(DEEP.astype(float) - 1000, 1000 - 0.5 - 1000, 1000 - 0.5 + 1000))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and said[0].startswith("DICOM with several frames: the first one is read")


def test_bits_above_those_stored_are_not_values(pydicom, tmp_path: Path) -> None:
    overlay = DEEP | (RNG.integers(0, 2, DEEP.shape).astype(np.uint16) << 15)
    path = write_dicom(tmp_path / "a.dcm", overlay, BitsStored=12, HighBit=11)
    assert_near(grey(path), by_hand(DEEP, DEEP.min(), DEEP.max()))


def test_a_huge_frame_is_refused_by_its_header(pydicom, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", GREY, Rows=20_000, Columns=20_000)
    with pytest.raises(UnreadableImage, match="20,000 x 20,000 pixels, more than INPUT.MAX_PIXELS"):
        pixels(path)


def test_no_word_of_a_patient_is_written(pydicom, tmp_path: Path, caplog, capfd, recwarn) -> None:
    """Broken in every way that makes pydicom talk: neither errors nor what they came from, log, warnings or terminal."""
    caplog.set_level(logging.DEBUG)
    whole = write_dicom(tmp_path / "w.dcm", DEEP).read_bytes()
    bad = {"cut": whole[:-400], "half_header": whole[:420], "no_image": whole[: whole.index(b"\x28\0\x10\0")],
           "window": write_dicom(tmp_path / "x.dcm", DEEP, WindowCenter=5, WindowWidth=0).read_bytes(),
           "number": write_dicom(tmp_path / "y.dcm", DEEP, RescaleSlope=1, RescaleIntercept="12345678").read_bytes().replace(
               b"12345678", b"Zebedee "),
           "syntax": whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"),
           "size": write_dicom(tmp_path / "z.dcm", DEEP, Rows=4000).read_bytes()}  # fmt: skip
    said = []
    for name, content in bad.items():
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(content)
        assert name == "half_header" or b"Zebedee" in content
        with pytest.raises(UnreadableImage) as caught:
            pixels(path)
        error: BaseException | None = caught.value
        assert "\n" not in str(error)
        while error is not None:
            said.append(str(error))
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    pixels(tmp_path / "w.dcm")
    captured = capfd.readouterr()
    text = " ".join([*said, caplog.text, captured.out, captured.err, *(str(one.message) for one in recwarn)])
    assert [word for word in PATIENT if word in text] == []


def test_a_missing_plugin_is_named(pydicom, tmp_path: Path, monkeypatch) -> None:
    from pydicom import pixels as of_pydicom

    path = write_dicom(tmp_path / "a.dcm", GREY, compress="RLELossless")
    absent = SimpleNamespace(is_available=False, missing_dependencies=["gdcm - requires gdcm>=3.0.10"], available_plugins=())
    monkeypatch.setattr(of_pydicom, "get_decoder", lambda syntax: absent)
    with pytest.raises(UnreadableImage, match=r"stored in RLE Lossless.*requires gdcm.*pip install pylibjpeg"):
        pixels(path)


def test_jpeg_inside_dicom(pydicom, tmp_path: Path) -> None:
    """By Pillow, which is a plugin of pydicom's."""
    import io

    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    path, stream = write_dicom(tmp_path / "a.dcm", GREY), io.BytesIO()
    Image.fromarray(GREY).save(stream, "JPEG", quality=95)
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data.PixelData = encapsulate([stream.getvalue()])
    data["PixelData"].is_undefined_length = True
    data.save_as(path, enforce_file_format=True)
    with Image.open(stream) as image:
        assert np.abs(grey(path).astype(int) - np.asarray(image)).max() <= 2


@needs_cases
def test_case_15_has_a_colour_dicom_and_one_that_cannot_be_decoded(pydicom) -> None:
    folder = CASES / "15-odd-images" / "in"
    np.testing.assert_array_equal(pixels(folder / "SC_rgb.dcm"), pydicom.dcmread(folder / "SC_rgb.dcm").pixel_array)
    with pytest.raises(UnreadableImage, match=r"liver_rle.dcm: its pixels \(RLE Lossless\).*cannot be decoded"):
        pixels(folder / "liver_rle.dcm")  # 1 bit in RLE, which DICOM does not know
    assert SHARED in folder.parents


# -- NIfTI --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_one_slice_of_a_volume(nibabel, name: str, tmp_path: Path) -> None:
    volume = RNG.integers(-900, 1500, (12, 17, 9)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / name)
    for wanted, number in ((-1, 4), (0, 0), (8, 8)):
        part = volume[:, :, number]
        assert_near(grey(tmp_path / name, slice=wanted), by_hand(part, part.min(), part.max()))
    assert_near(grey(tmp_path / name, window=(-160.0, 240.0)), by_hand(volume[:, :, 4], -160, 240))
    with pytest.raises(UnreadableImage, match=r"INPUT.SLICE is 9, but it has 9 slices \(0 to 8\)"):
        pixels(tmp_path / name, slice=9)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / f"cut{name}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableImage, match="cut short or broken"):
        pixels(tmp_path / f"cut{name}", slice=8)


def test_other_shapes_and_types_of_nifti(nibabel, tmp_path: Path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(pixel_settings, "_said", set())
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.stack([np.stack([GREY] * 3, 2), np.zeros((*GREY.shape, 3), np.uint8)], 3), None), path)
    np.testing.assert_array_equal(grey(path), GREY)
    assert "NIfTI with more than three axes: the first volume is read" in caplog.text
    scaled = nibabel.Nifti1Image(DEEP[..., None].astype(np.int16), None)
    scaled.header.set_slope_inter(0.5, 10)
    nibabel.save(scaled, path)
    low, high = DEEP.min(), DEEP.max()
    assert_near(grey(path), by_hand(DEEP, low, high))
    rgb = np.ascontiguousarray(COLOUR).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nibabel.save(nibabel.Nifti1Image(rgb[..., None], None), path)
    np.testing.assert_array_equal(pixels(path), COLOUR)
    nibabel.save(nibabel.Nifti2Image(GREY[..., None], None), path)
    np.testing.assert_array_equal(grey(path), GREY)
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 2), np.complex64), None), path)
    with pytest.raises(UnreadableImage, match="complex64"):
        pixels(path)
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 2), np.uint8), None), path)
    with pytest.raises(UnreadableImage, match="more than INPUT.MAX_PIXELS 15"):
        pixels(path, max_pixels=15)


# -- without the packages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("package, name, said", [
    ("pydicom", "a.dcm", 'pip install "pydicom>=3"'), ("nibabel", "a.nii.gz", "pip install nibabel"),
])  # fmt: skip
def test_a_missing_package_is_named_with_what_installs_it(package, name, said, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_bytes(b"not looked into")
    with pytest.raises(UnreadableImage) as caught:
        read_image(str(tmp_path / name), PixelSettings())
    assert said in str(caught.value) and package in caught.value.reason
