"""Which settings of a run differ from the project's config files for its method, task and dataset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from runs.config import default_config, merge_file

CONFIGS = Path(__file__).parents[1] / "configs"
# What says which run it is or where things lie, rather than how it is done
NOT_SETTINGS = ("DATASET.", "SEED", "TRAINER.NAME", "MODEL.BACKBONE.NAME", "MODEL.BACKBONE.PATH", "USE_CUDA")
SETTINGS_OF_DATASETS = ("DATASET.PROMPTS", "DATASET.TEMPLATE")


def config_file(method: str, split: str, dataset_key: str) -> Path | None:
    """The method's config file that the scripts use: of the task and dataset, of the task, or of few-shot."""
    folder = CONFIGS / "trainers" / method
    task = "few_shot" if split == "all" else "base_to_novel"
    places = (folder / task / f"{dataset_key}.yaml", folder / f"{task}.yaml", folder / "few_shot.yaml")
    return next((path for path in places if path.is_file()), None)


def as_configured(cfg: CfgNode, dataset_key: str) -> CfgNode | None:
    """``cfg``'s method as the project's config files set it; ``None`` for a method that has none here."""
    path = config_file(cfg.TRAINER.NAME, cfg.DATASET.SUBSAMPLE_CLASSES, dataset_key)
    if path is None:
        return None
    plain = default_config()
    plain.TRAINER.NAME = cfg.TRAINER.NAME
    of_dataset = CONFIGS / "datasets" / f"{dataset_key}.yaml"
    for file in (of_dataset, path):
        if file.is_file():
            merge_file(plain, str(file))
    return plain


def changed(run: Mapping[str, Any], files: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """``{key: {"config_file": value, "run": value}}`` for every setting with two values.

    Args:
        run, files: flat settings (:func:`runs.records.identity`) of the run, and as the config files set them.
    """
    kept = [key for key in run if key in SETTINGS_OF_DATASETS or not key.startswith(NOT_SETTINGS)]
    return {key: {"config_file": files.get(key), "run": run[key]} for key in sorted(kept) if files.get(key) != run[key]}
