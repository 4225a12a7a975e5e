"""Reading images of Pillow's kinds: what becomes of depth, sign, alpha, orientation, frames, size and damage."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from dassl.utils import PixelSettings, UnreadableImage, read_image, reading
from dassl.utils.pixels import settings as pixel_settings
from dassl.utils.pixels import to_uint8
from tests.conftest import SHARED
from tests.image_files import write_png16, write_tiff

CASES = SHARED / "cases"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="no ../shared/cases: inputs from real use are not here")
RNG = np.random.default_rng(5)
GREY = RNG.integers(7, 240, (23, 31)).astype(np.uint8)  # neither 0 nor 255: a stretched one is another picture
COLOUR = RNG.integers(0, 256, (23, 31, 3)).astype(np.uint8)
DEEP = RNG.integers(300, 4001, (23, 31)).astype(np.uint16)


def pixels(path: Path, **settings: object) -> np.ndarray:
    image = read_image(str(path), PixelSettings(**settings))
    assert image.mode == "RGB"
    return np.asarray(image)


def grey(path: Path, **settings: object) -> np.ndarray:
    """(H, W) of an image whose three channels must be equal."""
    found = pixels(path, **settings)
    assert (found == found[..., :1]).all()
    return found[..., 0]


def by_hand(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """The linear scale, one value at a time."""
    scale = [min(max((float(v) - low) / (high - low), 0.0), 1.0) * 255 for v in values.ravel()]
    return np.array([int(v + 0.5) for v in scale]).reshape(values.shape)


def assert_near(found: np.ndarray, want: np.ndarray) -> None:
    """Equal up to the rounding of halves."""
    assert found.shape == want.shape
    assert np.abs(found.astype(int) - want).max() <= 1 and (found != want).mean() < 0.02


# -- 8 bits -------------------------------------------------------------------------------------------------

PLAIN = ["L.png", "RGB.png", "1.png", "P.png", "RGBA.png", "LA.png", "RGB.jpg", "L.jpg", "CMYK.jpg", "CMYK.tif", "YCbCr.tif",
         "RGB.bmp", "RGB.webp", "P.gif", "L.tif"]  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_eight_bits_are_read_as_pillow_reads_them(name: str, tmp_path: Path) -> None:
    """Alpha that is opaque all over changes nothing either, and nothing is added to such files' keys."""
    path = tmp_path / name
    Image.fromarray(COLOUR).convert(path.stem).save(path)
    with Image.open(path) as image:
        assert image.mode == path.stem or name in ("P.gif", "YCbCr.tif")  # which Pillow may turn into RGB as it reads
        want = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(pixels(path), want)
    np.testing.assert_array_equal(pixels(path, window=(10, 20), exif=True, slice=3), want)
    assert reading(str(path), PixelSettings()) == "" == reading(str(path), PixelSettings((1, 2), True, 3))


def test_alpha_lies_over_black(tmp_path: Path) -> None:
    alpha = RNG.integers(0, 256, GREY.shape).astype(np.uint8)
    both = Image.fromarray(COLOUR).convert("RGBA")
    both.putalpha(Image.fromarray(alpha))
    both.save(tmp_path / "rgba.png")
    want = np.floor(COLOUR.astype(float) * alpha[..., None] / 255 + 0.5)
    assert_near(pixels(tmp_path / "rgba.png"), want)
    Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)]).save(tmp_path / "la.png")
    assert_near(grey(tmp_path / "la.png"), np.floor(GREY.astype(float) * alpha / 255 + 0.5))
    palette = Image.fromarray(GREY).convert("P")
    palette.save(tmp_path / "p.png", transparency=int(np.asarray(palette)[2, 3]))
    want = np.where(np.asarray(palette) == np.asarray(palette)[2, 3], 0, np.asarray(palette.convert("L")))
    np.testing.assert_array_equal(grey(tmp_path / "p.png"), want)
    for name in ("rgba.png", "la.png", "p.png"):
        assert reading(str(tmp_path / name), PixelSettings()) == "over black"


# -- more than 8 bits ---------------------------------------------------------------------------------------

