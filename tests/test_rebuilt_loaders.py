"""Loaders that other people's code builds around the engine's datasets and samplers."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Subset
from torch.utils.data import SequentialSampler as TorchSequential

from dassl.data import DatasetWrapper
from dassl.data.data_manager import build_data_loader
from dassl.data.loader import set_loader_epoch
from dassl.data.samplers import SequentialSampler, Visit, build_sampler
from dassl.data.transforms import build_transform
from tests.engine_helpers import third_party_config, write_toy_images

PASSES = 4


@pytest.fixture(scope="module")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_images(tmp_path_factory.mktemp("toy"))


def own_loader(root: Path, *options: object, sampler: str = "RandomSampler", **kwargs: object) -> DataLoader:
    """A training loader of the engine's, of 12 images."""
    import toy_dataset

    cfg = third_party_config("none", "coop", root, root / "out", "DATASET.NUM_SHOTS", 4, *options)
    images = toy_dataset.ToyStripes(cfg).train_x
    return build_data_loader(cfg, sampler, images, 4, tfm=build_transform(cfg), **kwargs)


def passes(loader: DataLoader, count: int = PASSES) -> tuple[list[tuple[int, ...]], list[dict[int, bytes]]]:
    """Of each pass the order, and each image's view."""
    orders, views = [], []
    for _ in range(count):
        rows = [
            (int(n), image.numpy().tobytes()) for batch in loader for n, image in zip(batch["index"], batch["img"], strict=True)
        ]
        orders.append(tuple(number for number, _ in rows))
        views.append(dict(rows))
    return orders, views


BUILT = {
    "a copy under the same sampler": lambda own, **kw: DataLoader(copy.deepcopy(own.dataset), sampler=own.sampler, **kw),
    "a copy of both": lambda own, **kw: DataLoader(copy.deepcopy(own.dataset), sampler=copy.deepcopy(own.sampler), **kw),
    "the dataset itself, shuffled": lambda own, **kw: DataLoader(own.dataset, shuffle=True, **kw),
    "a part of a copy": lambda own, **kw: DataLoader(Subset(copy.deepcopy(own.dataset), range(12)), shuffle=True, **kw),
    "one that was pickled": lambda own, **kw: DataLoader(pickle.loads(pickle.dumps(own.dataset)), shuffle=True, **kw),
    "the engine's batches": lambda own, **kw: DataLoader(
        own.dataset, batch_sampler=own.batch_sampler, num_workers=kw["num_workers"]
    ),
}


@pytest.mark.parametrize("workers", [0, 1, "kept"])
@pytest.mark.parametrize("how", BUILT)
def test_every_pass_has_an_order_and_views_of_its_own(how: str, workers: int | str, toy_root: Path) -> None:
    more = {"num_workers": 2, "persistent_workers": True} if workers == "kept" else {"num_workers": workers}
    orders, views = passes(BUILT[how](own_loader(toy_root), batch_size=4, **more))
    assert all(sorted(order) == list(range(12)) for order in orders) and len(set(orders)) == PASSES
    assert len({(number, view) for one in views for number, view in one.items()}) == 12 * PASSES


def test_its_views_depend_on_nothing_but_seed_epoch_pass_and_image(toy_root: Path) -> None:
    """Not on who counts the passes, nor on how many workers there are."""
    ours = passes(own_loader(toy_root))
    for workers in (0, 2):
        own = own_loader(toy_root)
        rebuilt = DataLoader(copy.deepcopy(own.dataset), sampler=own.sampler, batch_size=3, num_workers=workers)
        assert passes(rebuilt) == ours, "the sampler counts for itself"
        torch.manual_seed(workers)
        rebuilt = DataLoader(copy.deepcopy(own.dataset), shuffle=True, batch_size=3, num_workers=workers)
        assert passes(rebuilt)[1] == ours[1], "each image is counted"
    own = own_loader(toy_root)
    rebuilt = DataLoader(own.dataset, shuffle=True, batch_size=5)
    for epoch in range(2):
        set_loader_epoch(own, epoch)
        set_loader_epoch(rebuilt, epoch)
        assert passes(rebuilt, 2)[1] == passes(own, 2)[1], "told the epoch, it starts anew"


