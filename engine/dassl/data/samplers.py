"""The order in which a loader visits its images."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils import data as torch_data
from torch.utils.data import Sampler

from dassl.data.datasets import Datum
from dassl.utils import SettingError, check_availability


class Visit(int):
    """The index of an image that also says in which epoch and in which pass of it the image is seen."""

    epoch: int
    turn: int

    def __new__(cls, index: int, epoch: int, turn: int) -> Visit:
        visit = super().__new__(cls, index)
        visit.epoch, visit.turn = epoch, turn
        return visit

    def __getnewargs__(self) -> tuple[int, int, int]:
        return int(self), self.epoch, self.turn


class EpochSampler(Sampler[int]):
    """A sampler whose order depends on (seed, epoch, how often the epoch's loader was gone through before) alone.

    ``set_epoch`` is called by a trainer, ``set_pass`` by its loader. A loader that calls nothing (another class, built
    around the same sampler) has another order in every pass all the same: the sampler counts for itself. What it gives
    are :class:`Visit`.
    """

    def __init__(self, data_source: Sequence[Datum], seed: int = 0) -> None:
        self.data_source = data_source
        self.seed, self.epoch, self.turn = seed, 0, 0
        self._told = True  # whether ``turn`` is that of the next pass, or of the last one

    def set_epoch(self, epoch: int) -> None:
        self.epoch, self.turn, self._told = epoch, 0, True

    def set_pass(self, turn: int) -> None:
        self.turn, self._told = turn, True

    def rng(self) -> random.Random:
        return random.Random(f"order/{self.seed}/{epoch_key(self.epoch, self.turn)}")

    def order(self) -> list[int]:
        """Indices of the images of this epoch and pass."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[int]:
        if not self._told:
            self.turn += 1
        self._told = False
        return iter([Visit(index, self.epoch, self.turn) for index in self.order()])

    def __len__(self) -> int:
        return len(self.order())  # where images are left over, how many are depends on the order


def epoch_key(epoch: int, turn: int) -> str:
    """``epoch`` for the first pass over a loader in an epoch, ``epoch+turn`` for a further one."""
    return f"{epoch}+{turn}" if turn else str(epoch)


class RandomSampler(EpochSampler):
    """Each image once, in random order."""

    def order(self) -> list[int]:
        generator = torch.Generator().manual_seed(self.rng().getrandbits(62))
        return torch.randperm(len(self.data_source), generator=generator).tolist()

    def __len__(self) -> int:
        return len(self.data_source)


class SequentialSampler(EpochSampler, torch_data.SequentialSampler):
    """The images in their order."""

    def order(self) -> list[int]:
        return list(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomDomainSampler(EpochSampler):
    """Batches of ``n_domain`` random domains, each with the same number of images.

    The epoch ends with the batch after which some domain has too few images left for another.

    Args:
        n_domain: 0, negative or ``None`` for all domains.

    Raises:
        SettingError: more domains wanted than there are, or a batch size that they do not divide.
    """

    def __init__(self, data_source: Sequence[Datum], batch_size: int, n_domain: int | None, seed: int = 0) -> None:
        super().__init__(data_source, seed)
        self.by_domain = group_indices(item.domain for item in data_source)
        n_domain = n_domain if n_domain and n_domain > 0 else len(self.by_domain)
        if n_domain > len(self.by_domain) or batch_size % n_domain:
            raise SettingError(
                f"N_DOMAIN {n_domain} must be at most {len(self.by_domain)} and divide the batch size {batch_size}"
            )
        self.n_domain, self.per_domain = n_domain, batch_size // n_domain

    def choose(self, rng: random.Random, domains: list[int]) -> list[int]:
        return rng.sample(domains, self.n_domain)

    def order(self) -> list[int]:
        rng = self.rng()
        left = {domain: rng.sample(items, len(items)) for domain, items in self.by_domain.items()}
        order: list[int] = []
        while all(len(items) >= self.per_domain for items in left.values()):
            for domain in self.choose(rng, list(left)):
                order.extend(left[domain][: self.per_domain])
                del left[domain][: self.per_domain]
        return order


class SeqDomainSampler(RandomDomainSampler):
    """Every batch holds all domains, in the order of their numbers."""

    def __init__(self, data_source: Sequence[Datum], batch_size: int, seed: int = 0) -> None:
        super().__init__(data_source, batch_size, 0, seed)

    def choose(self, rng: random.Random, domains: list[int]) -> list[int]:
        return sorted(domains)


class RandomClassSampler(EpochSampler):
    """Batches of ``batch_size / n_ins`` random classes with ``n_ins`` images each.

    A class with fewer images than that is drawn from with replacement.

    Raises:
        SettingError: a batch smaller than ``n_ins``, or more classes per batch than there are.
    """

    def __init__(self, data_source: Sequence[Datum], batch_size: int, n_ins: int, seed: int = 0) -> None:
        super().__init__(data_source, seed)
        if batch_size < n_ins:
            raise SettingError(f"the batch size {batch_size} must be no less than N_INS {n_ins}")
        self.by_label = group_indices(item.label for item in data_source)
        self.n_ins, self.classes_per_batch = n_ins, batch_size // n_ins
        if len(self.by_label) < self.classes_per_batch:
            raise SettingError(f"a batch of {self.classes_per_batch} classes was asked for; there are {len(self.by_label)}")

    def order(self) -> list[int]:
        rng = self.rng()
        groups: dict[int, list[list[int]]] = {}
        for label, items in self.by_label.items():
            drawn = rng.choices(items, k=self.n_ins) if len(items) < self.n_ins else rng.sample(items, len(items))
            chunks = [drawn[start : start + self.n_ins] for start in range(0, len(drawn), self.n_ins)]
            groups[label] = [chunk for chunk in chunks if len(chunk) == self.n_ins]
        order: list[int] = []
        while len(groups) >= self.classes_per_batch:
            for label in rng.sample(sorted(groups), self.classes_per_batch):
                order.extend(groups[label].pop(0))
                if not groups[label]:
                    del groups[label]
        return order


def group_indices(keys: Iterable[int]) -> dict[int, list[int]]:
    """Key -> the places in which it stands, keys in order of first appearance."""
    places: dict[int, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        places[key].append(index)
    return places


SAMPLERS = (
    "RandomSampler",
    "SequentialSampler",
    "RandomDomainSampler",
    "SeqDomainSampler",
    "RandomClassSampler",
)


def build_sampler(
    sampler_type: str,
    cfg: Any = None,
    data_source: Sequence[Datum] = (),
    batch_size: int = 32,
    n_domain: int = 0,
    n_ins: int = 16,
) -> Sampler[int]:
    """The sampler of that name; its order is a function of (cfg.SEED, epoch).

    Raises:
        UnknownNameError: an unknown name.
    """
    check_availability(sampler_type, SAMPLERS)
    seed = getattr(cfg, "SEED", 0)
    seed = seed if seed >= 0 else random.getrandbits(31)
    if sampler_type == "RandomSampler":
        return RandomSampler(data_source, seed)
    if sampler_type == "RandomDomainSampler":
        return RandomDomainSampler(data_source, batch_size, n_domain, seed)
    if sampler_type == "SeqDomainSampler":
        return SeqDomainSampler(data_source, batch_size, seed)
    if sampler_type == "RandomClassSampler":
        return RandomClassSampler(data_source, batch_size, n_ins, seed)
    return SequentialSampler(data_source, seed)