SIGNED = DEEP.astype(np.int32) - 1024
KINDS = {
    "12 in 16": DEEP,
    "16": RNG.integers(9, 65000, (23, 31)).astype(np.uint16),
    "signed 8": RNG.integers(-120, 101, (23, 31)).astype(np.int8),
    "signed 16": SIGNED.astype(np.int16),
    "signed 32": SIGNED * 70_000,
    "unsigned 32": RNG.integers(5, 2**32 - 9, (23, 31)).astype(np.uint32),
    "float 32": RNG.normal(0, 1, (23, 31)).astype(np.float32),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", KINDS)
def test_deep_greys_are_scaled_by_their_own_range_or_a_window(kind: str, order: str, tmp_path: Path) -> None:
    values = KINDS[kind]
    path = write_tiff(tmp_path / "deep.tif", values, order=order)
    if (kind, order) == ("unsigned 32", ">"):  # not read by Pillow
        with pytest.raises(UnreadableImage):
            pixels(path)
        return
    low, high = float(values.min()), float(values.max())
    assert_near(grey(path), by_hand(values, low, high))
    assert {grey(path).min(), grey(path).max()} == {0, 255}
    window = (low + (high - low) / 4, high - (high - low) / 3)
    assert_near(grey(path, window=window), by_hand(values, *window))
    keys = {reading(str(path), PixelSettings(window=one)) for one in (None, window, (0.0, 1.0))}
    assert len(keys) == 3 and "" not in keys


@pytest.mark.parametrize("kind", ["12 in 16", "float 32"])
def test_a_tiff_whose_white_is_zero_is_turned_round(kind: str, tmp_path: Path) -> None:
    path, inverted = (write_tiff(tmp_path / f"{way}.tif", KINDS[kind], photometric=way) for way in (1, 0))
    np.testing.assert_array_equal(grey(inverted), 255 - grey(path))


def test_a_png_of_16_bits_is_not_clipped_at_255(tmp_path: Path) -> None:
    Image.fromarray(DEEP).save(tmp_path / "a.png")
    assert_near(grey(tmp_path / "a.png"), by_hand(DEEP, DEEP.min(), DEEP.max()))


def test_the_same_picture_in_8_and_in_more_bits_is_the_same(tmp_path: Path) -> None:
    """However it does not fill its range: nothing of it is stretched."""
    wide = GREY.astype(np.uint16)
    Image.fromarray(GREY).save(tmp_path / "8.png")
    for name, values in {"257.tif": wide * 257, "256.tif": wide * 256, "f.tif": (GREY / 255).astype(np.float32),
                         "i.tif": (wide * 257).astype(np.int32)}.items():  # fmt: skip
        np.testing.assert_array_equal(pixels(write_tiff(tmp_path / name, values)), pixels(tmp_path / "8.png"), err_msg=name)
    Image.fromarray(wide * 257).save(tmp_path / "16.png")
    np.testing.assert_array_equal(pixels(tmp_path / "16.png"), pixels(tmp_path / "8.png"))
    # with noise below the 8 bits it is a picture of its own, and where it fills the range equal up to rounding
    full = by_hand(GREY, GREY.min(), GREY.max()).astype(np.uint16)
    noisy = np.clip(full * 257 + RNG.integers(-100, 100, GREY.shape), 0, 65535).astype(np.uint16)
    assert_near(grey(write_tiff(tmp_path / "noisy.tif", noisy)), full)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_16_bits_keep_their_low_bytes(channels: int, tmp_path: Path) -> None:
    """12 bits in 16: the high bytes alone, which Pillow gives, would be all but black."""
    values = RNG.integers(3, 4001, (23, 31, channels)).astype(np.uint16)
    if channels != 3:
        values[..., -1] = RNG.integers(30000, 65536, GREY.shape)
    colours = values[..., :3] if channels > 2 else values[..., :1]
    if channels != 3:
        colours = np.floor(colours * (values[..., -1:] / 65535) + 0.5)
    want = by_hand(colours, colours.min(), colours.max())
    path = write_png16(tmp_path / "a.png", values)
    assert_near(pixels(path), np.broadcast_to(want, (*GREY.shape, 3)))
    assert reading(str(path), PixelSettings()).startswith("own depth")


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_with_colours_of_16_bits(order: str, tmp_path: Path) -> None:
    values = RNG.integers(3, 4001, (23, 31, 3)).astype(np.uint16)
    assert_near(pixels(write_tiff(tmp_path / "a.tif", values, order=order)), by_hand(values, values.min(), values.max()))
    same = write_tiff(tmp_path / "b.tif", COLOUR.astype(np.uint16) * 257, order=order)
    np.testing.assert_array_equal(pixels(same), COLOUR)


def test_constant_and_not_finite_values(tmp_path: Path) -> None:
    assert not grey(write_tiff(tmp_path / "c.tif", np.full((4, 5), 1000, np.uint16))).any()
    values = np.array([[0.5, np.nan, 2.5], [np.inf, -np.inf, 1.5]], np.float32)
    assert grey(write_tiff(tmp_path / "n.tif", values)).tolist() == [[0, 0, 255], [255, 0, 128]]
    with pytest.raises(UnreadableImage, match="none of its values is finite"):
        pixels(write_tiff(tmp_path / "nan.tif", np.full((4, 5), np.nan, np.float32)))


finite = st.floats(-1e300, 1e300, allow_nan=False)
VALUES = st.one_of(
    arrays(np.float64, (3, 4), elements=st.floats(width=64)),
    arrays(np.float32, (3, 4), elements=st.floats(width=32)),
    arrays(np.uint16, (3, 4)), arrays(np.int16, (3, 4)), arrays(np.uint32, (3, 4)), arrays(np.int32, (3, 4)),
)  # fmt: skip


@given(VALUES, st.none() | st.tuples(finite, finite).filter(lambda pair: pair[0] < pair[1]))
def test_scaling_is_monotone_and_reaches_both_ends(values: np.ndarray, window: tuple[float, float] | None) -> None:
    known = values[np.isfinite(values)].astype(np.float64)
    if window is None and not known.size:
        with pytest.raises(ValueError, match="finite"):
            to_uint8(values)
        return
    found = to_uint8(values, window)
    values = values.astype(np.float64)  # a window's ends are not rounded to the image's type
    assert found.dtype == np.uint8 and found.shape == values.shape
    order = np.argsort(values.ravel(), kind="stable")  # NaN last
    rising = found.ravel()[order][: np.sum(~np.isnan(values))].astype(int)
    assert (np.diff(rising) >= 0).all()
    assert not found[np.isnan(values)].any()
    low, high = window or (known.min(), known.max())
    if low < high and high / 2 - low / 2 > 1e-300:
        assert (found[values <= low] == 0).all() and (found[values >= high] == 255).all()
    elif not window:
        assert not found[np.isfinite(values)].any()


# -- orientation, frames ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", range(1, 9))
def test_orientation_is_followed_only_on_request(way: int, tmp_path: Path) -> None:
    turned = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2),
              6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: np.rot90}  # fmt: skip
    exif = Image.Exif()
    exif[274] = way
    path = tmp_path / "a.png"
    Image.fromarray(COLOUR).save(path, exif=exif)
    np.testing.assert_array_equal(pixels(path), COLOUR)
    np.testing.assert_array_equal(pixels(path, exif=True), turned[way](COLOUR))
    assert (reading(str(path), PixelSettings(exif=True)) != "") == (way != 1) and not reading(str(path), PixelSettings())


