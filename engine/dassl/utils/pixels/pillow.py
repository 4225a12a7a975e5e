"""Files that Pillow reads: PNG, JPEG, TIFF, GIF, BMP, WebP, …

Pillow's own ``convert("RGB")`` is right for 8 bits and is what the published reader does. It clips deeper greys at 255 and
drops transparency, and it has cut 16-bit colours to their high bytes before one can ask: these kinds are taken apart here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import numpy as np
from PIL import Image, ImageOps

from dassl.utils.pixels.scaling import scaled
from dassl.utils.pixels.settings import PixelSettings, Refusal, say_once

BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
WHITE_IS_ZERO, UNSIGNED, SIGNED = 0, 1, 2
ORIENTATION = 274
TRANSPARENT_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
# of 16-bit colours, Pillow's way to unpack the high bytes, and the one that finds the low bytes in their place
OTHER_BYTES = {
    "RGB;16B": "RGB;16L", "RGB;16L": "RGB;16B", "RGBA;16B": "RGBA;16L", "RGBA;16L": "RGBA;16B",
    "RGB;16N": "RGB;16B", "RGBA;16N": "RGBA;16B", "RGBX;16B": "RGBX;16L", "RGBX;16L": "RGBX;16B",
}  # fmt: skip
MODES = {
    "1": "1-bit", "L": "8-bit grey", "P": "palette", "RGB": "8-bit RGB", "CMYK": "CMYK", "YCbCr": "YCbCr", "F": "32-bit float",
    "I": "integers of 16 or 32 bits", "LA": "8-bit grey with alpha", "RGBA": "8-bit RGB with alpha", "PA": "palette with alpha",
    "I;16": "16-bit grey", "I;16B": "16-bit grey", "I;16L": "16-bit grey",
}  # fmt: skip
_opening = Lock()


def read(path: str, settings: PixelSettings) -> Image.Image:
    """The first frame as 8-bit RGB."""
    with opened(path, settings) as image:
        if getattr(image, "is_animated", False):
            say_once(f"{image.format} with several frames or pages", "the first one is read, the others are not")
        if is_deep_colour(image):
            picture = _deep_colour(path, image, settings)
        elif is_deep(image):
            picture = Image.fromarray(_deep_grey(image, settings)).convert("RGB")
        else:
            picture = _over_black(image) if has_transparency(image) else image.convert("RGB")
        return _turned(picture, image) if settings.exif else picture


def reading(path: str, settings: PixelSettings) -> str:
    """What beside its contents decides an image's pixels; empty for what the published reader reads the same way."""
    with opened(path, settings) as image:
        said = []
        if is_deep(image) or is_deep_colour(image):
            said.append(f"own depth, window {settings.window}")
        elif has_transparency(image) and _alpha(image).getextrema()[0] < 255:
            said.append("over black")
        if settings.exif and _orientation(image) != 1:
            said.append("turned")
        return ", ".join(said)


def kind(path: str, settings: PixelSettings) -> str:
    """The format, and depth and colour of the pixels: "PNG, 16-bit grey"."""
    with opened(path, settings) as image:
        mode = "16-bit colour" if is_deep_colour(image) else MODES.get(image.mode, f"mode {image.mode}")
        return f"{image.format}, {mode}"


@contextmanager
def opened(path: str, settings: PixelSettings) -> Iterator[Image.Image]:
    """The image, its header read and its size within the limit, nothing decoded."""
    # Pillow has a limit for the whole process, which warns at one size and refuses at twice that: ours takes its place here
    with _opening:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path)
        except Image.UnidentifiedImageError:
            raise Refusal("it is no image of a known format, or its header is broken") from None
        finally:
            Image.MAX_IMAGE_PIXELS = before
    with image:
        settings.check_size(*image.size)
        yield image


# -- kinds ------------------------------------------------------------------------------------------------


def is_deep(image: Image.Image) -> bool:
    """One channel of more than 8 bits, or of 8 with a sign."""
    return image.mode == "F" or image.mode.startswith("I") or _is_signed_byte(image)


def _is_signed_byte(image: Image.Image) -> bool:
    """8 bits with a sign, which Pillow takes for bytes without."""
    return image.mode == "L" and _tiff(image, SAMPLE_FORMAT, (UNSIGNED,)) == (SIGNED,) and _tiff(image, BITS, ()) == (8,)


