"""Whole jobs: what their measured pieces add up to at the published sizes, and short ones run for real."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.setting import Setting

Costs = Mapping[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much of everything a job has.

    Attributes:
        epochs: of training.
        test_images: of each split that is tested.
    """

    epochs: int
    test_images: tuple[int, ...]


def typical(value: float | Sequence[float]) -> float:
    """The median of repeated measurements."""
    return float(median(value)) if isinstance(value, Sequence) else float(value)


def published(costs: Costs, splits: int) -> Sizes:
    """The published epochs and test images; these are shared evenly by the splits."""
    share = costs["published_test_images"] / splits
    return Sizes(costs["epochs"], tuple(round(share) for _ in range(splits)))


# -- the pieces added up ----------------------------------------------------------------------------------


def test_seconds(costs: Costs, images: int, key: str) -> float:
    """Testing ``images`` images, from the measured test of ``costs`` under ``key``.

    What the class features take is subtracted per image and added per batch (reference) or once (ours).
    """
    reference, text = costs["mode"] == "reference", typical(costs["text_s"])

    def passes(count: int) -> int:
        return math.ceil(count / costs["test_batch"]) if reference else 1

    per_image = max(0.0, typical(costs[key]) - passes(costs["test_images"]) * text) / costs["test_images"]
    return images * per_image + passes(images) * text


def training_seconds(costs: Costs, sizes: Sizes, new_views: int) -> float:
    """``sizes.epochs`` epochs; of ours, ``new_views`` of the views have to be encoded, the others are read."""
    if not sizes.epochs:
        return 0.0
    if costs["mode"] == "reference":
        return sizes.epochs * typical(costs["epoch_s"]) + typical(costs["save_s"])
    views = sizes.epochs * costs["train_images"]
    reading = max(0, views - new_views) * typical(costs["read_s"])
    epochs = sizes.epochs * (typical(costs["stored_epoch_s"]) + typical(costs["save_s"]))  # it saves after every epoch
    return epochs + new_views * typical(costs["view_s"]) + reading


def files_seconds(costs: Costs, runs: int) -> float:
    """Writing the results of ``runs`` runs of one process; the first takes longer (weights are hashed, modules imported)."""
    first, later = costs["results_s"]
    return first + (runs - 1) * later


def base2new_seconds(costs: Costs, sizes: Sizes, *, stored: bool = False, build_s: float | None = None) -> dict[str, float]:
    """One seed of base2new by its pieces: train and test on the base classes, then build, load and test on the new ones.

    Args:
        stored: ours with everything stored already.
        build_s: of a build with stored prompt features, where ``costs`` has one without.
    """
    new = 0 if stored else sizes.epochs * costs["train_images"]
    key, rebuild = ("second_test_s", "stored_rebuild_s") if stored else ("test_s", "rebuild_s")
    return {
        "build": typical(costs["build_s"] if build_s is None else build_s) + typical(costs[rebuild]),
        "train": training_seconds(costs, sizes, new),
        "test": sum(test_seconds(costs, images, key) for images in sizes.test_images),
        "load": typical(costs["load_s"]),
        "files": files_seconds(costs, len(sizes.test_images)),
    }


def compare_seconds(all_costs: Iterable[Costs], seeds: int, bank: int = 0) -> float:
    """Some methods and seeds one after the other, each tested on all images.

    Reference: every run does everything. Ours: one process per method, which builds the backbone once; the views of a seed
    and the test images are encoded once for all methods on one tower.

    Args:
        bank: V of FEATURES.VIEWS; 0 for a new view of each image in each epoch.
    """
    total, views_done, tested = 0.0, {}, set()
    for costs in all_costs:
        sizes = published(costs, 1)
        ours = costs["mode"] != "reference"
        total += typical(costs["build_s"]) + (seeds - 1) * typical(costs["rebuild_s"] if ours else costs["build_s"])
        total += files_seconds(costs, seeds)
        for seed in range(seeds):
            wanted = min(sizes.epochs, bank) if bank else sizes.epochs
            place = (costs["views"], seed)
            new = max(0, wanted - views_done.get(place, 0)) * costs["train_images"]
            views_done[place] = max(wanted, views_done.get(place, 0))
            total += training_seconds(costs, sizes, new)
            again = ours and costs["tower"] in tested
            total += test_seconds(costs, sizes.test_images[0], "second_test_s" if again else "test_s")
            tested.add(costs["tower"])
    return total


# -- measuring --------------------------------------------------------------------------------------------


def short_job(setting: Setting, mode: str, store: str, epochs: int) -> dict[str, Any]:
    """BiomedDPT's base2new on btmri for real, start of the process excluded: seconds, and its numbers of test images."""
    import train
    from benchmarks.units import REPO, mode_context, need_data, timed
    from runs.settings import config_file

    need_data(setting, "btmri")
    out = setting.folder("runs") / f"short-{mode}-{time.time_ns()}"
    words = ["--root", setting.root, "--trainer", "BiomedDPT", "--backbone", setting.backbone, "--task", "base2new",
             "--dataset-config-file", str(REPO / "configs" / "datasets" / "btmri.yaml"),
             "--config-file", str(config_file("BiomedDPT", "base", "btmri")), "--output-root", str(out), "--seed", "1",
             "OPTIM.MAX_EPOCH", str(epochs), "DATASET.NUM_SHOTS", "16", "DATALOADER.NUM_WORKERS", "0",
             "FEATURES.ROOT", str(setting.folder(store))]  # fmt: skip
    if setting.path:
        words += ["MODEL.BACKBONE.PATH", setting.path]
    status: list[int] = []
    with mode_context(mode):
        seconds = timed(lambda: status.append(train.main(words)))
    if status != [0]:
        raise RuntimeError(f"train.py {' '.join(words)} ended with {status[0]}")
    records = [json.loads(path.read_text()) for path in sorted(out.rglob("results.json"))]
    return {
        "seconds": seconds,
        "epochs": epochs,
        "accuracy": {record["split"]: record["metrics"]["accuracy"] for record in records},
        "test_images": [record["num_test"] for record in records],
    }


def memory_job(setting: Setting, mode: str) -> dict[str, Any]:
    """BiomedDPT on btmri's base classes: built, trained for two epochs, tested; for the memory that its process takes."""
    from benchmarks.units import build, config, cut_test_images, facts, mode_context, need_data
    from benchmarks.worker import OwnMemory

    need_data(setting, "btmri")
    with OwnMemory() as own, mode_context(mode):
        run = setting.folder("runs") / f"memory-{mode}-{time.time_ns()}"
        keys = {"FEATURES__ROOT": setting.folder(f"memory-{time.time_ns()}"), "OPTIM__MAX_EPOCH": 2}
        cfg = config(setting, "BiomedDPT", "btmri", "base", run, **keys)
        trainer = build(cfg)
        cut_test_images(trainer, cfg.DATALOADER.TEST.BATCH_SIZE)
        trainer.train()
        path = next((run / "prompt_learner").glob("model.pth.tar-*"))
        found = facts(trainer, cfg)
    return found | {"checkpoint_bytes": path.stat().st_size, "own_bytes": own.peak}
