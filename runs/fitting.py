"""Which methods can be run here: by a protocol, on a dataset, with these settings; and why the others cannot."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import build_dataset
from dassl.utils import UserError
from datasets.base import BiomedDataset
from datasets.facts import facts_of
from datasets.prompts import prompts_for
from runs.protocols import check_fits, fitting_methods
from runs.settings import config_file
from runs.tasks import TASKS
from trainers import methods

Configure = Callable[[str, str], CfgNode]  # method, its config file -> frozen config


def reasons(task: str, dataset_key: str, configure: Configure) -> dict[str, str]:
    """Every method in the order of the tables, with why it cannot be run; "" where it can.

    Looked at are the protocol, the config with its overrides, and the LLM prompts of a method that reads them.

    Args:
        dataset_key: the stem of the dataset's config file.

    Raises:
        UserError: what no method could be run with: the dataset is not there, say.
    """
    found: dict[str, str] = {}
    dataset = None
    for name, cls in methods().items():
        try:
            check_fits(name, task)
            cfg = configure(name, str(config_file(name, TASKS[task][0].split, dataset_key) or ""))
        except UserError as error:
            found[name] = str(error)
            continue
        dataset = dataset or build_dataset(cfg)
        found[name] = missing_prompts(cfg, dataset) if cls.uses_prompts(cfg) else ""
    if all(found.values()):
        raise UserError(next(iter(found.values())))
    return found


def missing_prompts(cfg: CfgNode, dataset: object) -> str:
    """Why the LLM prompts that a run with this config reads are not to be had for a built dataset; "" where they are."""
    facts = facts_of(dataset, cfg)
    names = dataset.all_classnames if isinstance(dataset, BiomedDataset) else facts.classnames
    count = cfg.TRAINER[methods()[cfg.TRAINER.NAME].section].N_PROMPTS
    words = {"template": facts.template, "modality": facts.modality, "organ": facts.organ}
    try:
        prompts_for(cfg.DATASET.PROMPTS, facts.key, names, count, **words)
    except UserError as error:
        return str(error)
    return ""


def show(args: Namespace, setup_cfg: Callable[[Namespace], CfgNode]) -> None:
    """Print the methods that fit ``args.list_methods``; with a dataset's file also, on standard error, why others cannot run.

    Args:
        args: of train.py.
        setup_cfg: makes a config of such arguments.
    """
    task, dataset = args.list_methods, args.dataset_config_file
    if not dataset or task not in TASKS:
        print(*fitting_methods(task))
        return

    def configure(name: str, config: str) -> CfgNode:
        return setup_cfg(Namespace(**vars(args) | {"trainer": name, "config_file": config}))

    found = reasons(task, Path(dataset).stem, configure)
    print(*(name for name, why in found.items() if not why))
    for name, why in found.items():
        if why:
            print(f"{name}: {why}", file=sys.stderr)
