"""Rules of the engine by small examples: draws and views, files written whole, what a resumed run has back, limits."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dassl.data import DatasetWrapper
from dassl.data.datasets import Datum
from dassl.data.loader import scoped_seed
from dassl.data.samplers import RandomClassSampler, RandomSampler, SeqDomainSampler, build_sampler
from dassl.utils import PixelSettings, SettingError, UserError, save_checkpoint, set_random_seed, sources, tools
from dassl.utils.checkpoints import rng_state
from dassl.utils.pixels.settings import Refusal
from dassl.utils.resuming import check_state, last_good, restore
from tests.engine_helpers import third_party_config, write_toy_images


def items(labels: list[int], domains: list[int] | None = None) -> list[Datum]:
    domains = domains or [0] * len(labels)
    return [
        Datum(f"{n}.png", label, domain, f"c{label}") for n, (label, domain) in enumerate(zip(labels, domains, strict=True))
    ]


# -- order and views --------------------------------------------------------------------------------------


def test_a_class_with_exactly_enough_images_gives_each_of_them() -> None:
    source = items([0] * 4 + [1] * 4)
    for seed in range(5):
        assert sorted(RandomClassSampler(source, 8, 4, seed).order()) == list(range(8))
    assert len(RandomClassSampler(items([0] * 3 + [1] * 4), 4, 4).order()) == 8  # with replacement; a batch may be one class
    assert len(RandomClassSampler(items([0] * 7 + [1] * 4), 8, 4).order()) == 8  # three of seven are left over
    with pytest.raises(SettingError, match="no less than N_INS 5"):
        RandomClassSampler(source, 4, 5)


def test_each_seed_epoch_and_pass_has_an_order_of_its_own() -> None:
    source, orders = items([0] * 40), []
    for seed in (0, 1):
        sampler = RandomSampler(source, seed)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            orders += [tuple(sampler), tuple(sampler)]
    assert len(set(orders)) == 8


def test_domains_are_taken_in_the_order_of_their_numbers_to_the_last_whole_batch() -> None:
    source = items([0] * 8, [2, 2, 0, 0, 1, 1, 2, 0])
    order = SeqDomainSampler(source, 3).order()
    assert [source[index].domain for index in order] == [0, 1, 2] * 2
    with pytest.raises(SettingError, match="divide the batch size"):
        build_sampler("RandomDomainSampler", data_source=source, batch_size=5, n_domain=3)


@pytest.fixture(scope="module")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_images(tmp_path_factory.mktemp("toy"))


def test_a_view_is_named_by_all_that_decides_it(toy_root: Path) -> None:
    import toy_dataset

    cfgs = [third_party_config("none", "coop", toy_root, toy_root / "out", "SEED", seed) for seed in (1, 2)]
    source = toy_dataset.ToyStripes(cfgs[0]).train_x
    names = [
        DatasetWrapper(cfg, source, is_train=True).view_name(index, epoch, draw, turn)
        for cfg in cfgs for index in (0, 1) for epoch in (0, 3) for draw in (0, 1) for turn in (0, 1)
    ]  # fmt: skip
    assert len(set(names)) == 32 and not any(str(toy_root) in name for name in names)
    assert DatasetWrapper(cfgs[0], source).view_name(0, 3) == ""


def test_a_plain_index_means_the_epoch_that_was_told_and_the_next_pass(toy_root: Path) -> None:
    import toy_dataset

    cfg = third_party_config("none", "coop", toy_root, toy_root / "out")
    dataset = DatasetWrapper(cfg, toy_dataset.ToyStripes(cfg).train_x, lambda _: random.random(), is_train=True)
    dataset.set_epoch(4)
    drawn = [dataset[2]["img"], dataset[2]["img"], dataset[3]["img"]]
    assert drawn == [dataset.item(2, 4)["img"], dataset.item(2, 4, turn=1)["img"], dataset.item(3, 4)["img"]]
    dataset.set_epoch(5)
    assert dataset[2]["img"] == dataset.item(2, 5)["img"] != drawn[0]


def test_each_part_has_the_loader_of_its_images_and_no_more_workers_than_cores(toy_root: Path, monkeypatch) -> None:
    from dassl.data import DataManager, data_manager

    monkeypatch.setattr(data_manager, "cores", lambda: 1)
    cfg = third_party_config("none", "coop", toy_root, toy_root / "out", "DATALOADER.NUM_WORKERS", 3)
    manager = DataManager(cfg)
    assert manager.test_loader.dataset.data_source == manager.dataset.test
    assert manager.train_loader_x.dataset.data_source == manager.dataset.train_x
    assert manager.val_loader is None or manager.val_loader.dataset.data_source == manager.dataset.val
    assert manager.train_loader_x.num_workers == 1


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_every_random_source_is_seeded_and_given_back() -> None:
    set_random_seed(7)
    first = draws()
    state = rng_state()
    with scoped_seed("a"):
        inside = draws()
    after = draws()
    set_random_seed(7)
    assert draws() == first and draws() == after  # as if nothing had been drawn inside
    draws()
    with scoped_seed("a"):
        assert draws() == inside
    with scoped_seed("b"):
        assert not set(draws()) & set(inside)
    from dassl.utils.checkpoints import set_rng_state

    set_rng_state(state)
    assert draws() == after


# -- files ------------------------------------------------------------------------------------------------


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), tools.atomic(path) as temporary:
        Path(temporary).write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
    with tools.atomic(path) as temporary:
        Path(temporary).write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after" and list(tmp_path.iterdir()) == [path]


def test_names_are_sorted_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools.os, "listdir", lambda _: ["b", ".hidden", "a"])
    assert tools.listdir_nohidden(str(tmp_path), sort=True) == ["a", "b"]


def test_a_file_s_hash_is_of_all_its_blocks(tmp_path: Path) -> None:
    raw = bytes(range(256)) * 9000  # more than two blocks
    (tmp_path / "file").write_bytes(raw)
    assert sources.sha256(tmp_path / "file") == hashlib.sha256(raw).hexdigest()


def test_room_is_asked_of_the_disk(tmp_path: Path) -> None:
    sources.need_space(tmp_path / "not" / "yet", 1, "a file")
    with pytest.raises(UserError, match=r"a file: that is .* free; make room"):
        sources.need_space(tmp_path / "not" / "yet", 1e18, "a file")
    said = sources.reason(ValueError("word " * 100))
    assert said.endswith("word …") and 150 < len(said) <= 160


def test_the_limit_of_pixels_is_allowed_and_one_more_is_not() -> None:
    settings = PixelSettings(max_pixels=12)
    settings.check_size(4, 3)
    with pytest.raises(Refusal, match="13 x 1 pixels"):
        settings.check_size(13, 1)


@pytest.mark.parametrize("key, value, good", [("SLICE", -1, True), ("SLICE", 0, True), ("SLICE", -2, False),
                                              ("WINDOW", [1.0, 1.0], False), ("WINDOW", [1.0, 2.0], True)])  # fmt: skip
def test_settings_of_reading_are_checked(key: str, value: object, good: bool) -> None:
    from dassl.config import get_cfg_default

    cfg = get_cfg_default()
    cfg.INPUT[key] = value
    if good:
        PixelSettings.from_cfg(cfg)
    else:
        with pytest.raises(SettingError, match=f"INPUT.{key}"):
            PixelSettings.from_cfg(cfg)


# -- resuming ---------------------------------------------------------------------------------------------


def trained(steps: int) -> tuple[nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(1, 2)).square().sum().backward()
        optimizer.step()
        schedule.step()
    return model, optimizer, schedule


def test_a_resumed_run_has_all_of_its_state_back(tmp_path: Path) -> None:
    model, optimizer, schedule = trained(3)
    set_random_seed(3)
    state = {
        "state_dict": model.state_dict(),
        "epoch": 3,
        "optimizer": optimizer.state_dict(),
        "scheduler": schedule.state_dict(),
    }
    save_checkpoint(state | {"rng": rng_state()}, str(tmp_path))
    next_draws = draws()
    other, its_optimizer, its_schedule = trained(0)
    set_random_seed(9)
    assert restore(str(tmp_path), other, its_optimizer, its_schedule)["epoch"] == 3
    assert draws() == next_draws
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    for group in (optimizer.param_groups[0], its_optimizer.param_groups[0]):
        assert group["lr"] == pytest.approx(0.01)
    momenta = [[state["momentum_buffer"] for state in one.state.values()] for one in (optimizer, its_optimizer)]
    assert len(momenta[1]) == 2 and all(map(torch.equal, *momenta))
    assert its_schedule.last_epoch == 3


def test_of_damaged_checkpoints_the_newest_whole_one_by_number_is_taken(tmp_path: Path) -> None:
    for epoch in (2, 9, 10, 11):
        save_checkpoint({"state_dict": {}, "epoch": epoch}, str(tmp_path))
    (tmp_path / "model.pth.tar-11").write_bytes(b"cut")
    path, state = last_good(str(tmp_path))
    assert (Path(path).name, state["epoch"]) == ("model.pth.tar-10", 10)


@pytest.mark.parametrize("epoch", [True, -1, "3", None, 1.0])
def test_an_epoch_is_a_number_of_finished_ones(epoch: object) -> None:
    check_state({"state_dict": {}, "epoch": 0}, "file")
    with pytest.raises(UserError, match="must be a number of finished epochs"):
        check_state({"state_dict": {}, "epoch": epoch}, "file")
