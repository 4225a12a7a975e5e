"""One reader for whatever is an image: files of any depth become 8-bit RGB by rules that are written down.

``read_image`` is the way in, for training, prediction, maps and stored features alike. The rules are a table in
docs/DATASETS.md.
"""

from dassl.utils.pixels.reader import IMAGE_SUFFIXES, kind_of, read_image, reading
from dassl.utils.pixels.scaling import to_uint8
from dassl.utils.pixels.settings import PixelSettings, UnreadableImage

__all__ = ["IMAGE_SUFFIXES", "PixelSettings", "UnreadableImage", "kind_of", "read_image", "reading", "to_uint8"]
