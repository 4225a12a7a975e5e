"""The parts of a run of the benchmarks: each fills its place in the results; some read what others measured."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from benchmarks.setting import Setting, isolated

Results = dict[str, Any]

MODES = ("reference", "ours")
# Fewer shots where a method's epochs have many small steps: the reference would take long, and one step is like another
FEWER_SHOTS = {"CoCoOp": 1, "BiomedCoOp": 2, "BiomedDPT": 2}
SHOTS = 16
SHORT_EPOCHS = 2
COMPARED = ("ZeroshotCLIP", "ZeroshotCLIP2", "CoOp", "CoCoOp", "KgCoOp", "ProGrad", "BiomedCoOp", "BiomedDPT")
BANKED = ("CoOp", "KgCoOp", "ProGrad", "BiomedCoOp", "BiomedDPT")  # not CoCoOp: its epochs have a step per image
STACKED = ("BiomedDPT", "CoOp")
QUICKLY_COMPARED = ("ZeroshotCLIP2", "BiomedDPT")


def step(setting: Setting, results: Results) -> None:
    """All costs of BiomedDPT at 2 classes, and of CoOp at 8, batches of 4."""
    for mode in MODES:
        results["dpt"][mode] = isolated(
            setting, "units:costs", method="BiomedDPT", dataset="btmri", split="base", mode=mode, store="dpt", rebuild="new",
            repeats=3 if mode == "reference" else setting.repeats,
        )  # fmt: skip
        results["coop"][mode] = isolated(
            setting, "units:costs", method="CoOp", dataset="kvasir", split="all", mode=mode, store="coop", test_images=16,
            repeats=2 if mode == "reference" else setting.repeats, DATASET__NUM_SHOTS=4,
            DATALOADER__TRAIN_X__BATCH_SIZE=4, TRAINER__COOP__N_CTX=16, TRAINER__COOP__CTX_INIT="",
        )  # fmt: skip


def build(setting: Setting, results: Results) -> None:
    """Building BiomedDPT, each time in a process of its own; the first of all only warms the file cache."""
    isolated(setting, "building:build_once", mode="ours", store="build")  # writes the prompts' features, too
    for name, mode, keep in (("reference", "reference", True), ("stored", "ours", True), ("cold", "ours", False)):
        found = []
        for _ in range(min(3, setting.repeats)):
            if not keep:
                shutil.rmtree(setting.folder("build"))
            found.append(isolated(setting, "building:build_once", mode=mode, store="build"))
        results["build"][name] = {
            "build_s": [one["build_s"] for one in found],
            "import_s": [one["process"]["import_s"] for one in found if "process" in one],
        }


def test(setting: Setting, results: Results) -> None:
    """Testing a first method, and a second on the same tower."""
    for mode in MODES:
        results["test"][mode] = isolated(setting, "evaluation:evaluations", mode=mode)


def job(setting: Setting, results: Results) -> None:
    """A short base2new for real, of the reference, for the first time and again."""
    for name, mode in (("reference", "reference"), ("first", "ours"), ("stored", "ours")):
        results["job"][name] = isolated(setting, "jobs:short_job", mode=mode, store="job", epochs=SHORT_EPOCHS)


def compare(setting: Setting, results: Results) -> None:
    """The costs of each compared method on few-shot btmri; all share the stored prompts."""
    for mode in MODES:
        for method in QUICKLY_COMPARED if setting.quick else COMPARED:
            shots = FEWER_SHOTS.get(method, SHOTS)
            found = isolated(
                setting, "units:costs", method=method, dataset="btmri", split="all", mode=mode, store="compare",
                repeats=1 if mode == "reference" else min(3, setting.repeats), test_images=16,
                rebuild="" if mode == "reference" else "all", DATASET__NUM_SHOTS=shots,
            )  # fmt: skip
            results["compare"].setdefault(mode, []).append(at_shots(found, shots, SHOTS))


def at_shots(costs: dict[str, Any], measured: int, wanted: int) -> dict[str, Any]:
    """Costs measured at fewer shots: an epoch has as many times more images and steps."""
    factor = wanted // measured
    scaled = {key: costs[key] * factor for key in ("train_images", "steps_per_epoch")}
    for key in ("epoch_s", "stored_epoch_s"):
        if key in costs:
            scaled[key] = [seconds * factor for seconds in costs[key]]
    return costs | scaled


def bank(setting: Setting, results: Results) -> None:
    """Accuracy with a bank of views beside a new view per epoch, PhantomCLIP."""
    quick = {"methods": BANKED[:1], "epochs": 1, "seeds": 2} if setting.quick else {"methods": BANKED}
    results["bank"] = isolated(setting, "equality:bank_of_views", **quick)


def seeds(setting: Setting, results: Results) -> None:
    """Three seeds as one batch, of two methods on the base classes of btmri."""
    for method in STACKED:
        results["seeds"][method] = isolated(setting, "together:seed_batch", method=method)


def rate(setting: Setting, results: Results) -> None:
    """FLOP/s of image encoding and of the machine."""
    results["rate"] = isolated(setting, "compute:rates")


def memory(setting: Setting, results: Results) -> None:
    """Peak memory of building, training two epochs and testing, in a process of its own."""
    for mode in MODES:
        results["memory"][mode] = isolated(setting, "jobs:memory_job", mode=mode)


def equal(setting: Setting, results: Results) -> None:
    """The same numbers from both paths, dropout off."""
    results["equal"] = isolated(setting, "equality:same_numbers", **({"steps": 3, "images": 8} if setting.quick else {}))


def dropout(setting: Setting, results: Results) -> None:
    """The same distribution from both paths, dropout on."""
    results["dropout"] = isolated(setting, "equality:with_dropout", **({"seeds": 3, "epochs": 1} if setting.quick else {}))


def bf16(setting: Setting, results: Results) -> None:
    """In bfloat16, on a GPU."""
    if results["machine"]["gpu"]:
        results["bf16"] = {
            "rate": isolated(setting, "compute:rates", precision="bf16"),
            "dpt": isolated(
                setting, "units:costs", method="BiomedDPT", dataset="btmri", split="base", mode="ours", store="dpt",
                TRAINER__BIOMEDDPT__PREC="bf16",
            ),
        }  # fmt: skip


PARTS: dict[str, Callable[[Setting, Results], None]] = {
    one.__name__: one for one in (step, build, test, job, rate, memory, seeds, equal, dropout, compare, bank, bf16)
}
MEASURED = {"step": ("dpt", "coop")}  # where a part's measurements stand in the results, if not under its own name
# what a part's lines of the table are computed from, besides its own measurements
NEEDS = {"job": ("step", "build"), "rate": ("step", "build")}


def keys_of(part: str) -> tuple[str, ...]:
    """Where the measurements of a part stand in the results."""
    return MEASURED.get(part, (part,))


def wanted_parts(only: list[str]) -> list[str]:
    """The parts to run, in order: all, or those named and what they need."""
    named = set(only or PARTS)
    named |= {needed for name in named for needed in NEEDS.get(name, ())}
    return [name for name in PARTS if name in named]
