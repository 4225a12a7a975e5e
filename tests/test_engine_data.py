"""The engine's few-shot draw, samplers and loaders."""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dassl.config import get_cfg_default
from dassl.data import DatasetWrapper
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum, build_dataset
from dassl.data.loader import set_loader_epoch
from dassl.data.samplers import build_sampler
from dassl.utils import SettingError, UserError
from tests.engine_helpers import third_party_config, write_toy_images


def items(labels: list[int], domains: list[int] | None = None) -> list[Datum]:
    domains = domains or [0] * len(labels)
    pairs = enumerate(zip(labels, domains, strict=True))
    return [Datum(impath=f"{n}.png", label=label, domain=domain, classname=f"c{label}") for n, (label, domain) in pairs]


# -- datasets ---------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 6), st.booleans(), st.integers(0, 99))
def test_few_shot_draw_is_upstreams(labels: list[int], shots: int, repeat: bool, seed: int) -> None:
    train, val = items(labels), items(labels[::-1])
    random.seed(seed)
    want = []
    for source in (train, val):
        part, groups = [], defaultdict(list)
        for item in source:
            groups[item.label].append(item)
        for group in groups.values():  # labels in order of first appearance
            if len(group) >= shots:
                part += random.sample(group, shots)
            elif repeat:
                part += random.choices(group, k=shots)
            else:
                part += group
        want.append(part)
    random.seed(seed)
    assert DatasetBase().generate_fewshot_dataset(train, val, num_shots=shots, repeat=repeat) == want
    random.seed(seed)
    assert DatasetBase().generate_fewshot_dataset(train, num_shots=shots, repeat=repeat) == want[0]


def test_without_shots_the_sources_come_back(caplog) -> None:
    caplog.set_level(logging.INFO, logger="dassl")
    train, val = items([0, 1]), items([1])
    assert DatasetBase().generate_fewshot_dataset(train) is train
    first, second = DatasetBase().generate_fewshot_dataset(train, val, num_shots=0)
    assert first is train and second is val and not caplog.records
    DatasetBase().generate_fewshot_dataset(train, num_shots=3)
    assert caplog.messages == ["Creating a 3-shot dataset"]


def test_dataset_base_counts_and_names() -> None:
    dataset = DatasetBase(train_x=items([2, 0, 2]), test=items([1, 0]))
    assert (dataset.num_classes, dataset.lab2cname, dataset.classnames) == (3, {2: "c2", 1: "c1", 0: "c0"}, ["c0", "c1", "c2"])
    assert dataset.train_u is None and len(dataset.test) == 2
    with pytest.raises(SettingError, match="no image has the label 1"):
        DatasetBase(train_x=items([2, 0]), test=items([2]))
    with pytest.raises(SettingError, match="an image has the label -1"):
        DatasetBase(train_x=items([0, 1]), val=items([-1]))
    with pytest.raises(SettingError, match='label 1 is "c1" and "other"'):
        DatasetBase(train_x=items([0, 1]), test=[Datum(impath="x.png", label=1, classname="other")])
    by_domain = dataset.split_dataset_by_domain(items([0, 1, 2], [5, 3, 5]))
    assert {domain: [item.label for item in group] for domain, group in by_domain.items()} == {5: [0, 2], 3: [1]}
    dataset.domains = ["mri", "ct"]
    dataset.check_input_domains(["mri"], ["ct"])
    with pytest.raises(ValueError, match='"cta" is unknown. Did you mean "ct"'):
        dataset.check_input_domains(["mri"], ["cta"])
    with pytest.raises(ValueError, match="source domain"):
        dataset.check_input_domains([], ["ct"])


def test_datasets_are_built_by_name() -> None:
    import toy_dataset

    assert DATASET_REGISTRY.get("ToyStripes") is toy_dataset.ToyStripes
    cfg = get_cfg_default()
    cfg.DATASET.NAME = "ToyStripe"
    with pytest.raises(UserError, match='Did you mean "ToyStripes"'):
        build_dataset(cfg)


# -- samplers ---------------------------------------------------------------------------------------------


