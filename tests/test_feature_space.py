"""Stored rows without a backbone: which key reads which row, what is left out, refused and removed, who waits for whom."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock, Timeout
from PIL import Image
from safetensors.torch import save_file
from torchvision import transforms
from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.data import DatasetWrapper
from dassl.data.datasets import Datum
from dassl.utils import UserError
from features import Encoder, FeatureLoader, FeatureStore, StoredLoader, build_store, sentence_features
from features import disk as on_disk
from features.__main__ import main as command
from features.disk import CHUNK, DamagedSegment, Space, checksum, default_root, digest, prune, read_segment, spaces, verify

SIZE = 8


def keys_of(numbers: range) -> list[bytes]:
    return [digest(str(number)) for number in numbers]


def row(number: int) -> torch.Tensor:
    return torch.tensor([number, number**2, -1.0])


def rows_of(numbers) -> torch.Tensor:
    return torch.stack([row(number) for number in numbers])


def segments(root: Path) -> list[Path]:
    return sorted(root.glob("*/[!.]*.safetensors"))


# -- the rows of a space ----------------------------------------------------------------------------------


def test_parts_of_a_key_do_not_run_into_each_other_and_a_space_is_named_by_what_it_holds(tmp_path: Path) -> None:
    assert len({digest("ab", "c"), digest("a", "bc"), digest("abc"), digest("ab", "c", "")}) == 4
    one, other = Space(tmp_path, {"a": 1, "b": 2}), Space(tmp_path, {"b": 2, "a": 1})
    assert one.folder == other.folder != Space(tmp_path, {"a": 1}).folder


def test_many_rows_are_computed_in_parts_each_at_its_place_and_once(tmp_path: Path) -> None:
    count, asked = 2 * CHUNK + 40, []
    space = Space(tmp_path, {})
    space.put(keys_of(range(5, 9)), rows_of(range(5, 9)))

    def compute(places):
        asked.append(list(places))
        return rows_of(places)

    for again in (space, Space(tmp_path, {})):
        assert torch.equal(again.fetch(keys_of(range(count)), compute), rows_of(range(count)))
    assert max(map(len, asked)) <= CHUNK and sorted(sum(asked, [])) == [n for n in range(count) if n not in range(5, 9)]
    some = keys_of(range(count))[::-7]
    assert torch.equal(Space(tmp_path, {}).fetch(some, compute), rows_of(range(count)[::-7]))
    mixed = space.fetch([digest("new"), *some], lambda places: rows_of([7000 + place for place in places]))
    assert torch.equal(mixed, torch.cat([rows_of([7000]), rows_of(range(count)[::-7])]))


def test_rows_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    space, rows = Space(tmp_path, {}), rows_of(range(3))
    for bad in (rows[:2], rows[0], rows[None]):
        with pytest.raises(ValueError, match="3 keys for rows"):
            space.put(keys_of(range(3)), bad)
    rows[1, 1] = float("inf")  # one value among finite ones
    with pytest.raises(UserError, match="infinite or NaN"):
        space.put(keys_of(range(3)), rows)
    assert space.get(keys_of(range(3))) == {} and segments(tmp_path) == []


def test_what_another_process_added_is_seen_beside_what_is_known(tmp_path: Path) -> None:
    mine, other = Space(tmp_path, {}), Space(tmp_path, {})
    mine.put(keys_of(range(2)), rows_of(range(2)))
    other.put(keys_of(range(2, 4)), rows_of(range(2, 4)))
    assert len(mine.get(keys_of(range(4)))) == 4
    third = Space(tmp_path, {})
    found = mine.get(keys_of(range(5)))
    third.put(keys_of(range(4, 5)), rows_of(range(4, 5)))
    assert len(found) == 4  # then, while this one waits for the lock, the fifth comes
    got = mine.fetch(keys_of(range(5)), lambda places: pytest.fail(f"{places} computed again"))
    assert torch.equal(got, rows_of(range(5)))


def test_rows_that_came_while_one_waited_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, keys = Space(tmp_path, {}), keys_of(range(3))
    filling = mine.filling

    def waiting():
        Space(tmp_path, {}).put(keys, rows_of(range(3)))  # by the one that held the lock
        return filling()

    monkeypatch.setattr(mine, "filling", waiting)
    got = mine.fetch(keys, lambda places: pytest.fail(f"{places} computed again"))
    assert torch.equal(got, rows_of(range(3)))


def _locked(folder: Path, answers) -> None:
    try:
        FileLock(folder / ".lock", timeout=0.05).acquire()
        answers.put("free")
    except Timeout:
        answers.put("held")


def held(folder: Path) -> bool:
    """Whether another process would wait for the space."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_locked, args=(folder, answers))
    child.start()
    answer = answers.get()
    child.join()
    return answer == "held"


def test_one_fills_while_others_wait(tmp_path: Path) -> None:
    space = Space(tmp_path, {})
    during: list[bool] = []

    def compute(places):
        during.append(held(space.folder))
        return rows_of(places)

    space.fetch(keys_of(range(2)), compute)
    assert during == [True] and not held(space.folder)
    with pytest.raises(ZeroDivisionError) as caught:  # which keeps all that the failed call had at hand
        space.fetch(keys_of(range(2, 4)), lambda places: 1 / 0)
    assert caught.value.__traceback__ is not None and not held(space.folder)


