"""A finished run made again from its results file and config: what differs here is named first, what came out is compared."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from analysis.layout import TARGET
from analysis.record_form import Garbled, check_form
from analysis.results import CONFIG, LAYOUT_SPLITS, PREDICTIONS, RESULTS, DamagedRun, read_record
from backbones import build_backbone
from dassl.data.datasets import build_dataset
from dassl.utils import UserError, load_checkpoint
from datasets.config import read_yaml
from datasets.facts import DatasetFacts, facts_of
from datasets.prompts import prompts_for
from runs.config import configured
from runs.identity import config_hash, split_kind, variant_of
from runs.progress import is_complete
from runs.records import git_revision, versions
from runs.run import run
from trainers import methods
from trainers.checkpoints import LEARNER, find_checkpoint, stored_tensors

SCHEMA = 2
# Where things lie and how they are fed: all that may be other than it was
PLACES = (
    "DATASET.ROOT",
    "DATASET.FOLDER",
    "DATASET.CSV",
    "DATASET.PROMPTS",
    "MODEL.BACKBONE.PATH",
    "FEATURES.ROOT",
    "FEATURES.MODE",
    "DATALOADER.NUM_WORKERS",
    "USE_CUDA",
    "LOGGER",
)
TAKEN_AS_THEY_WERE = (
    "output_root",
    "task",
    "shots",
    "seeds",
    "seeds_together",
    "resume",
    "trainer",
    "backbone",
    "head",
    "config_file",
    "dataset_config_file",
    "transforms",
    "source_domains",
    "target_domains",
    "eval_only",
    "model_dir",
    "load_epoch",
    "restart",
    "no_train",
    "list_methods",
    "targets",
)
WORDS = {
    "backbone": "the backbone's weights",
    "data": "the run's images (paths, labels or sizes)",
    "split": "the split (paths, labels or class names)",
    "prompts": "the LLM prompts",
}
SHOWN = 10  # images in a line


def called(args: Namespace) -> int:
    """What ``train.py --from-results`` asks for; returns its exit status, 1 where the run came out otherwise.

    Args:
        args: of train.py.

    Raises:
        UserError: arguments that would make it another run, and what :func:`again` raises.
    """
    if not args.from_results:
        raise UserError("--despite-differences belongs to --from-results")
    for name in TAKEN_AS_THEY_WERE:
        if getattr(args, name, None) or (name == "load_epoch" and args.load_epoch is not None):
            raise UserError(f"--from-results takes all from the results file: leave out --{name.replace('_', '-')}")
    if args.seed >= 0:
        raise UserError("--from-results takes all from the results file: leave out --seed")
    if not args.output_dir:
        raise UserError("--from-results needs --output-dir, the folder of the new run")
    overrides = [word for word in args.opts if word != "--"]
    if args.root:
        overrides += ["DATASET.ROOT", args.root]
    same = again(Path(args.from_results), args.output_dir, overrides=overrides, despite=args.despite_differences)
    return 0 if same else 1


def again(path: Path, output: str | Path, *, overrides: Sequence[str] = (), despite: bool = False) -> bool:
    """Make a finished run again; prints what differs from then, and how it came out.

    Args:
        path: of the run's results.json; its config.yaml lies beside it.
        output: folder of the new run; one that is finished there is compared only.
        overrides: ``KEY VALUE`` pairs of :data:`PLACES`.
        despite: on other data, weights, prompts or another split, too.

    Returns:
        Whether accuracy, predictions and learned tensors are equal to the bit, as far as they are there.

    Raises:
        UserError: files that are no run's, other data without ``despite``, or a place that is the run's own.
    """
    record = _record(path)
    folder = path.parent
    if Path(output).resolve() == folder.resolve():
        raise UserError(f"--output-dir {output} is the folder of the run itself: name another one")
    for key in overrides[::2]:
        if key not in PLACES:
            raise UserError(f"{key} would make it another run: only places can be set ({', '.join(PLACES)})")
    if (folder / CONFIG).is_file() and not read_yaml(folder / CONFIG):
        raise UserError(f"{folder / CONFIG} is empty: it is not the config of a run")
    if record["split"] == TARGET:
        raise UserError(f"{folder} only tested what another run learned: name the {RESULTS} of that run")
    cfg = configured(files=[folder / CONFIG], settings={"OUTPUT_DIR": str(output), "RESUME": ""}, overrides=overrides)
    _require_same_config(cfg, record, folder)
    notes = told(cfg, record)
    if {"DATASET.FOLDER", "DATASET.CSV"} & set(overrides[::2]):
        notes.append("an image's random crops follow from its path below DATASET.ROOT: elsewhere below it they are others")
    for line in notes:
        print(f"note: {line}")
    found = differences(cfg, record, path)
    for line in found.values():
        print(f"differs: {line}")
    if found and not despite:
        raise UserError(f"{', '.join(found)} not as in {path} (said above): --despite-differences runs it all the same")
    if is_complete(output):
        print(f"done already: {output}")
    else:
        run(cfg)
    return compared(folder, Path(output))


def _record(path: Path) -> dict[str, Any]:
    if path.name != RESULTS:
        raise UserError(f"--from-results {path}: name the {RESULTS} of a run")
    try:
        record = read_record(path.parent)
        check_form(record, tuple(LAYOUT_SPLITS.values()))
    except (DamagedRun, Garbled) as error:
        raise UserError(f"{path}: {error}") from error
    if record.get("schema") != SCHEMA:
        raise UserError(f"{path} is of schema {record.get('schema', 1)}, which has no fingerprints of data and weights")
    marks, packages = record.get("fingerprints"), record.get("versions")
    for name, held in (("fingerprints", marks), ("versions", packages)):
        if not isinstance(held, dict) or not all(isinstance(value, str) or value is None for value in held.values()):
            raise UserError(f"{path}: {name} must be texts by name, this is {str(held)[:60]}")
    if record["method"] not in methods():
        raise UserError(f'{path}: "{record["method"]}" is no method of this project')
    return record


def _require_same_config(cfg: CfgNode, record: Mapping[str, Any], folder: Path) -> None:
    """Config and results must be of one run, and one that trains or that learns nothing."""
    own = {
        "method": cfg.TRAINER.NAME,
        "backbone": cfg.MODEL.BACKBONE.NAME,
        "num_shots": cfg.DATASET.NUM_SHOTS,
        "seed": cfg.SEED,
        "variant": variant_of(cfg),
        "split_kind": split_kind(cfg),
        "split": cfg.DATASET.SUBSAMPLE_CLASSES,
    }
    learns = methods()[record["method"]].learns
    if learns and record["split"] == "new":
        raise UserError(f"{folder} only tested what another run learned: name the {RESULTS} of that run")
    for name, value in own.items():
        if record.get(name, value) != value:
            raise UserError(f"{folder / CONFIG} is not of this run: {name} {record[name]} there, {value} in the config")


def told(cfg: CfgNode, record: Mapping[str, Any]) -> list[str]:
    """What may move a number and is no other run: versions, revision, device, the way of training; a line each."""
    here, then = versions(), record["versions"]
    lines = [f"{name} {then[name]} then, {here.get(name, 'absent')} now" for name in then if then[name] != here.get(name)]
    git, revision = record.get("git") or {}, git_revision()
    if git.get("revision") != revision["revision"]:
        lines.append(f"git revision {git.get('revision')} then, {revision['revision']} now")
    lines += [f"the checkout {when} changes of its own" for when, one in (("had", git), ("has", revision)) if one.get("dirty")]
    device = str(_device(cfg))
    if str(record.get("device", device)).split(":")[0] != device:
        lines.append(f"device {record['device']} then, {device} now")
    if record.get("config_hash") != config_hash(cfg):
        lines.append("the hash of the settings is another one: the data lie elsewhere, or the project has other settings")
    train = record.get("train")
    together = train.get("seeds_together") if isinstance(train, dict) else None
    if together:
        lines.append(f"seeds {together} were trained together: alone it is equal up to rounding, or another draw of dropout")
    if cfg.SEED < 0:
        lines.append("it has no fixed seed: its draws are not to be had again")
    return lines


def differences(cfg: CfgNode, record: Mapping[str, Any], path: Path) -> dict[str, str]:
    """What makes it another run, by name, a line each; nothing is written."""
    dataset = build_dataset(cfg)
    facts = facts_of(dataset, cfg)
    bb = cfg.MODEL.BACKBONE
    here = {
        "data": facts.data_hash,
        "split": facts.split_hash,
        "backbone": build_backbone(bb.NAME, bb.PATH, bb.PRETRAINED, _device(cfg)).fingerprint(),
        "prompts": _prompts(cfg, facts),
    }
    then, found = record["fingerprints"], {}
    for name, value in here.items():
        if then.get(name) and then[name] != value:
            found[name] = f"{WORDS[name]}: {then[name][:16]} then, {str(value)[:16]} now"
    if "data" in found:
        found["data"] += _newer(dataset, path)
    return found


def _newer(dataset: Any, path: Path) -> str:
    """Which of the run's images were written after the results file."""
    images = [item.impath for part in (dataset.train_x, dataset.val, dataset.test) for item in part or ()]
    when = path.stat().st_mtime
    newer = [image for image in dict.fromkeys(images) if Path(image).stat().st_mtime > when]
    if not newer:
        return "; none of them is newer than the results file: other images were added, renamed or taken away"
    more = f" and {len(newer) - SHOWN} more" if len(newer) > SHOWN else ""
    return f"; written after the results file: {', '.join(newer[:SHOWN])}{more}"


