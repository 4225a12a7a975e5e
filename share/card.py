"""The model card: what a shared run is, in the form that the Hugging Face hub reads (YAML in front of Markdown)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.metrics import METRICS
from backbones.biomedclip import HUB as BIOMEDCLIP
from backbones.clip import IDENTIFIER as CLIP
from backbones.pubmedclip import HUB as PUBMEDCLIP
from datasets import by_key
from datasets.base import ARCHIVES
from runs.packed import LOCAL
from share.siblings import Siblings, in_words
from trainers import methods

LIBRARY = "biomed-dpt"
TASK = "image-classification"
# the hub's names of metrics
HUB_METRICS = {"accuracy": "accuracy", "macro_f1": "f1", "macro_auroc": "roc_auc"}
HASHES = {"data": "images", "split": "split", "prompts": "LLM-written prompts"}
ANYWHERE = "ORG/NAME"  # in commands, where it is not known yet where the run will be
USE = "Research on images of the same kind and with the same classes: to compare methods, to repeat the numbers, to teach."
LIMITS = """- **Research use only. It is not a medical device**, and nothing here was tested in a clinic. No diagnosis and no
  treatment may rest on it.
- It was learned from few images. Images of another scanner, stain, hospital or population can be classified anyhow,
  and with high probabilities; an image of none of its classes gets one of them all the same.
- The probabilities are not calibrated: the table has their expected calibration error.
- The numbers are of one test set. If images of one patient are in training and test, they are too good."""


def card(
    record: Mapping[str, Any], siblings: Siblings, licence: str = "", repository: str = "", learned: int | None = None
) -> str:
    """The text of README.md.

    Args:
        record: the results file as it is shared.
        siblings: the runs whose metrics stand in the table.
        licence: the hub's short name of it; "" for none chosen.
        repository: ``ORG/NAME`` on the hub, if it is known.
        learned: how many numbers are in the file of what was learned.
    """
    where = f"hf://{repository or ANYWHERE}"
    what = "A prompt" if _is_prompt(record) else "An adapter or classifier"
    generated = "**Trained on generated images: it knows nothing of medicine.**\n\n" if record.get("rehearsal") else ""
    parts = [
        f"---\n{header(record, siblings, licence)}\n---",
        f"# {one_line(record['method'])} on {one_line(record['dataset'])}",
        f"{generated}{what} for a frozen vision-language model, learned by Biomed-DPT: {_size(learned)}. "
        f"The model itself is not here.",
        "## Use\n```bash\n"
        f"python predict.py {where} images/{_path_hint(record)}\n```\nFrom Python: `load_run({where!r})`. The four files hold "
        "numbers and text; nothing in them is executed.",
        "## Data\n" + _listed(_data(record)),
        "## Results\n" + _results(record, siblings),
        "## Backbone\n" + _listed(_backbone(record)),
        "## Departures from the published setting\n" + _listed(_departures(record)),
        f"## Intended use\n{USE}",
        f"## Limits\n{LIMITS}" + "".join(f"\n- {one_line(one)}." for one in record.get("warnings") or ()),
        "## Licence\n"
        + (f"{one_line(licence)}." if licence else "None was chosen: ask whoever shared it.")
        + " The licence of the "
        "images and that of the backbone hold beside it.",
    ]
    return "\n\n".join(parts) + "\n"


def header(record: Mapping[str, Any], siblings: Siblings, licence: str) -> str:
    """The YAML that the hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    dataset, split = " ".join(str(record["dataset"]).split()), siblings.own.split  # a line of "---" would end the header
    kind = re.sub(r"[^a-z0-9_.-]+", "-", dataset.lower()).strip("-") or "own"
    found = [
        EvalResult(
            task_type=TASK,
            dataset_type=kind,
            dataset_name=dataset + (" (generated images)" if record.get("rehearsal") else ""),
            dataset_split="test",
            dataset_config=split,
            metric_type=hub_name,
            metric_name=METRICS[name].title,
            metric_value=round(float(value), 4),
        )
        for name, hub_name in HUB_METRICS.items()
        if (value := (record.get("metrics") or {}).get(name)) is not None
    ]
    name = base_model(str(record["backbone"]))
    about = ModelCardData(
        license=licence or "other",
        license_name=None if licence else "none-chosen",
        library_name=LIBRARY,
        pipeline_tag=TASK,
        tags=_tags(record),
        datasets=[ARCHIVES] if published(record) else None,
        base_model=name or None,
        base_model_relation="adapter" if name else None,
        metrics=list(HUB_METRICS.values()),
        model_name=f"{record['method']}-{kind}",
        eval_results=found or None,
    )
    return about.to_yaml()


def published(record: Mapping[str, Any]) -> bool:
    """Whether the images are those of a published dataset."""
    return not record.get("rehearsal") and record.get("dataset_class") in {cls.__name__ for cls in by_key().values()}


def base_model(backbone: str) -> str:
    """The repository of a backbone's weights on the hub; "" where there is none of that model alone."""
    name = {"BiomedCLIP": BIOMEDCLIP, "PubMedCLIP": f"hf-hub:{PUBMEDCLIP}", "CLIP": f"open_clip:{CLIP}"}.get(backbone, backbone)
    if name.startswith("hf-hub:"):
        return name.removeprefix("hf-hub:")
    if name.startswith("open_clip:"):
        import open_clip

        model, _, tag = name.removeprefix("open_clip:").partition("/")
        return ((open_clip.pretrained.get_pretrained_cfg(model, tag) or {}).get("hf_hub") or "").rstrip("/")
    return ""


