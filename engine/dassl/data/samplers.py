"""The order in which a loader visits its images."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler, SequentialSampler

from dassl.data.datasets import Datum
from dassl.utils import UserError, nearest


class EpochSampler(Sampler[int]):
    """A sampler whose order depends on (seed, epoch) alone; ``set_epoch`` is called by the trainer."""

    def __init__(self, data_source: Sequence[Datum], seed: int = 0) -> None:
        self.data_source = data_source
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def rng(self) -> random.Random:
        return random.Random(f"order/{self.seed}/{self.epoch}")

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(EpochSampler):
    """Each image once, in random order."""

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.rng().getrandbits(62))
        return iter(torch.randperm(len(self.data_source), generator=generator).tolist())


class RandomDomainSampler(EpochSampler):
    """Batches of ``n_domain`` random domains, each with the same number of images.

    Raises:
        UserError: more domains wanted than there are, or a batch size that they do not divide.
    """

    def __init__(self, data_source: Sequence[Datum], batch_size: int, n_domain: int, seed: int = 0) -> None:
        super().__init__(data_source, seed)
        self.by_domain: dict[int, list[int]] = defaultdict(list)
        for index, item in enumerate(data_source):
            self.by_domain[item.domain].append(index)
        n_domain = n_domain if n_domain > 0 else len(self.by_domain)
        if n_domain > len(self.by_domain) or batch_size % n_domain:
            raise UserError(
                f"N_DOMAIN {n_domain} must be at most {len(self.by_domain)} and divide the batch size {batch_size}"
            )
        self.n_domain, self.per_domain = n_domain, batch_size // n_domain
        self.length = sum(1 for _ in self)  # list() would ask for the length

    def choose(self, rng: random.Random, open_domains: list[int]) -> list[int]:
        return rng.sample(open_domains, self.n_domain)

    def __iter__(self) -> Iterator[int]:
        rng = self.rng()
        left = {domain: rng.sample(items, len(items)) for domain, items in self.by_domain.items()}
        order: list[int] = []
        while True:
            ready = [domain for domain, items in left.items() if len(items) >= self.per_domain]
            if len(ready) < self.n_domain or len(ready) < len(left):
                return iter(order)
            for domain in self.choose(rng, ready):
                order.extend(left[domain][: self.per_domain])
                del left[domain][: self.per_domain]

    def __len__(self) -> int:
        return self.length


class SeqDomainSampler(RandomDomainSampler):
    """Every batch holds all domains, in order."""

    def __init__(self, data_source: Sequence[Datum], batch_size: int, seed: int = 0) -> None:
        super().__init__(data_source, batch_size, 0, seed)

    def choose(self, rng: random.Random, open_domains: list[int]) -> list[int]:
        return open_domains


class RandomClassSampler(EpochSampler):
    """Batches of ``batch_size / n_ins`` random classes with ``n_ins`` images each.

    Raises:
        UserError: a batch smaller than ``n_ins``, or more classes per batch than there are.
    """

    def __init__(self, data_source: Sequence[Datum], batch_size: int, n_ins: int, seed: int = 0) -> None:
        super().__init__(data_source, seed)
        if batch_size < n_ins:
            raise UserError(f"the batch size {batch_size} must be no less than N_INS {n_ins}")
        self.by_label: dict[int, list[int]] = defaultdict(list)
        for index, item in enumerate(data_source):
            self.by_label[item.label].append(index)
        self.n_ins, self.classes_per_batch = n_ins, batch_size // n_ins
        if len(self.by_label) < self.classes_per_batch:
            raise UserError(f"a batch of {self.classes_per_batch} classes was asked for; there are {len(self.by_label)}")
        self.length = sum(1 for _ in self)  # list() would ask for the length

    def __iter__(self) -> Iterator[int]:
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
        return iter(order)

    def __len__(self) -> int:
        return self.length


SAMPLERS = (
    "RandomSampler",
    "SequentialSampler",
    "RandomDomainSampler",
    "SeqDomainSampler",
    "RandomClassSampler",
)


def build_sampler(
    sampler_type: str,
    cfg: object = None,
    data_source: Sequence[Datum] = (),
    batch_size: int = 32,
    n_domain: int = 0,
    n_ins: int = 16,
) -> Sampler[int]:
    """The sampler of that name; its order is a function of (cfg.SEED, epoch).

    Raises:
        UserError: an unknown name.
    """
    seed = getattr(cfg, "SEED", 0)
    seed = seed if seed >= 0 else random.getrandbits(31)
    if sampler_type == "RandomSampler":
        return RandomSampler(data_source, seed)
    if sampler_type == "SequentialSampler":
        return SequentialSampler(data_source)
    if sampler_type == "RandomDomainSampler":
        return RandomDomainSampler(data_source, batch_size, n_domain, seed)
    if sampler_type == "SeqDomainSampler":
        return SeqDomainSampler(data_source, batch_size, seed)
    if sampler_type == "RandomClassSampler":
        return RandomClassSampler(data_source, batch_size, n_ins, seed)
    raise UserError(
        f'unknown sampler "{sampler_type}".{nearest(sampler_type, SAMPLERS)} Valid: {", ".join(SAMPLERS)}'
    )
