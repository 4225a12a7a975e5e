"""From the results of a run to Markdown. Nothing is measured here, and no number is written down here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tabulate import tabulate

from benchmarks.jobs import typical
from benchmarks.rows import mib, seconds, times

Results = dict[str, Any]
NONE = "No GPU was at hand: CUDA, bf16, TF32 and CUDA graphs have not been run."
VARIANTS = {"reference": "reference", "eager": "ours", "bf16": "ours, bf16", "graphs": "ours, CUDA graphs"}


def result(results: Results, name: str) -> Results | None:
    """What a step measured; ``None`` where it was not done."""
    step = results["steps"].get(name, {})
    return step["result"] if step.get("state") == "done" else None


def failed_tests(results: Results) -> dict[str, str]:
    """Failed tests and the first line of why."""
    found = result(results, "tests") or {"outcomes": {}, "reasons": {}}
    bad = [name for name, outcome in found["outcomes"].items() if outcome in ("FAILED", "ERROR")]
    return {name: found["reasons"].get(name, "see log.txt") for name in bad}


def wrong(results: Results) -> bool:
    """Whether a step or a test failed."""
    return any(step["state"] == "failed" for step in results["steps"].values()) or bool(failed_tests(results))


def markdown(rows: list[tuple[str, ...]], heads: tuple[str, ...]) -> str:
    return tabulate(rows, heads, tablefmt="pipe", disable_numparse=True)


# -- parts ------------------------------------------------------------------------------------------------


def head(results: Results) -> str:
    """Which card, and what else."""
    machine, setting = results["machine"], results["setting"]
    model = "PhantomCLIP" if setting["backbone"] == "PhantomCLIP" else "BiomedCLIP's shape with random weights"
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("torch", "transformers", "timm"))
    minutes = sum(step["took_s"] for step in results["steps"].values()) / 60
    return (
        f"{machine['gpu']}; {machine['processor']}, {machine['cores']} cores; {versions}; {model}; medians of up to "
        f"{setting['repeats']}; {minutes:.1f} min."
    )


def tests(results: Results) -> Iterator[str]:
    """How many tests passed, and which did not."""
    found = result(results, "tests")
    if not found:
        return
    outcomes = list(found["outcomes"].values())
    counts = ", ".join(
        f"{outcomes.count(one)} {one.lower()}" for one in ("PASSED", "FAILED", "ERROR", "SKIPPED") if one in outcomes
    )
    yield f"Tests (`tests/test_gpu.py`): {counts}{'; the time ended before the rest' if found['cut'] else ''}."
    if failed_tests(results):
        yield "\n".join(f"- `{name}`: {why}" for name, why in failed_tests(results).items())


def rates(results: Results) -> Iterator[str]:
    """Image encoding."""
    found = result(results, "rates")
    if not found:
        return
    rows = []
    for precision, one in found["precisions"].items():
        each, best = typical(one["encode_s"]) / one["images"], max(one["rates"].values())
        reached = one["flops_per_image"] / each
        share = f"{100 * reached / best:.0f} %"
        rows.append((precision, f"{1 / each:.4g}", f"{reached / 1e12:.4g}", f"{best / 1e12:.4g}", share))
    heads = ("image encoding", "images/s", "TFLOP/s", "best matrix product here, TFLOP/s", "share")
    yield markdown(rows, heads)


def steps(results: Results) -> Iterator[str]:
    """Training steps by variant."""
    found = {name: result(results, f"steps-{name}") for name in VARIANTS}
    found = {name: one["steps"] for name, one in found.items() if one}
    if "eager" not in found:
        return
    rows = []
    for index, ours in enumerate(found["eager"]):
        columns = {name: typical(one[index]["step_s"]) for name, one in found.items()}
        cells = tuple(_rate(columns.get(name)) for name in VARIANTS)
        against = (
            times(columns["reference"], *(columns[name] for name in columns if name != "reference"))
            if "reference" in columns
            else ""
        )
        what = f"{ours['method']}, {ours['classes']} classes, batch {ours['batch']}, {ours['tokens']} tokens"
        rows.append((what, *cells, against))
    yield markdown(rows, ("training steps per second", *VARIANTS.values(), "times"))
    if "graphs" in found:
        first = ", ".join(seconds(one["first_s"]) for one in found["graphs"])
        yield f"With CUDA graphs the first step, which generates the code, took {first}."


def _rate(step_s: float | None) -> str:
    return "" if step_s is None else f"{1 / step_s:.3g} ({seconds(step_s)})"


def seeds(results: Results) -> Iterator[str]:
    """Seeds as one batch."""
    found = result(results, "seeds")
    if not found:
        return
    rows = []
    for method, counts in found["methods"].items():
        for count, one in counts.items():
            alone, together = typical(one["one_s"]), typical(one["all_s"])
            what = f"{method}, {one['classes']} classes, {count} seeds"
            rows.append(
                (what, seconds(alone), seconds(together), f"{together / alone:.3g}x", f"{int(count) * alone / together:.3g}x")
            )
    yield markdown(rows, ("seeds as one batch", "step of one seed", "step of all", "of one seed's", "faster than one by one"))


def whole(results: Results) -> Iterator[str]:
    """Whole commands, tests and memory."""
    rows = []
    names = ("reference", "first", "stored")
    jobs = [result(results, f"base2new-{name}") for name in names]
    if jobs[1]:
        what = f"base2new of one seed, whole command: {jobs[1]['epochs']} epochs, {jobs[1]['test_images']} test images"
        rows.append((what, *(seconds(one["seconds"]) if one else "" for one in jobs), _times(jobs)))
    found = result(results, "evaluation")
    if found:
        ours = found["ours"]
        a, b, c = typical(found["reference"]["first_s"]), typical(ours["first_s"]), typical(ours["second_s"])
        rows.append(
            (
                "testing 100 images: first method; second method on this tower",
                seconds(a),
                seconds(b),
                seconds(c),
                times(a, b, c),
            )
        )
    for name, said in (("compare", ""), ("compare-together", ", seeds as one batch where a method can")):
        one = result(results, name)
        if one:
            end = f" (ended there: {one['runs']} of {one['wanted_runs']} runs)" if one["cut"] else ""
            runs = f"{len(one['methods'])} methods x {one['seeds']} seeds"
            what = f"compare.sh, {runs}, few-shot btmri, 16 shots, whole command{said}"
            rows.append((what, "", seconds(one["seconds"]) + end, "", ""))
    found = result(results, "memory")
    if found:
        a, b = found["reference"]["gpu_bytes"], found["ours"]["gpu_bytes"]
        if a and b:
            rows.append(("peak memory of the device: build, 2 epochs, a batch of test images", mib(a), mib(b), "", times(a, b)))
    if rows:
        yield markdown(rows, ("what", "reference", "ours, nothing stored", "ours, all stored", "times"))


def _times(jobs: list[Results | None]) -> str:
    reference, *ours = jobs
    return times(reference["seconds"], *(one["seconds"] for one in ours if one)) if reference else ""


def where(results: Results) -> Iterator[str]:
    """Profiles, and how fast images are read."""
    found = result(results, "profile")
    if not found:
        return
    for key, name in (("step", "a training step of BiomedDPT, 2 classes"), ("encode", "encoding a batch of images, fp32")):
        one = found[key]
        busy = f"; the GPU works {seconds(one['kernels_s'])} of it, in {one['kernels']} kernels" if one.get("kernels") else ""
        rows = [
            (
                f"`{line['name'][:70]}`",
                str(line["calls"]),
                f"{line['device_us'] / 1e3:.3g} ms",
                f"{line['cpu_us'] / 1e3:.3g} ms",
            )
            for line in one["top"]
            if line["cpu_us"]  # a kernel counts with the operation that launched it
        ]
        images = f" ({one['images']} images)" if "images" in one else ""
        yield f"Where the time goes in {name}{images}: {seconds(one['seconds'])}{busy}."
        yield markdown(rows, ("line", "calls", "on the device", "on the CPU"))
    reading = "; ".join(f"{rate:.4g} images/s by {_readers(count)}" for count, rate in found["read"].items())
    yield f"Reading, decoding and cropping training images: {reading}."


def _readers(count: str) -> str:
    return "the training process" if count == "0" else f"{count} processes"


def reason(why: str) -> str:
    """The line that tells most: that the time was over, else the last that names an error, else the last."""
    lines = why.splitlines() or [""]
    if lines[0].endswith(" s:") and "the end of its" in lines[0]:
        return f"it did not end in its {lines[0].split()[-2]} s"
    return next((line for line in reversed(lines) if "Error: " in line or line.startswith("error: ")), lines[-1])


def absent(results: Results) -> Iterator[str]:
    """Steps without a result, and why."""
    lines = [
        f"- {name}: {step['state']}: {reason(step['why'])}"
        for name, step in results["steps"].items()
        if step["state"] != "done"
    ]
    if lines:
        yield "Not measured:\n\n" + "\n".join(lines)


SECTIONS: tuple[Callable[[Results], Iterator[str]], ...] = (tests, rates, steps, seeds, whole, where, absent)


def tables(results: Results) -> str:
    """Markdown; of a run on a CPU a warning comes first."""
    cpu = results["device"] == "cpu"
    said = [NONE, "**A run on a CPU, to see that everything works: its numbers mean nothing.**"] if cpu else [head(results)]
    return "\n\n".join([*said, *(text for section in SECTIONS for text in section(results))])
