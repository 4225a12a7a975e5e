"""From raw measurements to the lines of the table. Nothing is measured here, and no number is written down here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import jobs
from benchmarks.jobs import typical

Results = dict[str, Any]
Row = tuple[str, str, str, str, str]  # what, reference, ours, ours with everything stored, times

COLUMNS = ("what", "reference", "ours, nothing stored", "ours, all stored", "times")


def seconds(value: float) -> str:
    """Three significant digits with a unit that suits."""
    for factor, unit in ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms")):
        if value >= (2 if factor > 1 else 1) * factor or factor < 1:
            return f"{value / factor:.3g} {unit}"
    raise ValueError(value)


def mib(value: float) -> str:
    """Bytes as MiB, or KiB where small."""
    return f"{value / 2**20:.0f} MiB" if value >= 2**20 else f"{value / 2**10:.0f} KiB"


def times(reference: float, *ours: float) -> str:
    """How many times less each of ours is."""
    return ", ".join(f"{reference / one:.3g}x" for one in ours)


def step_rows(results: Results) -> Iterator[Row]:
    """Steps on batches in memory, and whole epochs."""
    for key, name in (("dpt", "BiomedDPT"), ("coop", "CoOp")):
        reference, ours = results[key]["reference"], results[key]["ours"]
        what = f"{name}, {ours['classes']} classes, batch {ours['batch']}"
        tokens = f"{reference['prompt_tokens']} and {ours['prompt_tokens']} tokens"
        a, b = typical(reference["step_s"]), typical(ours["step_s"])
        yield f"training step, {what} ({tokens})", seconds(a), "", seconds(b), times(a, b)
        a, b, c = (
            typical(costs[epoch]) / costs["steps_per_epoch"]
            for costs, epoch in ((reference, "epoch_s"), (ours, "epoch_s"), (ours, "stored_epoch_s"))
        )
        yield (
            f"epoch per step, with reading and encoding, {what}",
            seconds(a),
            seconds(b),
            seconds(c),
            times(a, b, c),
        )


def build_rows(results: Results) -> Iterator[Row]:
    """Building, and the imports before it."""
    a, b, c = (typical(results["build"][name]["build_s"]) for name in ("reference", "cold", "stored"))
    yield "building BiomedDPT (imports done)", seconds(a), seconds(b), seconds(c), times(a, b, c)
    imports = [one for name in ("reference", "cold", "stored") for one in results["build"][name]["import_s"]]
    if imports:
        yield "importing everything, once per process", seconds(typical(imports)), "the same", "the same", ""


def test_rows(results: Results) -> Iterator[Row]:
    """Tests: per 100 images."""
    a, ours = typical(results["test"]["reference"]["first_s"]), results["test"]["ours"]
    b, c = typical(ours["first_s"]), typical(ours["second_s"])
    yield "testing 100 images: first method; second method on this tower", seconds(a), seconds(b), seconds(c), times(a, b, c)


def job_rows(results: Results) -> Iterator[Row]:
    """base2new: added up at published sizes; a short one added up, and for real."""
    costs, builds, short = results["dpt"], results["build"], results["job"]
    published = jobs.published(costs["ours"], 2)
    small = jobs.Sizes(short["first"]["epochs"], tuple(short["first"]["test_images"]))
    totals = {}
    for sizes in (published, small):
        parts = (
            jobs.base2new_seconds(costs["reference"], sizes, build_s=typical(builds["reference"]["build_s"])),
            jobs.base2new_seconds(costs["ours"], sizes, build_s=typical(builds["cold"]["build_s"])),
            jobs.base2new_seconds(costs["ours"], sizes, build_s=typical(builds["stored"]["build_s"]), stored=True),
        )
        totals[sizes] = [sum(one.values()) for one in parts]
    a, b, c = totals[published]
    steps = published.epochs * costs["ours"]["steps_per_epoch"]
    what = f"{published.epochs} epochs, {steps} steps, {sum(published.test_images)} test images"
    yield f"base2new of one seed, added up from its pieces: {what}", seconds(a), seconds(b), seconds(c), times(a, b, c)
    what = f"{small.epochs} epochs, {sum(small.test_images)} test images"
    a, b, c = totals[small]
    yield f"a short base2new, added up from its pieces: {what}", seconds(a), seconds(b), seconds(c), times(a, b, c)
    a, b, c = (short[name]["seconds"] for name in ("reference", "first", "stored"))
    yield "the same short base2new, run for real", seconds(a), seconds(b), seconds(c), times(a, b, c)


def compare_rows(results: Results) -> Iterator[Row]:
    """Eight methods, three seeds."""
    found, views, count = results["compare"], results["setting"]["views"], len(results["compare"]["ours"])
    a, b = (jobs.compare_seconds(found[mode], 3) for mode in ("reference", "ours"))
    what = f"{count} methods x 3 seeds, few-shot btmri, 16 shots, added up from its pieces"
    yield what, seconds(a), seconds(b), "", times(a, b)
    c = jobs.compare_seconds(found["ours"], 3, bank=views)
    yield f"the same with FEATURES.VIEWS {views}", seconds(a), seconds(c), "", times(a, c)


def bank_rows(results: Results) -> Iterator[Row]:
    """Accuracies with a bank of views (PhantomCLIP)."""
    from statistics import mean, stdev

    found = results["bank"]
    for method, by_views in found["accuracy"].items():
        exact, bank = (f"{mean(one):.2f} ± {stdev(one):.2f} %" for one in by_views.values())
        yield f"accuracy of {method}, {found['seeds']} seeds, PhantomCLIP: exact; VIEWS {found['views']}", "", exact, bank, ""


def seeds_rows(results: Results) -> Iterator[Row]:
    """A batch of seeds: its time as a multiple of one seed's."""
    for method, found in results["seeds"].items():
        setting = f"{method}, {found['classes']} classes, {found['prompt_tokens']} tokens"
        shares = (
            ("", "step"),
            ("text_", "text tower there and back"),
            ("products_", "products with its layers' weights alone"),
        )
        for key, name in shares:
            one, together = typical(found[f"one_{key}s"]), typical(found[f"all_{key}s"])
            what = f"{name}, {found['seeds']} seeds as one batch against one seed, {setting}"
            yield what, f"{seconds(one)} (one seed)", "", f"{seconds(together)} (all)", f"{together / one:.3g}x one seed's"


