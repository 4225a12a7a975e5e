"""The engine's transforms: the test transform to the pixel, each training transform by its definition or its bounds."""

from __future__ import annotations

import logging
import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision import transforms as T

from dassl.config import get_cfg_default
from dassl.data.transforms import build_transform
from dassl.data.transforms.randaugment import (
    FIXMATCH,
    OPERATIONS,
    RANDAUGMENT,
    RANDAUGMENT2,
    RandAugment,
    RandAugment2,
    RandAugmentFixMatch,
)
from dassl.data.transforms.transforms import (
    AVAI_CHOICES,
    INTERPOLATION_MODES,
    Cutout,
    GaussianNoise,
    InstanceNormalization,
    Random2DTranslation,
)
from dassl.utils import UserError, set_random_seed

PIL_MODES = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "nearest": Image.NEAREST}


def picture(width: int = 60, height: int = 45, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    return small.resize((width, height), Image.BICUBIC)


def config(*options: object):
    cfg = get_cfg_default()
    cfg.merge_from_list(["INPUT.SIZE", (32, 32), *options])
    return cfg


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255).permute(2, 0, 1)


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize("mode", INTERPOLATION_MODES)
def test_test_transform_to_the_pixel(mode: str, size: tuple[int, int]) -> None:
    cfg = config("INPUT.SIZE", size, "INPUT.INTERPOLATION", mode, "INPUT.TRANSFORMS", ("random_flip", "normalize"))
    image = picture()
    edge = max(size)
    resized = image.resize((int(edge * 60 / 45), edge), PIL_MODES[mode])  # the smaller edge becomes max(size)
    top, left = round((edge - size[0]) / 2), round((resized.width - size[1]) / 2)
    want = as_tensor(resized.crop((left, top, left + size[1], top + size[0])))
    mean, std = torch.tensor(cfg.INPUT.PIXEL_MEAN)[:, None, None], torch.tensor(cfg.INPUT.PIXEL_STD)[:, None, None]
    assert torch.equal(build_transform(cfg, is_train=False)(image), (want - mean) / std)
    assert torch.equal(build_transform(cfg, is_train=False, choices=[])(image), want)


@pytest.mark.parametrize("name", AVAI_CHOICES)
def test_each_transform_builds_and_is_a_function_of_the_seed(name: str) -> None:
    transform = build_transform(config(), choices=[name])
    # random_crop alone takes the image as it is, and pads it
    image = picture(32, 32) if name == "random_crop" else picture()
    results = []
    for seed in (0, 0, *range(1, 12)):
        set_random_seed(seed)
        results.append(transform(image))
    assert all(one.shape == (3, 32, 32) and one.dtype == torch.float32 for one in results)
    assert torch.equal(results[0], results[1])
    fixed = name in ("center_crop", "normalize", "instance_norm")
    assert fixed == all(torch.equal(results[0], one) for one in results[1:])
    if name not in ("normalize", "instance_norm", "gaussian_noise"):
        assert all(one.min() >= 0 and one.max() <= 1 for one in results)


def test_training_transform_in_upstreams_order_and_words(caplog) -> None:
    caplog.set_level(logging.INFO, logger="dassl")
    everything = [name for name in AVAI_CHOICES if name not in ("center_crop", "autoaugment")]
    steps = build_transform(config(), choices=everything).transforms
    names = [type(step).__name__ for step in steps]
    assert names == [
        "Random2DTranslation", "RandomCrop", "RandomResizedCrop", "RandomHorizontalFlip", "AutoAugment", "AutoAugment",
        "AutoAugment", "RandAugment", "RandAugmentFixMatch", "RandAugment2", "ColorJitter", "RandomGrayscale",
        "RandomApply", "ToTensor", "Cutout", "Normalize", "GaussianNoise", "InstanceNormalization",
    ]  # fmt: skip
    assert caplog.messages == [
        "Building transform_train", "+ random translation", "+ random crop (padding = 4)",
        "+ random resized crop (size=(32, 32), scale=(0.08, 1.0))", "+ random flip", "+ imagenet policy",
        "+ cifar10 policy", "+ svhn policy", "+ randaugment (n=2, m=10)", "+ randaugment_fixmatch (n=2)",
        "+ randaugment2 (n=2)", "+ color jitter (brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)",
        "+ random gray scale", "+ gaussian blur (kernel=21)", "+ to torch tensor of range [0, 1]",
        "+ cutout (n_holes=1, length=16)", "+ normalization (mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])",
        "+ gaussian noise (mean=0.0, std=0.15)", "+ instance normalization",
    ]  # fmt: skip
    caplog.clear()
    build_transform(config(), is_train=False, choices=["normalize"])
    build_transform(config(), choices=["random_flip"])
    assert caplog.messages[:4] == ["Building transform_test", "+ resize the smaller edge to 32", "+ 32x32 center crop",
                                   "+ to torch tensor of range [0, 1]"]  # fmt: skip
    assert caplog.messages[5:8] == ["Building transform_train", "+ resize to 32x32", "+ random flip"]


