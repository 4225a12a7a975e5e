"""Encoded images without a backbone: which view of which file each row is, what a key holds, what a run's store gives."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torchvision import transforms
from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.data import DatasetWrapper
from dassl.data.datasets import Datum
from features import Encoder, FeatureLoader, FeatureStore, StoredLoader, build_store, sentence_features

SIZE = 8


# -- the encoder ------------------------------------------------------------------------------------------


def images(root: Path, count: int = 3, shades: tuple[int, ...] = (10, 120, 240)) -> list[Datum]:
    root.mkdir(exist_ok=True)
    for number in range(count):
        Image.new("RGB", (SIZE, SIZE), (shades[number], number, 0)).save(root / f"{number}.png")
    return [Datum(str(root / f"{number}.png"), label=number % 2, classname=f"c{number % 2}") for number in range(count)]


def wrapped(source: list[Datum], transform=None, train: bool = False, **settings: object) -> DatasetWrapper:
    cfg = get_cfg_default()
    cfg.SEED, cfg.DATASET.ROOT = 1, str(Path(source[0].impath).parent)
    for key, value in settings.items():
        cfg.INPUT[key] = value
    return DatasetWrapper(cfg, source, transform=transform or transforms.ToTensor(), is_train=train)


def means(batch: torch.Tensor) -> torch.Tensor:
    """(B, 3) mean of each channel: an "image tower"; in double, which is kept as float."""
    return batch.double().mean(dim=(2, 3))


def encoder(root: Path | None, seen: list[int] | None = None, **about: object) -> Encoder:
    def encode(batch: torch.Tensor) -> torch.Tensor:
        if seen is not None:
            seen.append(len(batch))
        return means(batch)

    return Encoder(encode, batch_size=2, root=root, about=lambda: about)


def shade(dataset: DatasetWrapper, number: int, epoch: int = 0) -> torch.Tensor:
    return dataset.item(number, epoch)["img"].mean(dim=(1, 2))


class Shade:
    """Multiplies by ``by``; without a ``repr`` of its own."""

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image * self.by


@pytest.mark.parametrize("stored", [False, True])
def test_every_view_of_every_image_stands_at_its_place(stored: bool, tmp_path: Path) -> None:
    jitter = transforms.Compose([transforms.ToTensor(), transforms.Lambda(lambda image: image * torch.rand(()))])
    dataset = wrapped(images(tmp_path / "images"), jitter, train=True)
    state = torch.get_rng_state()
    sets = encoder(tmp_path / "store" if stored else None)(dataset, epochs=(4, 1))
    assert torch.equal(torch.get_rng_state(), state)  # encoding does not move the training's random stream
    for epoch, found in zip((4, 1), sets, strict=True):
        want = torch.stack([shade(dataset, number, epoch) for number in range(3)])
        assert found.features.dtype == torch.float32 and found.labels.tolist() == [0, 1, 0]
        torch.testing.assert_close(found.features, want)
    assert not torch.equal(sets[0].features, sets[1].features)


def test_only_what_is_new_is_encoded_and_every_row_is_its_image_s(tmp_path: Path) -> None:
    source, seen = images(tmp_path / "images"), []
    encoder(tmp_path / "store", seen)(wrapped(source[1:2]))
    assert sum(seen) == 1
    dataset = wrapped(source)
    got = encoder(tmp_path / "store", seen)(dataset)[0].features
    assert sum(seen) == 3
    torch.testing.assert_close(got, torch.stack([shade(dataset, number) for number in range(3)]))


@pytest.mark.parametrize("same_time", [False, True])
def test_a_changed_file_is_encoded_again(same_time: bool, tmp_path: Path) -> None:
    source = images(tmp_path / "images")
    path = Path(source[0].impath)
    use = encoder(tmp_path / "store")
    first = use(wrapped(source))[0].features
    before, old = path.stat(), path.read_bytes()
    pixels = Image.effect_noise((SIZE, SIZE), 50) if same_time else Image.new("RGB", (SIZE, SIZE), (11, 0, 0))
    pixels.convert("RGB").save(path)
    if same_time:  # another size, the same time
        assert path.stat().st_size != before.st_size
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:  # another time, the same size and the same beginning
        assert path.stat().st_size == before.st_size and path.read_bytes()[:40] == old[:40] and path.read_bytes() != old
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    dataset = wrapped(source)
    again = use(dataset)[0].features
    assert not torch.equal(again[0], first[0]) and torch.equal(again[1:], first[1:])
    torch.testing.assert_close(again[0], shade(dataset, 0))


def test_images_that_differ_far_into_the_file_have_rows_of_their_own(tmp_path: Path) -> None:
    for number in range(3):
        image = Image.new("RGB", (SIZE, SIZE))
        image.putpixel((SIZE - 1, 0), (number, 0, 0))  # a BMP has its first row last
        image.save(tmp_path / f"{number}.bmp")
    assert len({(tmp_path / f"{number}.bmp").read_bytes()[:200] for number in range(3)}) == 1
    source = [Datum(str(tmp_path / f"{number}.bmp")) for number in range(3)]
    rows = encoder(tmp_path / "store")(wrapped(source))[0].features
    assert len({tuple(one.tolist()) for one in rows}) == 3


def test_another_transform_tower_or_reading_reads_no_row_of_the_first(tmp_path: Path) -> None:
    source, seen = images(tmp_path / "images"), []
    deep = Image.new("I;16", (SIZE, SIZE))
    deep.putdata([37 * number for number in range(SIZE * SIZE)])
    deep.save(tmp_path / "images" / "0.png")
    compose = transforms.Compose
    root = tmp_path / "store"
    variants = [
        lambda: encoder(root, seen)(wrapped(source, compose([transforms.ToTensor(), Shade(1.0)]))),
        lambda: encoder(root, seen)(wrapped(source, compose([transforms.ToTensor(), Shade(0.5)]))),
        lambda: encoder(root, seen, weights="other")(wrapped(source, compose([transforms.ToTensor(), Shade(0.5)]))),
        lambda: encoder(root, seen)(wrapped(source)),
    ]
    for number, variant in enumerate(variants, start=1):
        variant()
        variant()
        assert sum(seen) == 3 * number
    a, b = (variants[place]()[0].features for place in (0, 1))
    torch.testing.assert_close(a, 2 * b)
    for number, window in enumerate(([0.0, 500.0], [0.0, 3000.0]), start=1):  # the other two are 8-bit: no window is read
        encoder(root, seen)(wrapped(source, WINDOW=window))
        assert sum(seen) == 3 * len(variants) + number


def test_a_space_is_named_by_all_steps_of_a_transform() -> None:
    from features.encoder import transform_name

    resize = [transforms.Resize(size) for size in (4, 5)]
    names = {transform_name(transforms.Compose([transforms.ToTensor(), step])) for step in resize}
    assert len(names) == 2
    assert transform_name(Shade(1.0)) != transform_name(Shade(2.0)) == transform_name(Shade(2.0))  # no address in it


# -- the store of a run, loaders, sentences ---------------------------------------------------------------


class Counted:
    """Stands for an encoder: the features of (epoch, image) are just those two numbers."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __call__(self, dataset, epochs=(0,), name="images"):
        self.asked.append(list(epochs))
        labels = torch.arange(len(dataset))
        return [
            SimpleNamespace(features=torch.stack([torch.full((len(dataset),), e), labels], 1), labels=labels) for e in epochs
        ]