def rate_rows(results: Results) -> Iterator[Row]:
    """What the image tower reaches, and the floor of the whole job."""
    yield from _rate(results["rate"])
    from benchmarks.compute import floor_seconds

    costs = results["dpt"]["ours"]
    floor = floor_seconds(results["rate"], costs)
    parts = jobs.base2new_seconds(costs, jobs.published(costs, 2), build_s=typical(results["build"]["cold"]["build_s"]))
    total = sum(parts.values())
    what = "base2new of one seed: least time of its tower passes at that rate; share reached"
    yield what, seconds(floor), seconds(total), "", f"{100 * floor / total:.0f} %"


def _rate(found: Results) -> Iterator[Row]:
    per_image, each = found["flops_per_image"], typical(found["encode_s"]) / found["images"]
    name = f"image encoding, {found['precision']}, batch {found['images']} ({per_image / 2e9:.2f} GMAC per image)"
    yield name, "", f"{1 / each:.3g} images/s, {per_image / each / 1e9:.4g} GFLOP/s", "", ""
    for library, best in found["rates"].items():
        share = f"{100 * per_image / each / best:.0f} % of it"
        yield f"best {found['precision']} matrix product of this machine, {library}", f"{best / 1e9:.4g} GFLOP/s", "", "", share


def memory_rows(results: Results) -> Iterator[Row]:
    """Peak memory, and what a checkpoint takes."""
    reference, ours = results["memory"]["reference"], results["memory"]["ours"]
    if "process" in ours:
        yield from _peaks(reference, ours)
    else:
        yield "peak memory", "not in a quick run: it is measured in processes", "", "", ""
    a, b = reference["checkpoint_bytes"], ours["checkpoint_bytes"]
    yield "checkpoint of BiomedDPT", mib(a), mib(b), "", times(a, b)


def _peaks(reference: Results, ours: Results) -> Iterator[Row]:
    a, b = (one["process"]["peak_bytes"] for one in (reference, ours))
    yield "peak memory: build, 2 epochs, 100 test images", mib(a), mib(b), "", f"{a / b:.3g}x less"
    a, b = (one["process"]["peak_bytes"] - one["process"]["import_bytes"] for one in (reference, ours))
    least = ours["model_bytes"] + ours["batch_bytes"]
    shares = "{:.2f} and {:.2f} of model + batch"
    what = f"the same beyond the imports ({mib(ours['process']['import_bytes'])}); model + test batch are {mib(least)}"
    yield what, mib(a), mib(b), "", shares.format(a / least, b / least)
    a, b = reference["own_bytes"], ours["own_bytes"]
    if a and b:
        what = "of the whole, imports included: what no file backs (libraries' code and mapped weights can be dropped)"
        yield what, mib(a), mib(b), "", shares.format(a / least, b / least)


def equal_rows(results: Results) -> Iterator[Row]:
    """Largest differences."""
    found = results["equal"]
    worst = max(found[key] for key in ("text_features", "image_features", "view_features"))
    yield "largest difference of a feature (unit length), both paths", "", f"{worst:.1e}", "", ""
    what = f"largest difference of ctx after {found['steps']} steps, dropout off (ctx moved by {found['ctx_moved']:.1e})"
    yield what, "", f"{found['ctx']:.1e}", "", ""
    yield "test images with another predicted class", "", f"{found['different_predictions']} of {found['images']}", "", ""


def dropout_rows(results: Results) -> Iterator[Row]:
    """Padded and trimmed texts with dropout."""
    from benchmarks.equality import spread

    found = results["dropout"]
    for key, name, digits in (("loss", "training loss of the last epoch", 4), ("accuracy", "base accuracy in %", 2)):
        p = found["p"][key]
        what = f"{name}, dropout on, {found['seeds']} seeds, PhantomCLIP, padded and trimmed texts"
        said = "all equal" if p is None else f"p = {p:.2f}"
        yield what, spread(found["padded"][key], digits), spread(found["trimmed"][key], digits), "", said


def bf16_rows(results: Results) -> Iterator[Row]:
    """bfloat16 on a GPU."""
    if not results.get("bf16"):
        yield "bf16 on a GPU", "no GPU here", "", "", ""
        return
    yield from _rate(results["bf16"]["rate"])
    each = typical(results["bf16"]["dpt"]["step_s"])
    yield "training step, BiomedDPT, 2 classes, bf16", "", "", seconds(each), ""


ROWS: dict[str, Callable[[Results], Iterator[Row]]] = {
    "step": step_rows,
    "build": build_rows,
    "test": test_rows,
    "job": job_rows,
    "compare": compare_rows,
    "bank": bank_rows,
    "seeds": seeds_rows,
    "rate": rate_rows,
    "memory": memory_rows,
    "equal": equal_rows,
    "dropout": dropout_rows,
    "bf16": bf16_rows,
}