def order(name: str, source: list[Datum], seed: int = 1, epoch: int = 0, **kwargs) -> list[int]:
    cfg = get_cfg_default()
    cfg.SEED = seed
    sampler = build_sampler(name, cfg, source, **kwargs)
    if epoch:
        sampler.set_epoch(epoch)
    drawn = list(sampler)
    assert len(sampler) == len(drawn)
    return drawn


@given(st.integers(1, 50), st.integers(0, 5), st.integers(0, 5))
def test_random_and_sequential_order(count: int, seed: int, epoch: int) -> None:
    source = items([0] * count)
    state = random.getstate(), torch.get_rng_state()
    drawn = order("RandomSampler", source, seed, epoch)
    assert random.getstate() == state[0] and torch.equal(torch.get_rng_state(), state[1])
    assert sorted(drawn) == list(range(count)) == order("SequentialSampler", source)
    assert drawn == order("RandomSampler", source, seed, epoch)
    if count > 20:
        others = order("RandomSampler", source, seed + 1, epoch), order("RandomSampler", source, seed, epoch + 1)
        assert len({tuple(drawn), *map(tuple, others)}) == 3


@given(st.lists(st.integers(0, 3), min_size=12, max_size=60), st.integers(1, 3), st.integers(1, 2), st.integers(0, 9))
def test_random_domain_sampler(domains: list[int], each: int, n_domain: int, seed: int) -> None:
    source = items([0] * len(domains), domains)
    n_domain = min(n_domain, len(set(domains)))
    drawn = order("RandomDomainSampler", source, seed, batch_size=each * n_domain, n_domain=n_domain)
    left = Counter(domains)
    for start in range(0, len(drawn), each * n_domain):
        assert min(left.values()) >= each, "it should have stopped before"
        batch = [domains[index] for index in drawn[start : start + each * n_domain]]
        counts = Counter(batch)
        assert len(counts) == n_domain and set(counts.values()) == {each}
        left -= counts
        left.update(dict.fromkeys(set(domains), 0))
    assert min(left.values()) < each, "it stopped too early"
    assert len(set(drawn)) == len(drawn)


def test_sequential_domain_sampler_takes_all_domains_in_order() -> None:
    domains = [1] * 6 + [0] * 9 + [2] * 7
    drawn = [domains[index] for index in order("SeqDomainSampler", items([0] * 22, domains), batch_size=6)]
    assert drawn == [0, 0, 1, 1, 2, 2] * 3
    with pytest.raises(ValueError, match="divide the batch size"):
        order("SeqDomainSampler", items([0] * 22, domains), batch_size=4)