def test_settings_reach_their_transforms() -> None:
    options = ["INPUT.RRCROP_SCALE", (0.5, 0.9), "INPUT.INTERPOLATION", "bicubic", "INPUT.CUTOUT_N", 3, "INPUT.CUTOUT_LEN", 5,
               "INPUT.GN_MEAN", 0.5, "INPUT.GN_STD", 0.1, "INPUT.RANDAUGMENT_N", 4, "INPUT.RANDAUGMENT_M", 7,
               "INPUT.RGS_P", 0.9, "INPUT.GB_P", 0.3, "INPUT.GB_K", 5, "INPUT.COLORJITTER_H", 0.2,
               "INPUT.CROP_PADDING", 6]  # fmt: skip
    cfg = config(*options)
    steps = {
        type(s).__name__: s for s in build_transform(cfg, choices=[n for n in AVAI_CHOICES if n != "autoaugment"]).transforms
    }
    crop = steps["RandomResizedCrop"]
    assert (crop.scale, crop.size, crop.interpolation) == ((0.5, 0.9), (32, 32), T.InterpolationMode.BICUBIC)
    assert steps["Random2DTranslation"].interpolation == T.InterpolationMode.BILINEAR
    assert (steps["Cutout"].n_holes, steps["Cutout"].length) == (3, 5)
    assert (steps["GaussianNoise"].mean, steps["GaussianNoise"].std) == (0.5, 0.1)
    assert (steps["RandAugment"].n, steps["RandAugment"].m) == (4, 7) and steps["RandAugment2"].n == 4
    assert steps["RandomGrayscale"].p == 0.9 and steps["RandomApply"].p == 0.3 and steps["RandomCrop"].padding == 6
    assert steps["RandomApply"].transforms[0].kernel_size == (5, 5) and steps["ColorJitter"].hue == (-0.2, 0.2)


def test_what_cannot_be_built_is_named(caplog) -> None:
    with pytest.raises(UserError, match='"random_flipp" is unknown. Did you mean "random_flip"'):
        build_transform(config(), choices=["random_flipp"])
    with pytest.raises(UserError, match='"bicubik" is unknown. Did you mean "bicubic"'):
        build_transform(config("INPUT.INTERPOLATION", "bicubik"))
    caplog.set_level(logging.INFO, logger="dassl")
    assert build_transform(config("INPUT.NO_TRANSFORM", True)) is None
    assert caplog.messages == ["Note: no transform is applied!"]


# -- one by one -------------------------------------------------------------------------------------------


def test_random_resized_crop_is_a_box_of_the_image() -> None:
    """A gradient image tells which box was taken: its area lies within RRCROP_SCALE, its sides within the image."""
    x, y = np.meshgrid(np.arange(200), np.arange(100))
    image = Image.fromarray(np.stack([x, y, 0 * x], axis=2).astype(np.uint8))
    transform = build_transform(config("INPUT.RRCROP_SCALE", (0.2, 0.4)), choices=["random_resized_crop"])
    for seed in range(40):
        torch.manual_seed(seed)
        view = transform(image) * 255
        width, height = (view[0].max() - view[0].min()) * 32 / 31, (view[1].max() - view[1].min()) * 32 / 31
        assert 0.17 <= float(width * height) / 20000 <= 0.43


def test_translation_from_its_definition() -> None:
    image, larger = picture(), picture().resize((45, 36), Image.BILINEAR)
    crops = {larger.crop((x, y, x + 40, y + 32)).tobytes() for x in range(6) for y in range(5)}
    plain = image.resize((40, 32), Image.BILINEAR).tobytes()
    moved = 0
    for seed in range(200):
        random.seed(seed)
        view = Random2DTranslation(32, 40)(image)
        assert view.size == (40, 32) and view.tobytes() in crops | {plain}
        moved += view.tobytes() != plain
    assert 60 < moved < 140
    assert Random2DTranslation(32, 40, p=0)(image).tobytes() == plain


