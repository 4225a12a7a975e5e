"""What is refused, and how: images of too many pixels, broken files, settings that cannot be used."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dassl.utils import PixelSettings, SettingError, UnreadableImage, reading
from tests.conftest import REPO
from tests.image_files import write_huge_png, write_tiff
from tests.test_pixels import COLOUR, DEEP, GREY, pixels

# VmHWM is of the process alone; ru_maxrss starts at its parent's
MEASURE = """
import sys
from dassl.utils import PixelSettings, read_image
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
before = peak()
try:
    read_image(sys.argv[1], PixelSettings(max_pixels=int(sys.argv[2])))
    print(peak() - before, "read")
except OSError as error:
    print(peak() - before, error)
"""


def measured(path: Path, limit: int) -> tuple[int, str]:
    """KiB by which reading ``path`` raises a new process's peak, and what it says."""
    call = [sys.executable, "-c", MEASURE, str(path), str(limit)]
    done = subprocess.run(call, capture_output=True, text=True, cwd=REPO, timeout=100)
    taken, _, said = done.stdout.strip().partition(" ")
    assert said, done.stderr
    return int(taken), said


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux tells a process's own peak memory")
def test_a_huge_image_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    path = write_huge_png(tmp_path / "huge.png", 20_000)
    taken, said = measured(path, 100_000_000)
    assert said.startswith(f"{path}: it has 20,000 x 20,000 pixels, more than INPUT.MAX_PIXELS 100,000,000")
    print(f"20,000 x 20,000 pixels: {taken / 1024:.1f} MiB taken until refused")
    assert taken < 20 * 1024
    smaller = write_huge_png(tmp_path / "smaller.png", 9_000)  # what the measure says of an image that is decoded
    taken, said = measured(smaller, 81_000_000)
    assert said == "read" and taken > 100 * 1024


def test_the_limit_is_exact_and_pillows_own_is_left_alone(tmp_path: Path, monkeypatch) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert pixels(tmp_path / "a.png", max_pixels=GREY.size).shape == COLOUR.shape  # seven times Pillow's limit
    with pytest.raises(UnreadableImage, match="31 x 23 pixels"):
        pixels(tmp_path / "a.png", max_pixels=GREY.size - 1)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_what_is_broken_is_one_line_with_the_files_name(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    deep = write_tiff(tmp_path / "d.tif", DEEP).read_bytes()
    double = write_tiff(tmp_path / "f.tif", DEEP / 7).read_bytes()  # not read by Pillow
    bad = {"cut.png": whole[: len(whole) // 2], "empty.png": b"", "text.jpg": b"hello", "header.png": whole[:20],
           "a.dcm": b"hello", "a.nii": b"hello", "a.nii.gz": b"hello", "cut.tif": deep[:200], "double.tif": double}  # fmt: skip
    for name, content in bad.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UnreadableImage) as caught:
            pixels(path)
        error = caught.value
        assert isinstance(error, OSError) and str(error) == f"{path}: {error.reason}"
        assert error.reason and "\n" not in str(error) and str(path) not in error.reason
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.reason) == (str(error), error.reason)
        assert reading(str(path), PixelSettings()) == "" or name.startswith("a.")
    with pytest.raises(OSError, match="No such file"):
        pixels(tmp_path / "absent.png")


@pytest.mark.parametrize("key, value, said", [
    ("WINDOW", (1,), "two numbers lo < hi"), ("WINDOW", (5, 5), "two numbers"), ("WINDOW", ("a", "b"), "two numbers"),
    ("WINDOW", (0, float("nan")), "two numbers"), ("SLICE", -2, "number of a slice"), ("MAX_PIXELS", 0, "1 or more"),
])  # fmt: skip
def test_settings_that_cannot_be_used_are_named(key: str, value: object, said: str) -> None:
    from dassl.config import get_cfg_default

    cfg = get_cfg_default()
    assert PixelSettings.from_cfg(cfg) == PixelSettings()
    cfg.INPUT[key] = value
    with pytest.raises(SettingError, match=f"INPUT.{key} is .*{said}"):
        PixelSettings.from_cfg(cfg)