def is_deep_colour(image: Image.Image) -> bool:
    """Several channels of 16 bits, of which Pillow gives the high bytes."""
    if image.mode not in ("RGB", "RGBA", "RGBX", "LA", "CMYK"):
        return False
    return any(bits > 8 for bits in _tiff(image, BITS, ())) or ";16" in _raw_mode(image)


def has_transparency(image: Image.Image) -> bool:
    """Whether the file has alpha: a channel of it, or in its palette. A grey level or colour that a file of 8-bit grey or RGB
    declares transparent is taken for what it is, as the published reader does."""
    return image.mode in TRANSPARENT_MODES or (image.mode == "P" and "transparency" in image.info)


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    how = tiles[0][3]
    return str(how[0] if isinstance(how, tuple) and how else how)


def _tiff(image: Image.Image, tag: int, absent: tuple[int, ...]) -> tuple[int, ...]:
    value = getattr(image, "tag_v2", {}).get(tag, absent)
    return value if isinstance(value, tuple) else (value,)


# -- conversions ------------------------------------------------------------------------------------------


def _deep_grey(image: Image.Image, settings: PixelSettings) -> np.ndarray:
    """(H, W) uint8 of one deep channel."""
    values = np.asarray(image)
    if image.mode == "I" and _tiff(image, BITS, ()) == (32,) and _tiff(image, SAMPLE_FORMAT, (UNSIGNED,)) == (UNSIGNED,):
        values = values.view(np.uint32)  # Pillow has signed 32 bits only
    if _is_signed_byte(image):  # Pillow reads none whose white is zero
        values = values.view(np.int8)
    grey = scaled(values, settings.window)
    return 255 - grey if _tiff(image, PHOTOMETRIC, ()) == (WHITE_IS_ZERO,) else grey


def _deep_colour(path: str, image: Image.Image, settings: PixelSettings) -> Image.Image:
    """Colours of 16 bits, alpha over black, all channels by one range."""
    values = _sixteen_bits(path, image, settings)
    grey = values.shape[2] == 2
    colours, alpha = (values[..., :1], values[..., 1:]) if grey else (values[..., :3], values[..., 3:])
    if alpha.size and int(alpha.min()) < 65535:
        for row in range(len(colours)):  # a row at a time: the products take 32 bits
            product = colours[row].astype(np.uint32) * alpha[row] + 32767
            colours[row] = product // 65535
    eight = scaled(colours, settings.window)
    return Image.fromarray(eight[..., 0] if grey else eight).convert("RGB")


def _sixteen_bits(path: str, image: Image.Image, settings: PixelSettings) -> np.ndarray:
    """(H, W, C) uint16: the file decoded twice, for the high and for the low bytes."""
    raw = _raw_mode(image)
    if raw == "LA;16B":
        with opened(path, settings) as again:
            four = _decoded(again, "RGBA", "RGBA").astype(np.uint16)  # four bytes per pixel: high and low of both
            return np.stack([four[..., 0] << 8 | four[..., 1], four[..., 2] << 8 | four[..., 3]], axis=2)
    if raw not in OTHER_BYTES or len({tile[3][0] if isinstance(tile[3], tuple) else tile[3] for tile in image.tile}) != 1:
        raise Refusal(f"its colours have more than 8 bits each in a form ({image.format} {image.mode}) that is not read")
    with opened(path, settings) as again:
        low = _decoded(again, image.mode, OTHER_BYTES[raw])
    values = np.asarray(image).astype(np.uint16)
    values <<= 8
    values |= low
    return values[..., :3] if image.mode == "RGBX" else values


def _decoded(image: Image.Image, mode: str, raw: str) -> np.ndarray:
    """The image's bytes unpacked in another way than its own."""
    image._mode = mode
    image.tile = [
        (name, box, offset, (raw, *how[1:]) if isinstance(how, tuple) else raw) for name, box, offset, how in image.tile
    ]
    return np.asarray(image)


def _alpha(image: Image.Image) -> Image.Image:
    return image.convert("RGBA").getchannel("A")


def _over_black(image: Image.Image) -> Image.Image:
    """Transparent pixels show black, opaque ones what ``convert("RGB")`` gives."""
    whole = image.convert("RGBA")
    picture = Image.new("RGB", image.size)
    picture.paste(whole.convert("RGB"), mask=whole.getchannel("A"))
    return picture


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":
        return 1  # Pillow turns TIFFs itself
    value = image.getexif().get(ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def _turned(picture: Image.Image, image: Image.Image) -> Image.Image:
    way = _orientation(image)
    if way == 1:
        return picture
    picture.getexif()[ORIENTATION] = way
    return ImageOps.exif_transpose(picture)