def test_instance_norm_cutout_and_noise_from_their_definitions() -> None:
    torch.manual_seed(0)
    image = torch.rand(3, 20, 30)
    normed = InstanceNormalization()(image)
    for channel, want in zip(normed, image, strict=True):
        torch.testing.assert_close(channel, (want - want.mean()) / want.std())
    sizes = set()
    for _ in range(100):
        cut = Cutout(1, 8)(image)
        rows, columns = (cut[0] == 0).any(1).nonzero().flatten(), (cut[0] == 0).any(0).nonzero().flatten()
        hole = cut[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert not hole.any() and (cut != image).sum() == hole.numel()
        sizes.add((len(rows), len(columns)))
    assert (8, 8) in sizes and min(min(size) for size in sizes) >= 4 and max(max(size) for size in sizes) == 8
    noisy = [GaussianNoise(0.5, 0.1)(torch.zeros(3, 50, 50)) for _ in range(100)]
    drawn = torch.stack([one for one in noisy if one.any()])
    assert 25 < len(drawn) < 75 and abs(drawn.mean() - 0.5) < 0.01 and abs(drawn.std() - 0.1) < 0.005


# What an operation does at its strongest, on PIL's own terms
WANT = {
    "AutoContrast": lambda img, v: ImageOps.autocontrast(img),
    "Brightness": lambda img, v: ImageEnhance.Brightness(img).enhance(v),
    "Color": lambda img, v: ImageEnhance.Color(img).enhance(v),
    "Contrast": lambda img, v: ImageEnhance.Contrast(img).enhance(v),
    "Equalize": lambda img, v: ImageOps.equalize(img),
    "Identity": lambda img, v: img,
    "Invert": lambda img, v: Image.fromarray(255 - np.asarray(img)),
    "Posterize": lambda img, v: Image.fromarray(np.asarray(img) >> (8 - int(v)) << (8 - int(v))),
    "Rotate": lambda img, v: img.rotate(v),
    "Sharpness": lambda img, v: ImageEnhance.Sharpness(img).enhance(v),
    "Solarize": lambda img, v: ImageOps.solarize(img, v),
    "SolarizeAdd": lambda img, v: ImageOps.solarize(
        Image.fromarray(np.clip(np.asarray(img).astype(int) + int(v), 0, 255).astype(np.uint8)), 128
    ),
    "ShearX": lambda img, v: img.transform(img.size, Image.AFFINE, (1, v, 0, 0, 1, 0)),
    "ShearY": lambda img, v: img.transform(img.size, Image.AFFINE, (1, 0, 0, v, 1, 0)),
    "TranslateX": lambda img, v: img.transform(img.size, Image.AFFINE, (1, 0, v * img.width, 0, 1, 0)),
    "TranslateY": lambda img, v: img.transform(img.size, Image.AFFINE, (1, 0, 0, 0, 1, v * img.height)),
    "TranslateXabs": lambda img, v: img.transform(img.size, Image.AFFINE, (1, 0, v, 0, 1, 0)),
    "TranslateYabs": lambda img, v: img.transform(img.size, Image.AFFINE, (1, 0, 0, 0, 1, v)),
}
EITHER_SIGN = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY", "TranslateXabs", "TranslateYabs")


@pytest.mark.parametrize("table", [RANDAUGMENT, RANDAUGMENT2, FIXMATCH], ids=["16", "15", "fixmatch"])
def test_randaugment_operations_on_pils_terms(table) -> None:
    image = picture()
    for name, ends in table.items():
        if name == "CutoutAbs":
            continue
        for value in (*ends, sum(ends) / 2):
            results = {OPERATIONS[name](image, value).tobytes() for _ in range(20)}
            signs = (1, -1) if name in EITHER_SIGN else (1,)
            assert results == {WANT[name](image, sign * value).tobytes() for sign in signs}, (name, value)


def test_randaugment_cutout_paints_a_square_of_grey() -> None:
    image = Image.new("RGB", (60, 45))
    for _ in range(50):
        painted = np.asarray(OPERATIONS["CutoutAbs"](image, 10))
        rows, columns = painted.any(2).any(1).nonzero()[0], painted.any(2).any(0).nonzero()[0]
        assert 1 <= len(rows) <= 12 and 1 <= len(columns) <= 12
        assert (painted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == (125, 123, 114)).all()
    assert not np.asarray(image).any(), "the image itself is left alone"


def test_randaugment_draws_its_operations_and_magnitudes(monkeypatch) -> None:
    seen: list[tuple[str, float]] = []
    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, lambda img, v, name=name: seen.append((name, v)) or img)
    random.seed(0)
    image = picture()
    for _ in range(300):
        RandAugment(2, 15)(image)
    assert len(seen) == 600 and {name for name, _ in seen} == set(RANDAUGMENT)
    assert all(value == pytest.approx(sum(RANDAUGMENT[name]) / 2) for name, value in seen)
    for transform, table, least, most in (
        (RandAugment2(2), RANDAUGMENT2, 300, 420),
        (RandAugmentFixMatch(2), FIXMATCH, 600, 600),
    ):
        seen.clear()
        for _ in range(300):
            transform(image)
        assert least <= len(seen) <= most and {name for name, _ in seen} == set(table)
        assert all(table[name][0] <= value <= table[name][1] for name, value in seen)
        assert len({value for name, value in seen if name == "Rotate"}) > 5
    with pytest.raises(ValueError, match="between 0 and 30"):
        RandAugment(2, 31)