def _prompts(cfg: CfgNode, facts: DatasetFacts) -> str | None:
    """The hash of the LLM prompts that the run would read; ``None`` where it reads none."""
    cls = methods()[cfg.TRAINER.NAME]
    if not cls.uses_prompts(cfg):
        return None
    words = {"template": facts.template, "modality": facts.modality, "organ": facts.organ}
    return prompts_for(cfg.DATASET.PROMPTS, facts.key, facts.classnames, cfg.TRAINER[cls.section].N_PROMPTS, **words).sha256


def _device(cfg: CfgNode) -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")


# -- what came out ----------------------------------------------------------------------------------------


def compared(before: Path, now: Path) -> bool:
    """Say of accuracy, predictions and learned tensors whether they are equal to the bit; whether all of them are."""
    accuracies = [read_record(folder)["metrics"]["accuracy"] for folder in (before, now)]
    same = accuracies[0] == accuracies[1]
    print(f"accuracy: {accuracies[0]} then, {accuracies[1]} now: {'equal' if same else 'NOT equal'}")
    files = [folder / PREDICTIONS for folder in (before, now)]
    if all(file.is_file() for file in files):
        equal = files[0].read_bytes() == files[1].read_bytes()
        print(f"predictions: {'equal to the bit' if equal else 'NOT equal'}")
        same = same and equal
    else:
        print(f"predictions: not compared, no {PREDICTIONS} beside the results file")
    return _tensors_equal(before, now) and same


def _tensors_equal(before: Path, now: Path) -> bool:
    if not (now / LEARNER).is_dir():
        return True  # it learns nothing
    if not (before / LEARNER).is_dir():
        print(f"learned tensors: not compared, no {LEARNER}/ beside the results file")
        return True
    paths = [find_checkpoint(folder / LEARNER) for folder in (before, now)]
    then, here = (stored_tensors(load_checkpoint(str(path)), path) for path in paths)
    unlike = [name for name in sorted({*then, *here}) if not _equal(then.get(name), here.get(name))]
    told = f"NOT equal: {', '.join(unlike)}" if unlike else f"equal to the bit: {', '.join(sorted(here))}"
    print(f"learned tensors: {told}")
    return not unlike


def _equal(then: torch.Tensor | None, here: torch.Tensor | None) -> bool:
    return then is not None and here is not None and then.dtype == here.dtype and torch.equal(then, here)