@pytest.mark.parametrize("sampler", ["RandomSampler", "SequentialSampler", "RandomClassSampler"])
def test_the_engines_own_loader_is_not_moved_by_another_beside_it(sampler: str, toy_root: Path) -> None:
    alone, beside = (own_loader(toy_root, sampler=sampler, n_ins=2) for _ in range(2))
    rebuilt = DataLoader(beside.dataset, sampler=beside.sampler, batch_size=4)
    for epoch in (0, 1):
        set_loader_epoch(alone, epoch)
        set_loader_epoch(beside, epoch)
        passes(rebuilt, 3), beside.dataset[2], beside.dataset[2]
        assert passes(alone, 2) == passes(beside, 2)


def test_an_image_drawn_twice_in_a_pass_has_one_view(toy_root: Path) -> None:
    import toy_dataset

    cfg = third_party_config("none", "coop", toy_root, toy_root / "out", "DATASET.NUM_SHOTS", 1)
    images = toy_dataset.ToyStripes(cfg).train_x  # one of a class, of which the sampler wants four
    loader = build_data_loader(cfg, "RandomClassSampler", images, 4, n_ins=4, tfm=build_transform(cfg))
    for batch in loader:
        assert len(set(batch["index"].tolist())) == 1 and all(torch.equal(image, batch["img"][0]) for image in batch["img"])


def test_plain_indices(toy_root: Path) -> None:
    dataset = own_loader(toy_root).dataset
    first, second = dataset[3]["img"], dataset[3]["img"]
    assert not torch.equal(first, second) and torch.equal(second, dataset.item(3, 0, 1)["img"])
    assert torch.equal(first, dataset.item(3, 0)["img"]), "the first time it is what the first pass sees"
    assert torch.equal(dataset[-1]["img"], dataset.item(11, 0)["img"])
    assert not torch.equal(dataset[11]["img"], dataset.item(11, 0)["img"]), "the same image"
    dataset.set_epoch(5)
    assert torch.equal(dataset[3]["img"], dataset.item(3, 5)["img"])
    with pytest.raises(IndexError):
        dataset[12]
    assert torch.equal(dataset[0]["img"], dataset.item(0, 5)["img"]), "what is not there was not counted"
    assert sum(1 for _ in dataset) == 12
    dataset.data_source = [*dataset.data_source, dataset.data_source[0]]
    assert dataset[12]["index"] == 12 and len(dataset) == 13
    tested = DatasetWrapper(dataset.cfg, dataset.data_source, transform=dataset.transform, is_train=False)
    assert tested.view_name(3, 0) == ""


def test_a_visit_is_an_index(toy_root: Path) -> None:
    visit = Visit(4, 2, 1)
    assert visit == 4 and [0, 1, 2, 3, "x"][visit] == "x" and torch.arange(9)[[visit, Visit(5, 2, 1)]].tolist() == [4, 5]
    for other in (copy.deepcopy(visit), pickle.loads(pickle.dumps(visit))):
        assert (other, other.epoch, other.turn) == (4, 2, 1)
    loader = own_loader(toy_root)
    item = loader.dataset[visit]
    assert type(item["index"]) is int and torch.equal(item["img"], loader.dataset.item(4, 2, 1)["img"])
    sampler = build_sampler("SequentialSampler", loader.dataset.cfg, loader.dataset.data_source)
    assert isinstance(sampler, SequentialSampler) and isinstance(sampler, TorchSequential)
    assert list(sampler) == list(range(12)) and len(sampler) == 12 and [visit.turn for visit in sampler] == [1] * 12
