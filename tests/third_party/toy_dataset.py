"""A dataset written against Dassl's documented API alone, the way repositories that build on it write theirs."""

import math
import os.path as osp
import random

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.utils import listdir_nohidden, mkdir_if_missing, read_json, write_json


@DATASET_REGISTRY.register()
class ToyStripes(DatasetBase):
    """Class folders of images; half for training, a quarter for validation, the rest for testing."""

    dataset_dir = "toy_stripes"
    domains = ["bright", "dark"]

    def __init__(self, cfg):
        root = osp.abspath(osp.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = osp.join(root, self.dataset_dir)
        self.image_dir = osp.join(self.dataset_dir, "images")
        self.split_path = osp.join(self.dataset_dir, "split_ToyStripes.json")
        self.split_fewshot_dir = osp.join(self.dataset_dir, "split_fewshot")
        mkdir_if_missing(self.split_fewshot_dir)

        if not osp.exists(self.split_path):
            self.save_split(*self.make_split())
        train, val, test = self.read_split()

        num_shots = cfg.DATASET.NUM_SHOTS
        if num_shots >= 1:
            kept = osp.join(self.split_fewshot_dir, f"shot_{num_shots}-seed_{cfg.SEED}.json")
            if osp.exists(kept):
                print(f"few-shot images from {kept}")
                chosen = read_json(kept)
                train, val = self.to_items(chosen["train"]), self.to_items(chosen["val"])
            else:
                train = self.generate_fewshot_dataset(train, num_shots=num_shots)
                val = self.generate_fewshot_dataset(val, num_shots=min(num_shots, 4))
                write_json({"train": self.to_rows(train), "val": self.to_rows(val)}, kept)

        unlabeled = train if cfg.DATASET.ALL_AS_UNLABELED else None
        super().__init__(train_x=train, train_u=unlabeled, val=val, test=test)

    def make_split(self):
        rng = random.Random(1)
        parts = ([], [], [])
        for label, name in enumerate(listdir_nohidden(self.image_dir, sort=True)):
            files = listdir_nohidden(osp.join(self.image_dir, name), sort=True)
            rng.shuffle(files)
            first, second = math.ceil(len(files) / 2), math.ceil(len(files) * 0.75)
            for part, chosen in zip(parts, (files[:first], files[first:second], files[second:]), strict=True):
                for file in chosen:
                    path = osp.join(self.image_dir, name, file)
                    part.append(Datum(impath=path, label=label, domain=label % 2, classname=name))
        return parts

    def to_rows(self, items):
        return [(osp.relpath(item.impath, self.image_dir), item.label, item.classname) for item in items]

    def to_items(self, rows):
        items = []
        for path, label, name in rows:
            items.append(Datum(impath=osp.join(self.image_dir, path), label=int(label), domain=label % 2, classname=name))
        return items

    def save_split(self, train, val, test):
        rows = {"train": self.to_rows(train), "val": self.to_rows(val), "test": self.to_rows(test)}
        write_json(rows, self.split_path)

    def read_split(self):
        rows = read_json(self.split_path)
        return self.to_items(rows["train"]), self.to_items(rows["val"]), self.to_items(rows["test"])