def one_line(text: object) -> str:
    """A text as it may stand in a line or a cell of Markdown, whatever is in it."""
    plain = " ".join(str(text).split()).replace("\\", "\\\\")
    return re.sub(r"([|<>`*\[\]])", r"\\\1", plain)


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _size(learned: int | None) -> str:
    return "what it learned is in `prompt.safetensors`" if learned is None else f"{learned:,} numbers in `prompt.safetensors`"


def _path_hint(record: Mapping[str, Any]) -> str:
    return " --backbone-path FOLDER" if str(record["backbone"]).startswith(LOCAL) else ""


def _is_prompt(record: Mapping[str, Any]) -> bool:
    """Whether the method learns a prompt; those that do not (adapters, probes, caches) never fit other classes."""
    cls = methods().get(str(record["method"]))
    return cls is None or cls.transfers


def _tags(record: Mapping[str, Any]) -> list[str]:
    tags = ["biomedical", "medical-imaging", "vision-language", "few-shot"]
    tags += ["prompt-tuning"] if _is_prompt(record) else []
    tags.append(str(record["method"]).lower())
    tags += [str(record["modality"]).lower()] if record.get("modality") else []
    return tags + (["synthetic-data"] if record.get("rehearsal") else [])


def _data(record: Mapping[str, Any]) -> list[str]:
    shots, names = record["num_shots"], [one_line(name) for name in record.get("classnames", ())]
    kind = "generated images" if record.get("rehearsal") else "published dataset" if published(record) else "own images"
    prints = record.get("fingerprints") or {}
    said = [f"dataset: {one_line(record['dataset'])} ({kind}; {one_line(record.get('modality') or 'modality not told')})"]
    said += [f"trained on {'all training images' if shots < 1 else f'{shots} images per class'}, seed {record['seed']}"]
    said += [f"classes ({len(names)}{', half of the dataset' if record['split'] == 'base' else ''}): {', '.join(names)}"]
    said += [f"tested on {record.get('num_test', '?')} images; split `{one_line(record.get('split_kind') or 'own')}`"]
    return said + [f"hash of the {what}: `{prints[key]}`" for key, what in HASHES.items() if prints.get(key)]


def _results(record: Mapping[str, Any], siblings: Siblings) -> str:
    """A table of all metrics, over the seeds that were at hand."""
    tested = siblings.figures("accuracy")
    rows = []
    for name, metric in METRICS.items():
        cells = siblings.figures(name)
        unit = f" ({metric.unit})" if metric.unit else ""
        rows.append([metric.title + unit, *(in_words(cells[what], metric.digits) if what in cells else "–" for what in tested)])
    head = ["metric", *tested]
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    seeds = [str(run.seed) for run in siblings.seeds]
    if len(seeds) > 1:
        how = f"Mean over the seeds {', '.join(seeds)} ± half the 95 % t-interval. "
        own = f"What is here is of seed {siblings.own.seed}, with an accuracy of {siblings.own.metrics['accuracy']:.1f} %."
        return f"{how}{own}\n\n{table}"
    low, high = wilson(siblings.own.metrics["accuracy"], record.get("num_test"))
    range_ = "" if low is None else f" Accuracy: 95 % interval for other test images {low:.1f} to {high:.1f} % (Wilson)."
    return f"One run, seed {seeds[0]}: how much other training images would change it is not known.{range_}\n\n{table}"


def wilson(accuracy: float | None, images: Any) -> tuple[float, float] | tuple[None, None]:
    """Wilson's 95 % interval of an accuracy in %, over test images; ``None`` where their number is not known."""
    from scipy.stats import binomtest

    if accuracy is None or type(images) is not int or images < 1:
        return None, None
    found = binomtest(round(accuracy * images / 100), images).proportion_ci(method="wilson")
    return 100 * found.low, 100 * found.high


def _backbone(record: Mapping[str, Any]) -> list[str]:
    name, prints = str(record["backbone"]), record.get("fingerprints") or {}
    said = [f"name: `{one_line(name)}`" + (f", weights of {base_model(name)}" if base_model(name) else "")]
    said += [f"fingerprint of the weights: `{prints['backbone']}`"] if prints.get("backbone") else []
    if name.startswith(LOCAL):
        said.append("its weights are in a folder of whoever trained this: name yours with `--backbone-path FOLDER`")
    if name == "PhantomCLIP":
        said.append("PhantomCLIP comes with Biomed-DPT and was trained on generated images alone")
    return said + ["with other weights the numbers do not hold, and a warning says so"]


def _departures(record: Mapping[str, Any]) -> list[str]:
    said = [one_line(one) for one in record.get("departures") or ()]
    changed = record.get("changed")
    if changed is None:
        said.append("settings were not compared with the project's config files")
    for key, pair in (changed or {}).items():
        said.append(f"`{key}` {one_line(pair['run'])} (config file: {one_line(pair['config_file'])})")
    return said or ["none"]