def test_views_are_of_the_epoch_that_is_asked_for_and_none_is_encoded_in_vain() -> None:
    use = Counted()
    store = FeatureStore(use, {}, range(3), last_epoch=5)
    store.ahead = 2
    for epoch in range(5):
        assert (store.views(epoch, keep=False).features[:, 0] == epoch).all()
    assert use.asked == [[0, 1], [2, 3], [4]]  # no sixth epoch
    store.views(4, keep=True)
    store.views(4, keep=True)
    assert len(use.asked) == 4 and store._coming.keys() == {4}  # what is not kept takes no memory


def test_a_bank_of_views_is_kept_and_gone_round() -> None:
    use = Counted()
    store = FeatureStore(use, {}, range(3), last_epoch=9, bank=2)
    epochs = [int(store.views(epoch, keep=False).features[0, 0]) for epoch in range(9)]
    assert epochs == [0, 1] * 4 + [0] and sorted(sum(use.asked, [])) == [0, 1]


def test_the_images_of_a_part_are_encoded_once_and_test_images_never() -> None:
    use = Counted()
    store = FeatureStore(use, {"train": range(2), "val": None}, range(3))
    assert len(store.images("train").labels) == len(store.images("train").labels) == 2 and len(use.asked) == 1
    assert store.images("val") is None
    for make in (lambda: store.images("test"), lambda: FeatureStore(use, {"test": range(2)}, range(3))):
        with pytest.raises(ValueError, match="only test"):
            make()