@given(st.lists(st.integers(0, 4), min_size=10, max_size=60), st.integers(1, 4), st.integers(0, 9))
def test_random_class_sampler(labels: list[int], n_ins: int, seed: int) -> None:
    classes = min(2, len(set(labels)))
    drawn = order("RandomClassSampler", items(labels), seed, batch_size=n_ins * classes, n_ins=n_ins)
    left = {label: max(1, count // n_ins) for label, count in Counter(labels).items()}  # groups of n_ins per class
    for start in range(0, len(drawn), n_ins * classes):
        groups = [drawn[at : at + n_ins] for at in range(start, start + n_ins * classes, n_ins)]
        batch = [{labels[index] for index in group} for group in groups]
        assert all(len(one) == 1 for one in batch) and len(set.union(*batch)) == classes
        for one in batch:
            left[one.pop()] -= 1
    assert sum(count > 0 for count in left.values()) < classes and min(left.values()) >= 0
    with pytest.raises(ValueError, match="no less than N_INS"):
        order("RandomClassSampler", items(labels), batch_size=n_ins - 1, n_ins=n_ins)


# -- loaders ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_images(tmp_path_factory.mktemp("toy"))


def toy(root: Path, *options: object):
    """A config of the toy dataset and its 24 training images."""
    import toy_dataset

    cfg = third_party_config("none", "coop", root, root / "out", *options)
    return cfg, toy_dataset.ToyStripes(cfg).train_x


def views(loader) -> tuple[list[int], torch.Tensor]:
    batches = list(loader)
    indices = [index for batch in batches for index in batch["index"].tolist()]
    images = torch.cat([batch["img"] for batch in batches])
    return indices, images[torch.tensor(indices).argsort()]


def train_loader(cfg, source, **kwargs):
    from dassl.data.transforms import build_transform

    options = {"sampler_type": "RandomSampler", "batch_size": 8, "tfm": build_transform(cfg)} | kwargs
    return build_data_loader(cfg, data_source=source, **options)


def test_views_depend_on_seed_epoch_and_image_alone(toy_root: Path) -> None:
    cfg, source = toy(toy_root)
    loader = train_loader(cfg, source)
    first_order, first = views(loader)
    set_loader_epoch(loader, 1)
    second_order, second = views(loader)
    assert sorted(first_order) == list(range(24)) and first_order != second_order
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
    random.random(), torch.rand(9)
    workers, _ = toy(toy_root, "DATALOADER.NUM_WORKERS", 2)
    other = train_loader(workers, source, batch_size=6)
    set_loader_epoch(other, 1)
    again_order, again = views(other)
    assert again_order == second_order and torch.equal(again, second)
    seeded, _ = toy(toy_root, "SEED", 2)
    assert not torch.equal(views(train_loader(seeded, source))[1], first)


def test_each_pass_is_another_even_if_nobody_says_which_epoch_it_is(toy_root: Path) -> None:
    cfg, source = toy(toy_root, "DATALOADER.NUM_WORKERS", 1)
    loader = train_loader(cfg, source)
    passes = [views(loader) for _ in range(3)]
    assert len({tuple(indices) for indices, _ in passes}) == 3
    assert not torch.equal(passes[0][1], passes[1][1]) and not torch.equal(passes[1][1], passes[2][1])
    set_loader_epoch(loader, 0)
    indices, images = views(loader)
    assert indices == passes[0][0] and torch.equal(images, passes[0][1])


def test_items_and_their_keys(toy_root: Path) -> None:
    cfg, source = toy(toy_root, "DATALOADER.RETURN_IMG0", True)
    plain = Image.open(source[3].impath).convert("RGB")
    item = DatasetWrapper(cfg, source, transform=lambda image: image, is_train=True)[3]
    assert sorted(item) == ["domain", "img", "img0", "impath", "index", "label"]
    assert (item["label"], item["domain"], item["impath"], item["index"]) == (0, 0, source[3].impath, 3)
    assert item["img"].tobytes() == plain.tobytes()
    assert item["img0"].shape == (3, 32, 32)
    assert DatasetWrapper(cfg, source)[3]["img"].tobytes() == plain.tobytes()

    def coin(image: Image.Image) -> float:
        return random.random()

    cfg.defrost()
    cfg.DATALOADER.K_TRANSFORMS = 2
    twice = DatasetWrapper(cfg, source, transform=[coin, coin], is_train=True)[3]
    assert len({*twice["img"], *twice["img2"]}) == 4, "four different draws"
    assert DatasetWrapper(cfg, source, transform=[coin, coin], is_train=True)[3]["img"] == twice["img"]
    assert isinstance(DatasetWrapper(cfg, source, transform=coin)[3]["img"], float), "once in testing"
    with pytest.raises(ValueError, match="Cannot augment the image 2 times"):
        DatasetWrapper(cfg, source, is_train=True)


def test_last_batch_is_dropped_only_if_there_is_a_whole_one(toy_root: Path) -> None:
    cfg, source = toy(toy_root)
    assert len(train_loader(cfg, source, batch_size=10)) == 2
    assert len(train_loader(cfg, source, batch_size=10, is_train=False)) == 3
    (batch,) = list(train_loader(cfg, source, batch_size=25))
    assert len(batch["label"]) == 24
    with pytest.raises(UserError, match="no training images in ToyStripes"):
        train_loader(cfg, [])
    with pytest.raises(UserError, match="finds no batch of 24 in 3 images"):
        train_loader(cfg, source[:3], batch_size=24, sampler_type="SeqDomainSampler")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_one_line(workers: int, toy_root: Path, tmp_path: Path) -> None:
    cfg, source = toy(toy_root, "DATALOADER.NUM_WORKERS", workers)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    with pytest.raises(UserError) as caught:
        list(train_loader(cfg, [Datum(impath=str(broken))]))
    assert str(caught.value).startswith(f"{broken} cannot be read as an image") and "\n" not in str(caught.value)