def test_of_several_frames_the_first_is_read_and_said_once(tmp_path: Path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(pixel_settings, "_said", set())
    frames = [Image.fromarray(np.roll(GREY, 4 * i)).convert("P") for i in range(3)]
    for name in ("a.gif", "b.gif", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with caplog.at_level(logging.WARNING):
            np.testing.assert_array_equal(grey(tmp_path / name), GREY)
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(" with")[0] for line in said] == ["GIF", "TIFF"] and all(
        "the first one is read" in line for line in said
    )


# -- files from real use ------------------------------------------------------------------------------------


@needs_cases
def test_case_06_xrays_in_8_and_16_bit_are_equal() -> None:
    files = sorted((CASES / "06-16bit" / "xray16").rglob("*.png"))
    assert len(files) == 120
    for path in files:
        np.testing.assert_array_equal(pixels(path), pixels(Path(str(path).replace("xray16", "xray8"))))


@needs_cases
def test_case_15_is_read_right_or_refused_by_name() -> None:
    folder = CASES / "15-odd-images" / "in"
    eight = np.asarray(Image.open(folder / "x8.png").convert("RGB"))
    for name in ("x8.png", "x16.png", "x16.tif", "xfloat.tif"):
        np.testing.assert_array_equal(pixels(folder / name), eight, err_msg=name)
    assert_near(grey(folder / "x12in16.png"), by_hand(np.asarray(Image.open(folder / "x12in16.png")), 0, 4000))
    with Image.open(folder / "la.png") as image:
        light, alpha = (np.asarray(band, float) for band in image.split())
    assert_near(grey(folder / "la.png"), np.floor(light * alpha / 255 + 0.5))
    for name in ("bilevel.png", "palette.png", "cmyk.jpg"):
        np.testing.assert_array_equal(pixels(folder / name), np.asarray(Image.open(folder / name).convert("RGB")))
    for name in ("crash_1.tif", "string_dimension.tiff"):
        with pytest.raises(UnreadableImage, match=name):
            pixels(folder / name)