def test_training_images_are_seen_as_a_test_sees_them(tmp_path: Path) -> None:
    cfg, source = get_cfg_default(), images(tmp_path / "images")
    cfg.DATASET.ROOT, cfg.FEATURES = str(tmp_path), CfgNode({"VIEWS": 0})
    loaders = {part: SimpleNamespace(dataset=wrapped(source, Shade(by), part == "train_loader_x"))
               for part, by in (("train_loader_x", 1.0), ("val_loader", 2.0), ("test_loader", 3.0))}  # fmt: skip
    given = []

    def use(dataset, epochs=(0,), name="images"):
        given.append(dataset)
        return [dataset for _ in epochs]

    store = build_store(cfg, SimpleNamespace(dataset=SimpleNamespace(train_x=source), **loaders), use)
    store.images("train")
    assert given[0].data_source is source and given[0].transform is loaders["test_loader"].dataset.transform
    assert given[0].view_name(0, 0) == given[0].view_name(0, 3) == ""  # one row for all seeds and epochs
    assert store.images("val") is loaders["val_loader"].dataset
    store.views(0)
    assert given[-1] is loaders["train_loader_x"].dataset


def test_batches_hold_the_rows_labels_and_paths_of_their_images(tmp_path: Path) -> None:
    source = [Datum(f"{n}.png", label=n) for n in range(5)]
    batches = [[3, 1], [4, 0]]
    loader = SimpleNamespace(
        batch_sampler=batches, dataset=SimpleNamespace(data_source=source, __len__=lambda: 5), sampler=None
    )
    training = FeatureLoader(loader, FeatureStore(Counted(), {}, range(5), last_epoch=9))
    training.set_epoch(6)
    for rows, batch in zip(batches, training, strict=True):
        assert batch["img"].tolist() == [[6, row] for row in rows] and batch["label"].tolist() == rows
    dataset = wrapped(images(tmp_path / "images"))
    stored = StoredLoader(
        SimpleNamespace(batch_sampler=[[2, 0], [1]], dataset=dataset), encoder(tmp_path / "store", seen := [])
    )
    stored.fill()
    assert sum(seen) == 3  # all are seen before training
    for rows, batch in zip([[2, 0], [1]], stored, strict=True):
        assert batch["impath"] == [dataset.data_source[row].impath for row in rows]
        assert batch["label"].tolist() == [row % 2 for row in rows]
        torch.testing.assert_close(batch["img"], torch.stack([shade(dataset, row) for row in rows]))
    assert sum(seen) == 3


class Letters:
    """A text tower on letters: ids padded to the longest, the feature is their weighted sum."""

    def __init__(self, shift: int = 0) -> None:
        self.seen: list[str] = []
        self.shift = shift

    def tokenize(self, texts):
        longest = max(map(len, texts))
        ids = torch.tensor([[ord(letter) + self.shift for letter in text] + [0] * (longest - len(text)) for text in texts])
        return SimpleNamespace(ids=ids, mask=(ids != 0).long())

    def encode_text(self, texts):
        self.seen += texts
        sums = [sum((place + 1) * ord(letter) for place, letter in enumerate(text)) for text in texts]
        return torch.tensor([[float(value), float(len(text))] for value, text in zip(sums, texts, strict=True)]).double()


def test_a_sentence_is_known_by_its_tokens_alone(tmp_path: Path) -> None:
    tower, about = Letters(), lambda: {"tower": 1}
    first = sentence_features(["ab", "ba"], tower, tmp_path, about)
    more = sentence_features(["long one", "ba", "cd", "ab"], tower, tmp_path, about)
    assert tower.seen == ["ab", "ba", "long one", "cd"]  # padding is not part of a sentence
    assert torch.equal(more[[3, 1]], first) and not torch.equal(first[0], first[1])
    assert torch.equal(more, Letters().encode_text(["long one", "ba", "cd", "ab"]).float())
    kept = sentence_features(["ab"], tower, None, lambda: pytest.fail("asked"))
    assert kept.dtype == more.dtype == torch.float32 and torch.equal(kept[0], first[0])
    for other, said in ((Letters(1), about), (Letters(), lambda: {"tower": 2})):
        sentence_features(["ab"], other, tmp_path, said)
        assert other.seen == ["ab"]