@pytest.mark.parametrize("wrong", ["rows", "keys", "fewer", "widths", "folder"])
def test_a_segment_that_is_not_what_was_written_gives_no_row(wrong: str, tmp_path: Path) -> None:
    space = Space(tmp_path, {})
    space.put(keys_of(range(4)), rows_of(range(4)))
    (path,) = segments(tmp_path)
    keys, rows = read_segment(path)
    packed = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).view(-1, 32)
    rows, whole = rows.clone(), checksum(packed, rows)
    if wrong == "rows":
        rows[2, 1] += 1
    elif wrong == "keys":
        packed = packed.flip(0).contiguous()
    elif wrong == "fewer":
        rows, whole = rows[:3].contiguous(), checksum(packed, rows[:3].contiguous())
    elif wrong == "widths":
        rows = rows.view(4, 3)[:, :2].contiguous()
    save_file({"keys": packed, "rows": rows}, path, metadata={"checksum": whole})
    if wrong == "folder":
        path.unlink()
        path.mkdir()
    with pytest.raises(DamagedSegment, match=path.name):
        read_segment(path)
    assert Space(tmp_path, {}).get(keys_of(range(4))) == {}
    assert len(verify(tmp_path)) == 1


def test_a_segment_is_written_under_a_name_that_no_reader_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space, seen = Space(tmp_path, {}), []

    def half(tensors, path, metadata) -> None:
        Path(path).write_bytes(b"half")
        seen.append((segments(tmp_path), verify(tmp_path), Space(tmp_path, {}).get(keys_of(range(1)))))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(on_disk, "save_file", half)
    with pytest.raises(OSError, match="No space"):
        space.put(keys_of(range(1)), rows_of(range(1)))
    assert seen == [([], [], {})]
    assert [path.name for path in space.folder.iterdir()] == ["space.json"]  # nothing half-written stays


def test_a_full_disk_is_said_once_and_costs_no_row(tmp_path, monkeypatch, caplog: pytest.LogCaptureFixture) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(on_disk, "save_file", full)
    space = Space(tmp_path, {})
    with caplog.at_level(logging.WARNING, logger="features.disk"):
        for start in (0, 4, 8):
            got = space.fetch(
                keys_of(range(start, start + 4)), lambda places, start=start: rows_of([start + p for p in places])
            )
            assert torch.equal(got, rows_of(range(start, start + 4)))
            assert len(caplog.records) == 1
    assert [record.message.count("are not kept") for record in caplog.records] == [1]


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written to.*FEATURES\.ROOT"):
        Space(tmp_path / "file", {}).fetch(keys_of(range(1)), rows_of)


# -- the store as a whole ---------------------------------------------------------------------------------


def test_the_root_is_the_one_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIOMED_DPT_CACHE", str(tmp_path))
    assert default_root() == tmp_path / "features"


def filled(root: Path, *used: int) -> list[Path]:
    """One space of two segments per time of use (the later of the two)."""
    folders = []
    for number, when in enumerate(used):
        space = Space(root, {"number": number})
        for part in (0, 1):
            space.put(keys_of(range(4 * part, 4 * part + 4)), rows_of(range(4)))
        for path, moment in zip(sorted(space.folder.glob("*.safetensors")), (when, 1), strict=True):
            os.utime(path, (moment, 0))
        folders.append(space.folder)
    return folders


def test_reading_counts_as_use_and_the_least_used_goes_first(tmp_path: Path) -> None:
    now = int(time.time())  # what was read today is not marked again by most file systems themselves
    oldest, old, new = filled(tmp_path, now - 3000, now - 2000, now - 1000)
    each = {space["folder"]: space["bytes"] for space in spaces(tmp_path)}
    assert each[old] == sum(path.stat().st_size for path in old.glob("*.safetensors"))
    assert {space["folder"]: space["used"] for space in spaces(tmp_path)} == {
        oldest: now - 3000,
        old: now - 2000,
        new: now - 1000,
    }
    Space(tmp_path, {"number": 0}).get(keys_of(range(1)))
    assert prune(tmp_path, sum(each.values())) == []
    assert prune(tmp_path, each[oldest] + each[new]) == [old]
    assert prune(tmp_path, each[oldest]) == [new] and oldest.is_dir() and not new.exists()


def test_the_command_removes_what_it_says_and_nothing_behind_a_link(tmp_path: Path, capsys) -> None:
    root = tmp_path / "root"
    (one,) = filled(root, 1000)
    words = ["--root", str(root)]
    assert command([*words, "prune", "--max-gb", "0.0005"]) == 0 and one.is_dir()  # half a MB: all fits
    assert command([*words, "prune", "--max-gb", "-0.5"]) == 2 and one.is_dir()
    os.rename(one, tmp_path / "elsewhere")
    one.symlink_to(tmp_path / "elsewhere")
    capsys.readouterr()
    assert command([*words, "prune", "--max-gb", "0"]) == 2 and "is a link" in capsys.readouterr().err
    assert len(list((tmp_path / "elsewhere").glob("*.safetensors"))) == 2
    one.unlink()
    os.rename(tmp_path / "elsewhere", one)
    next(one.glob("*.safetensors")).write_bytes(b"cut")
    assert command([*words, "verify"]) == 1 and len(segments(root)) == 2
    assert command([*words, "verify", "--remove"]) == 0 and len(segments(root)) == 1
    assert command([*words, "verify"]) == 0
    assert command([*words, "prune", "--max-gb", "0"]) == 0 and not one.exists()


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
        return [dataset]

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
